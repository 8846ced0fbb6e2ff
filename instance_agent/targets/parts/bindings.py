"""What every target asks of a batch of changes and of its bindings; no server is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from instance_agent.targets.base import BindingChange, InstalledBinding


def installs_of(changes: Iterable[BindingChange], refusal: Callable[[Install], str | None]) -> list[Install]:
    """The installs of a batch, each of which the server can take.

    Args:
        changes: The batch.
        refusal: As `BindingTarget.refusal`.

    Raises:
        ApplyError: The server can never take one of them.
    """
    installs = [change for change in changes if isinstance(change, Install)]
    for install in installs:
        if (reason := refusal(install)) is not None:
            raise ApplyError(reason, culprit=install.key)
    return installs


def answering(bindings: Iterable[InstalledBinding], seen_fingerprint_sha256: str) -> str | None:
    """Which binding of ours has the certificate that was seen, for `BindingTarget.explain_mismatch`."""
    for binding in bindings:
        if binding.fingerprint_sha256 == seen_fingerprint_sha256:
            return f"the certificate bound for {binding.host}:{binding.port} answered"
    return None
