"""What browsers ask of a path to one of the web's authorities, beyond what OpenSSL asks of any."""

from __future__ import annotations

import re
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
from shared.phrasing import shown
from shared.validation.faults import Fault, called, what

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bundle.link import Link

_ABOVE = "candidates exhausted: "
_EXTENSION = re.compile(r"invalid extension: ([0-9.]+): ")
NOT_VALID = "not valid at validation time"
"""The verifier's words where a date is at fault."""

_NOT_APPLIED = "directoryName"
"""What the verifier says of constraints on subjects, which browsers apply and it does not: OpenSSL's word stands."""

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
    """The library's, but for what `leaf` judges in words of its own, what is critical or not, and key identifiers."""
    policy = (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_as_authority)
        .may_be_present(x509.SubjectKeyIdentifier, Criticality.AGNOSTIC, None)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
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
            return None if _NOT_APPLIED in str(problem) else str(problem)
        return None


# The verifier's words, ours, and how far below the top of the path the certificate is that they are about.
_WEB = {
    "not valid at validation time": ("is not valid at that time", 0),
    "Forbidden signature algorithm": ("is signed by an algorithm that browsers refuse", 1),
    "Forbidden public key algorithm": ("has a kind of key that browsers refuse", 0),
    "RSA key is too weak": ("has an RSA key of less than 2048 bits, which browsers refuse", 0),
    "max depth": ("is more authorities away than any browser follows", 0),
    "path length constraint": ("issued another although it may not", 0),
    "name constraint": ("has name constraints that do not permit these names to browsers", 0),
    "basicConstraints": ("has basicConstraints that browsers do not take for an authority's", 0),
    "keyCertSign": ("has a keyUsage without keyCertSign, and so may not sign certificates", 0),
    "signature does not match": ("is one of two in a row of one authority, along which browsers find no way", 0),
    "no interior errors": ("has its name spelled otherwise than where it is named as an issuer", 0),
    "EKU": ("may not issue server certificates", 0),
}


def unlike_the_web(path: Sequence[Link], said: str) -> Fault:
    """Put a refusal by the rules of the web into words.

    Args:
        path: From the leaf on; its last certificate was taken for trusted, and all of it but that one verifies.
        said: The verifier's words.
    """
    bare = said.removeprefix("validation failed: ").partition(" (encountered")[0]
    above = bare.startswith(_ABOVE)
    bare = bare.removeprefix(_ABOVE)
    depth = len(path) - 1 if above else 0
    cure = f"Have {what(path, depth)} issued again by the rules of the web's authorities, or by another one."
    for words, (meaning, below) in _WEB.items():
        if above and words in bare:
            return Fault(says=f"{called(path, depth - below)} {meaning}", cure=cure)
    identifier = _EXTENSION.match(bare)
    if identifier is not None and "criticality" in bare:
        flaw = f"has its extension {identifier[1]} critical, or not so, against the rules of the web's authorities"
        return Fault(says=f"{called(path, depth)} {flaw}", cure=cure)
    if identifier is not None and "unaccounted" in bare:
        flaw = f"has a critical extension that browsers do not know ({identifier[1]})"
        cure = f"Have {what(path, depth)} issued again without that extension, or with it not critical."
        return Fault(says=f"{called(path, depth)} {flaw}", cure=cure)
    return Fault(says=f"{called(path, depth)} breaks the rules of the web's authorities ({shown(bare)})", cure=cure)
