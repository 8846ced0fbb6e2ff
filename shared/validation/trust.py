"""Whom certcast trusts to issue certificates, and whether a chain leads there; no URL in a certificate is fetched."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from shared.bundle import MAX_INTERMEDIATES
from shared.errors import ConfigurationError
from shared.phrasing import day, shown
from shared.validation.chain import is_self_signed, issued
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bundle import CertificateBundle

PUBLIC = "public"
OFF = "off"

_NOT_VALID = "not valid at validation time"
# The verifier's words and ours.
_REASONS = {
    _NOT_VALID: "its root is not valid at that time",
    "Forbidden signature algorithm": "a certificate in it is signed by an algorithm that browsers refuse",
    "Forbidden public key algorithm": "an authority in it has a kind of key that browsers refuse",
    "RSA key is too weak": "an authority in it has an RSA key of less than 2048 bits",
    "max depth": "it is longer than any browser follows",
    "path length constraint": "an authority in it issued another although it may not",
    "name constraint": "an authority in it is not allowed to issue for these names",
    "basicConstraints": "a certificate in it is no authority's",
    "keyCertSign": "a certificate in it may not sign certificates",
    "EKU": "an authority in it may not issue server certificates",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The trusted roots, built once.

    Attributes:
        roots: The trusted root certificates; None trusts any chain.
        name: For people: "public", "off" or the path.
    """

    roots: tuple[x509.Certificate, ...] | None
    name: str
    _store: Store | None = field(init=False, repr=False, compare=False, default=None)
    _by_subject: dict[x509.Name, list[x509.Certificate]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for root in self.roots or ():
            self._by_subject.setdefault(root.subject, []).append(root)
        if self.roots is not None:
            object.__setattr__(self, "_store", Store(list(self.roots)))

    @classmethod
    def from_setting(cls, setting: str) -> Trust:
        """What `CERTCAST_TRUST` says.

        Args:
            setting: "public" for certifi's roots, "off", or the path of a PEM file with roots.

        Raises:
            ConfigurationError: There are no roots to be had there.
        """
        setting = setting.strip()
        if setting == OFF:
            return cls(roots=None, name=OFF)
        if not setting:
            raise ConfigurationError("CERTCAST_TRUST is empty: write public, off, or the path of a PEM file with roots")
        path = Path(certifi.where() if setting == PUBLIC else setting)
        try:
            with warnings.catch_warnings():
                # A few public roots have the serial number zero.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                roots = x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as problem:
            raise ConfigurationError(
                f"CERTCAST_TRUST names the file {path}, which cannot be read ({problem.strerror}): write public, off, "
                "or the path of a PEM file with roots"
            ) from problem
        except ValueError as problem:
            raise ConfigurationError(
                f"CERTCAST_TRUST names the file {path}, which has no PEM certificates that can be read: convert each "
                "root with `openssl x509 -inform DER -in root.cer -out root.pem`"
            ) from problem
        return cls(roots=tuple(roots), name=setting)

    def objection(
        self, bundle: CertificateBundle, *, host: str | None, root: x509.Certificate | None, now: datetime
    ) -> Violation | None:
        """Why the bundle's chain would not be believed; None when it would.

        Args:
            bundle: Leaf and normalised chain.
            host: A name the leaf covers, or None when it has none. One is enough: the path does not depend on it, as
                all the leaf's names are held against the authorities' constraints.
            root: The root that came with the file, if any: it tells a missing link from a stranger's root.
            now: A leaf that is not valid now is verified as of the nearest moment that it is, and once it has expired
                no date counts: its dates are another verdict's.
        """
        if self._store is None:
            return None
        path = (bundle.leaf, *(link.view for link in bundle.chain))
        if not any(self._trusts(certificate) for certificate in path):
            return self._unanchored(path, root)
        if host is None or self._is_root(bundle.leaf):
            return None
        moment = min(max(now, bundle.not_before), bundle.not_after)
        try:
            _verify(self._store, bundle, host.replace("*", "a"), moment)
        except VerificationError as problem:
            if now > bundle.not_after and _NOT_VALID in str(problem):
                return None
            reason = _lapsed(bundle, moment) or _plain(str(problem))
            detail = (
                f"The chain of '{shown(bundle.subject)}' does not verify: {reason}. Export the certificate again with "
                "the intermediates that its authority publishes now."
            )
            return Violation(code=VerdictCode.UNTRUSTED_CHAIN, detail=detail)
        return None

    def _is_root(self, certificate: x509.Certificate) -> bool:
        return certificate in self._by_subject.get(certificate.subject, ())

    def _trusts(self, certificate: x509.Certificate) -> bool:
        """Whether it is a root, or issued by one."""
        issuers = self._by_subject.get(certificate.issuer, ())
        return self._is_root(certificate) or any(issued(root, certificate) for root in issuers)

    def _unanchored(self, path: tuple[x509.Certificate, ...], root: x509.Certificate | None) -> Violation:
        """Why no trusted root is reached: it is another, or a certificate between is missing."""
        top = path[-1]
        name = shown(top.issuer.rfc4514_string())
        if is_self_signed(top):
            detail = (
                f"'{name}' is signed by itself and no root that CERTCAST_TRUST={self.name} trusts: have it issued by "
                "an authority that is, or add it to the trusted roots."
            )
            return Violation(code=VerdictCode.UNTRUSTED_CHAIN, detail=detail)
        if root is not None or self._by_subject.get(top.issuer):
            detail = (
                f"The chain ends in '{name}', whose key is not that of a root that CERTCAST_TRUST={self.name} trusts: "
                "have the certificate issued by an authority that is, or add this one to the trusted roots."
            )
            return Violation(code=VerdictCode.UNTRUSTED_CHAIN, detail=detail)
        detail = (
            f"'{name}', which issued '{shown(top.subject.rfc4514_string())}', is neither in the file nor a root that "
            f"CERTCAST_TRUST={self.name} trusts: add it with `openssl pkcs12 -export -certfile intermediates.pem`."
        )
        return Violation(code=VerdictCode.INCOMPLETE_CHAIN, detail=detail)


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("keyUsage lacks keyCertSign")


def _verify(store: Store, bundle: CertificateBundle, name: str, moment: datetime) -> None:
    """Let the library build and check the path.

    The leaf's own extensions are judged elsewhere, with words of their own. Of authorities, what public ones must have
    but private ones made with `openssl req -x509` lack (keyUsage, key identifiers) is not insisted on.
    """
    authorities = (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
        .may_be_present(x509.SubjectKeyIdentifier, Criticality.AGNOSTIC, None)
    )
    leaves = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    policy = PolicyBuilder().store(store).time(moment).max_chain_depth(MAX_INTERMEDIATES)
    policy = policy.extension_policies(ca_policy=authorities, ee_policy=leaves)
    policy.build_server_verifier(x509.DNSName(name)).verify(bundle.leaf, [link.view for link in bundle.chain])


def _lapsed(bundle: CertificateBundle, moment: datetime) -> str | None:
    """The commonest reason in full: which intermediate, and since when."""
    for certificate in (link.view for link in bundle.chain):
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            return (
                f"its intermediate '{shown(certificate.subject.rfc4514_string())}' is valid only from "
                f"{day(certificate.not_valid_before_utc)} to {day(certificate.not_valid_after_utc)}"
            )
    return None


def _plain(problem: str) -> str:
    """The verifier's reason in plain words, or else its own."""
    for words, meaning in _REASONS.items():
        if words in problem:
            return meaning
    return shown(problem.removeprefix("validation failed: ").partition(" (encountered")[0])
