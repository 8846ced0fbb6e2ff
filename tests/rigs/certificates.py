"""Certificate authorities, server certificates and PFX files, issued at run time; there are no fixture files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.bundle import CertificateBundle, PrivateKey
from shared.bundle.link import Link

KeyKind = Literal["ec", "rsa", "rsa1024", "p384", "p521", "secp256k1", "ed25519", "ed448", "dsa"]

_HOUR = dt.timedelta(hours=1)
_DAY = dt.timedelta(days=1)
_SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")
_WEAK_WITH_RSA = {"sha1": bytes.fromhex("2a864886f70d010105"), "md5": bytes.fromhex("2a864886f70d010104")}
_WEAK_HASHES = {"sha1": hashes.SHA1(), "md5": hashes.MD5()}  # noqa: S303 - what must be refused must first exist


@cache
def _rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """One RSA key per size and process: making them is slow, and no test needs two."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def _dsa_key() -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(key_size=2048)


_MAKERS: dict[KeyKind, Callable[[], PrivateKey]] = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "rsa": lambda: _rsa_key(2048),
    "rsa1024": lambda: _rsa_key(1024),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "dsa": _dsa_key,
}


def new_key(kind: KeyKind = "ec") -> PrivateKey:
    """A private key; always a fresh one, except that RSA and DSA keys are the same throughout a process."""
    return _MAKERS[kind]()


def name(subject: str) -> x509.Name:
    """A distinguished name: RFC 4514 when it has a `=`, else the common name; empty stays empty."""
    if "=" in subject or not subject:
        return x509.Name.from_rfc4514_string(subject)
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])


def key_usage(*uses: str) -> x509.KeyUsage:
    """The keyUsage that allows these uses, by the names of `x509.KeyUsage`, and no other."""
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in uses for name in names})


_AUTHORITYS_USE = key_usage("digital_signature", "key_cert_sign", "crl_sign")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Issued:
    """A server certificate with its key and intermediates.

    Attributes:
        certificate: The leaf.
        key: Its private key.
        chain: Intermediates, leaf-to-root order, without the root.
        root: The root it leads to.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    root: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """Lower-case hex SHA-256 of the leaf."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def thumbprint(self) -> str:
        """Upper-case hex SHA-1 of the leaf."""
        return self.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Windows' name for it

    def bundle(self) -> CertificateBundle:
        """The same as a bundle of certcast."""
        return CertificateBundle(leaf=self.certificate, chain=tuple(map(Link.of, self.chain)), key=self.key)

    def pfx(
        self,
        password: str | None = "secret",
        *,
        iterations: int = 2000,
        legacy: bool = False,
        others: Sequence[x509.Certificate] | None = None,
        friendly_name: str | None = "certcast test",
        key: PrivateKey | None = None,
    ) -> bytes:
        """A PFX file.

        Args:
            password: None writes it without any encryption.
            iterations: KDF iterations of the encrypted layers; the MAC always has 2048.
            legacy: 3DES and a SHA-1 MAC, which old Windows reads, instead of AES.
            others: Certificates beside the leaf, in this order; the chain by default.
            friendly_name: The name Windows shows.
            key: Another key than the leaf's, for files that do not fit together.
        """
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            builder = serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(iterations)
            if legacy:
                builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
                builder = builder.hmac_hash(hashes.SHA1())  # noqa: S303 - the point of it
            encryption = builder.build(password.encode())
        return pkcs12.serialize_key_and_certificates(
            friendly_name.encode() if friendly_name is not None else None,
            key or self.key,
            self.certificate,
            self.chain if others is None else others,
            encryption,
        )


