"""TLS contexts for a batch of installs, or the reason why OpenSSL will not serve one of them; nothing is kept here."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install, ServerUnavailableError
from instance_agent.targets.embedded.contexts import server_context

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from instance_agent.targets.base import BindingChange
    from shared.bundle import CertificateBundle


def refuse_strangers_keys(changes: Iterable[BindingChange]) -> None:
    """See that every key belongs to its certificate; OpenSSL would not look where the certificate is served already.

    Raises:
        ApplyError: One does not.
    """
    for change in changes:
        if isinstance(change, Install) and change.bundle.leaf.public_key() != change.bundle.key.public_key():
            raise ApplyError(
                f"the certificate for {change.host}:{change.port} cannot be served: its private key does not belong "
                f"to it",
                culprit=change.key,
            )


def contexts_for(
    installs: Sequence[Install], known: Collection[CertificateBundle]
) -> dict[CertificateBundle, ssl.SSLContext]:
    """The contexts for bundles that have none yet: the proof that OpenSSL will serve each. Runs in a thread.

    Raises:
        ApplyError: One cannot be served.
    """
    built: dict[CertificateBundle, ssl.SSLContext] = {}
    for install in installs:
        if install.bundle in known or install.bundle in built:
            continue
        try:
            built[install.bundle] = server_context(install.bundle)
        except ssl.SSLError as error:
            raise ApplyError(
                f"the certificate for {install.host}:{install.port} cannot be served: {spoken(error)}",
                culprit=install.key,
            ) from error
        except OSError as error:
            raise ServerUnavailableError(
                f"the TLS context for {install.host}:{install.port} cannot be built now: {error.strerror}"
            ) from error
    return built


def spoken(error: ssl.SSLError) -> str:
    """OpenSSL's reason in its own words, without file and line."""
    return (error.reason or "unknown reason").replace("_", " ").lower()
