"""The machine's certificate stores in memory: imports the real PKCS#12, finds the chain as Schannel does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.stores import KNOWN_STORES, NewCertificate, StoredCertificate
from shared.bundle import CertificateBundle, PrivateKey
from shared.bundle.link import Link
from tests.rigs.certificates import Issued

_3DES = bytes.fromhex("060a2a864886f70d010c0103")  # pbeWithSHAAnd3-KeyTripleDES-CBC, RFC 7292 appendix C
_PBES2 = bytes.fromhex("06092a864886f70d01050d")


@dataclass
class Entry:
    certificate: x509.Certificate
    key: PrivateKey | None = field(repr=False)
    friendly_name: str = ""


class MemoryStores:
    """The `CertificateStores`, and what a test arranges in them."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        self.intermediates: dict[str, x509.Certificate] = {}
        self.unusable: set[str] = set()
        self.refused: dict[str, int] = {}
        self.takes_malformed = True
        self.passwords: list[str] = []
        self.imports: list[str] = []
        self.deleted_keys: list[str] = []

    def put(self, issued: Issued, *, store: str = "My", friendly_name: str = "", with_key: bool = True) -> None:
        """A certificate that was imported by hand."""
        key = issued.key if with_key else None
        self.entries[(store, issued.thumbprint)] = Entry(issued.certificate, key, friendly_name)

    def put_bundle(self, bundle: CertificateBundle) -> None:
        """A certificate that was imported by hand, with its chain."""
        self.entries[("My", bundle.thumbprint_sha1)] = Entry(bundle.leaf, bundle.key)

    def thumbprints(self, store: str = "My") -> set[str]:
        return {thumbprint for name, thumbprint in self.entries if name == store}

    def friendly_name(self, thumbprint: str, store: str = "My") -> str:
        return self.entries[(store, thumbprint)].friendly_name

    def has_usable(self, thumbprint: str) -> bool:
        """Whether http.sys could serve it."""
        return any(
            entry.key is not None and thumbprint not in self.unusable
            for (_, name), entry in self.entries.items()
            if name == thumbprint
        )

    def bundle(self, thumbprint: str, store: str) -> CertificateBundle | None:
        """What a handshake with it would serve: the chain is looked up by issuer, as Schannel does."""
        entry = self.entries.get((store, thumbprint))
        if entry is None or entry.key is None:
            return None
        chain: list[x509.Certificate] = []
        below = entry.certificate
        while True:
            above = next((it for it in self.intermediates.values() if it.subject == below.issuer and it != below), None)
            if above is None or above in chain:
                return CertificateBundle(leaf=entry.certificate, chain=tuple(map(Link.of, chain)), key=entry.key)
            chain.append(above)
            below = above

    def listing(self) -> list[StoredCertificate]:
        return [
            StoredCertificate(
                store=store,
                thumbprint=thumbprint,
                friendly_name=entry.friendly_name,
                has_private_key=entry.key is not None,
            )
            for (store, thumbprint), entry in self.entries.items()
        ]

    def fingerprints(self, certificates: Iterable[StoredCertificate]) -> dict[str, str]:
        return {
            it.thumbprint: self.entries[(it.store, it.thumbprint)].certificate.fingerprint(hashes.SHA256()).hex()
            for it in certificates
            if (it.store, it.thumbprint) in self.entries
        }

    def add(self, store: str, certificate: NewCertificate) -> None:
        assert store in KNOWN_STORES
        if certificate.thumbprint in self.refused:
            raise GatewayError("The import failed", code=self.refused[certificate.thumbprint])
        assert _3DES in certificate.pfx, "Windows before Server 2019 reads nothing but 3DES"
        assert _PBES2 not in certificate.pfx, "Windows before Server 2019 reads nothing but 3DES"
        assert certificate.password not in self.passwords, "a one-shot password was used twice"
        self.passwords.append(certificate.password)
        key, leaf, others = pkcs12.load_key_and_certificates(certificate.pfx, certificate.password.encode())
        assert leaf is not None
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        assert others == [], "intermediates do not belong into the leaf's store"
        thumbprint = leaf.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Windows' name for it
        assert thumbprint == certificate.thumbprint
        self.entries[(store, thumbprint)] = Entry(leaf, key, certificate.friendly_name)
        self.imports.append(thumbprint)

    def rename(self, certificate: StoredCertificate, friendly_name: str) -> None:
        self.entries[(certificate.store, certificate.thumbprint)].friendly_name = friendly_name

    def key_problems(self, store: str, thumbprints: Iterable[str]) -> dict[str, str]:
        problems = {}
        for thumbprint in thumbprints:
            entry = self.entries.get((store, thumbprint))
            if entry is None:
                problems[thumbprint] = "it is not in the store"
            elif entry.key is None or thumbprint in self.unusable:
                problems[thumbprint] = "its private key cannot be used"
        return problems

    def add_intermediates(self, certificates: Sequence[bytes]) -> None:
        for der in certificates:
            link = Link.read(der)
            assert not link.is_self_issued, "a root is never imported"
            if link.certificate is None and not self.takes_malformed:
                raise GatewayError("ASN1 bad tag value met.", code=0x8009310B)
            self.intermediates.setdefault(link.view.fingerprint(hashes.SHA256()).hex(), link.view)

    def remove(self, certificate: StoredCertificate) -> None:
        if self.entries.pop((certificate.store, certificate.thumbprint)).key is not None:
            self.deleted_keys.append(certificate.thumbprint)
