"""What is known of an upload once it was judged, without key objects: a value that can leave the judging process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from shared.bundle import bundle_id_of
from shared.verdict import Caution, Decided, Violation

if TYPE_CHECKING:
    from shared.bundle import CertificateBundle
    from shared.validation.judge import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBundle:
    """A bundle as text, and what is told of it.

    Attributes:
        pem: What is sealed: PKCS#8 key, leaf, intermediates.
        subject, issuer: The leaf's, as RFC 4514 text.
        dns_names: The leaf's subjectAltName dNSNames.
        fingerprint_sha256: Lower-case hex SHA-256 of the leaf.
        thumbprint_sha1: Upper-case hex SHA-1 of the leaf.
        not_before, not_after: The leaf's validity.
        chain: Subjects of the certificates that are served, the leaf's first, as RFC 4514 text.
    """

    pem: str = field(repr=False)
    subject: str
    issuer: str
    dns_names: tuple[str, ...]
    fingerprint_sha256: str
    thumbprint_sha1: str
    not_before: datetime
    not_after: datetime
    chain: tuple[str, ...]

    @classmethod
    def of(cls, bundle: CertificateBundle) -> JudgedBundle:
        """Describe a bundle."""
        return cls(
            pem=bundle.to_pem().decode("ascii"),
            subject=bundle.subject,
            issuer=bundle.issuer,
            dns_names=bundle.dns_names,
            fingerprint_sha256=bundle.fingerprint_sha256,
            thumbprint_sha1=bundle.thumbprint_sha1,
            not_before=bundle.not_before,
            not_after=bundle.not_after,
            chain=bundle.chain_subjects,
        )

    def id_for(self, content: bytes) -> str:
        """The id it is sealed under when it came of this content."""
        return bundle_id_of(self.fingerprint_sha256, content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Decided):
    """What came of looking at an upload; as `Judgement`, which see."""

    violations: tuple[Violation, ...]
    hosts: tuple[str, ...]
    port: int
    role: str
    site: str | None
    bundle: JudgedBundle | None
    default: bool = False
    warnings: tuple[Caution, ...] = ()
    wants_password: bool = False

    @classmethod
    def of(cls, judgement: Judgement) -> Judged:
        """The same without its key."""
        return cls(
            violations=judgement.violations,
            hosts=judgement.hosts,
            port=judgement.port,
            role=judgement.role,
            site=judgement.site,
            default=judgement.default,
            bundle=None if judgement.bundle is None else JudgedBundle.of(judgement.bundle),
            warnings=judgement.warnings,
            wants_password=judgement.wants_password,
        )
