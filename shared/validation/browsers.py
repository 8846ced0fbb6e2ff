"""What browsers ask of a path to one of the web's authorities, beyond what OpenSSL asks of any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from shared.bundle import MAX_INTERMEDIATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bundle.link import Link

NOT_VALID = "not valid at validation time"
"""The verifier's words where a date is at fault."""

_UNDERSTOOD = (x509.CertificatePolicies, x509.PolicyConstraints, x509.InhibitAnyPolicy)
"""Critical ones that browsers let pass (BoringSSL's verify_certificate_chain.cc, IsHandledCriticalExtension)."""


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("keyUsage lacks keyCertSign")


def _may_sign_as_authority(_policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    """Leave an authority's certificate to `leaf`, which says what it is."""
    if usage is None or not usage.key_cert_sign:
        return
    kinds = [one.value for one in certificate.extensions if isinstance(one.value, x509.BasicConstraints)]
    if not any(kind.ca for kind in kinds):
        raise ValueError("keyUsage has keyCertSign, which is for authorities alone")


def _authorities() -> ExtensionPolicy:
    """The library's, but keyUsage may be missing: browsers take that for any use."""
    policy = ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
    return _with_policies(policy)


def _leaves() -> ExtensionPolicy:
    """The library's, but for what `leaf` judges with words of its own, and for what is critical or not."""
    policy = (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_as_authority)
        .may_be_present(x509.SubjectKeyIdentifier, Criticality.AGNOSTIC, None)
    )
    return _with_policies(policy)


def _with_policies(policy: ExtensionPolicy) -> ExtensionPolicy:
    for kind in _UNDERSTOOD:
        policy = policy.may_be_present(kind, Criticality.AGNOSTIC, None)
    return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsers:
    """A visitor's browser.

    Attributes:
        name: A host that the leaf covers, without a wildcard.
        moment: When the certificates must be valid.
    """

    name: str
    moment: datetime

    def objection(self, path: Sequence[Link]) -> str | None:
        """Why browsers refuse a path whose last certificate is trusted, in the verifier's words; else None.

        Args:
            path: From the leaf on, each followed by its issuer; the library can parse all of them.
        """
        leaf, *above, root = [link.view for link in path]
        policy = PolicyBuilder().store(Store([root])).time(self.moment).max_chain_depth(MAX_INTERMEDIATES)
        policy = policy.extension_policies(ca_policy=_authorities(), ee_policy=_leaves())
        try:
            policy.build_server_verifier(x509.DNSName(self.name)).verify(leaf, above)
        except VerificationError as problem:
            return str(problem)
        return None