@dataclass(frozen=True)
class Authority:
    """A certificate authority that issues whatever a test asks for, sound or not.

    Attributes:
        certificate: Its own certificate.
        key: Its private key.
        chain: What its certificates are served with: itself and those above, without the root. Empty for a root.
        root: The root above it; itself for a root.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    root: x509.Certificate

    @property
    def root_pem(self) -> bytes:
        """The root as PEM, for a trust file."""
        return self.root.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *hosts: str,
        key: KeyKind | PrivateKey = "ec",
        subject: str | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        names: Sequence[x509.GeneralName] | None = None,
        usages: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.SERVER_AUTH,),
        key_usage: x509.KeyUsage | None = None,
        is_ca: bool = False,
        signed_with: Literal["sha256", "sha1", "md5"] = "sha256",
    ) -> Issued:
        """Issue a server certificate.

        Args:
            hosts: dNSNames of the subjectAltName; none at all leaves the extension out.
            key: Kind of key to make, or a key.
            subject: The subject; the first host as common name by default.
            not_before: An hour ago by default, or 90 days before a `not_after` that has passed.
            not_after: 90 days after `not_before` by default, and at least 90 days from now.
            names: The subjectAltName's entries in place of `hosts`.
            usages: The extendedKeyUsage; None leaves it out.
            key_usage: The keyUsage; left out by default.
            is_ca: Whether basicConstraints says CA:TRUE.
            signed_with: "sha1" and "md5" need an authority with an RSA key.
        """
        private = new_key(key) if isinstance(key, str) else key
        start = not_before or (min(_now() - _HOUR, not_after - 90 * _DAY) if not_after else _now() - _HOUR)
        end = not_after or max(start, _now()) + 90 * _DAY
        common_name = subject if subject is not None else (hosts[0] if hosts else "certcast test leaf")
        entries = [x509.DNSName(host) for host in hosts] if names is None else list(names)
        builder = (
            _builder(name(common_name), self.certificate.subject, private, start, end)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(_authority_key(self.key), critical=False)
        )
        if entries:
            builder = builder.add_extension(x509.SubjectAlternativeName(entries), critical=not common_name)
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if key_usage is not None:
            builder = builder.add_extension(key_usage, critical=True)
        return Issued(_sign(builder, self.key, signed_with), private, self.chain, self.root)

    def intermediate(
        self,
        subject: str = "certcast test intermediate CA",
        *,
        key: KeyKind | PrivateKey = "ec",
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        signed_with: Literal["sha256", "sha1", "md5"] = "sha256",
        path_length: int | None = None,
        usage: x509.KeyUsage = _AUTHORITYS_USE,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Authority:
        """An authority below this one; pass another authority's key and name to cross-sign it.

        Args:
            subject: Its name.
            key: Kind of key to make, or a key.
            not_before: A day ago by default.
            not_after: Ten years after `not_before` by default.
            signed_with: "sha1" and "md5" need an authority with an RSA key.
            path_length: How many authorities may follow it.
            usage: The keyUsage.
            extensions: Further ones, not critical.
        """
        private = new_key(key) if isinstance(key, str) else key
        start = not_before if not_before is not None else _now() - _DAY
        builder = _ca_extensions(
            _builder(name(subject), self.certificate.subject, private, start, not_after or start + 3650 * _DAY),
            private,
            path_length,
            usage,
        ).add_extension(_authority_key(self.key), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = _sign(builder, self.key, signed_with)
        return Authority(certificate, private, (certificate, *self.chain), self.root)


def authority(
    subject: str = "certcast test CA",
    *,
    key: KeyKind | PrivateKey = "ec",
    not_before: dt.datetime | None = None,
    not_after: dt.datetime | None = None,
    signed_with: Literal["sha256", "sha1", "md5"] = "sha256",
) -> Authority:
    """A new root authority, valid from a day ago and for ten years unless said otherwise."""
    private = new_key(key) if isinstance(key, str) else key
    start = not_before if not_before is not None else _now() - _DAY
    own = name(subject)
    builder = _ca_extensions(_builder(own, own, private, start, not_after or start + 3650 * _DAY), private)
    certificate = _sign(builder, private, signed_with)
    return Authority(certificate, private, (), certificate)


def self_signed(*hosts: str, key: KeyKind | PrivateKey = "ec") -> Issued:
    """A server certificate that is its own issuer, as made for private use."""
    private = new_key(key) if isinstance(key, str) else key
    own = name(hosts[0])
    builder = (
        _builder(own, own, private, _now() - _HOUR, _now() + 90 * _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = _sign(builder, private, "sha256")
    return Issued(certificate, private, (), certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, not_before: dt.datetime, not_after: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _ca_extensions(
    builder: x509.CertificateBuilder,
    key: PrivateKey,
    path_length: int | None = None,
    usage: x509.KeyUsage = _AUTHORITYS_USE,
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority_key(key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _sign(
    builder: x509.CertificateBuilder, key: PrivateKey, signed_with: Literal["sha256", "sha1", "md5"]
) -> x509.Certificate:
    eddsa = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    sound = builder.sign(key, None if eddsa else hashes.SHA256())
    if signed_with == "sha256":
        return sound
    # The library no longer signs with these, so the sound certificate is renamed and signed by hand. The three OIDs are
    # equally long, and so are the two signatures: nothing moves.
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("weak signatures are made with RSA only")
    to_be_signed = sound.tbs_certificate_bytes.replace(_SHA256_WITH_RSA, _WEAK_WITH_RSA[signed_with])
    signature = key.sign(to_be_signed, padding.PKCS1v15(), _WEAK_HASHES[signed_with])
    der = sound.public_bytes(serialization.Encoding.DER)
    der = der.replace(_SHA256_WITH_RSA, _WEAK_WITH_RSA[signed_with])
    return x509.load_der_x509_certificate(der[: -len(signature)] + signature)
