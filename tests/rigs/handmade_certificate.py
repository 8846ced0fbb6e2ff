"""Certificates put together by hand, with parts that no library writes: each is signed, whatever is in it."""

import datetime as dt
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.bundle import PrivateKey
from tests.rigs.certificates import new_key
from tests.rigs.handmade_pfx import (
    CERTIFICATE_BAG,
    KEY_BAG,
    X509_CERTIFICATE,
    bag,
    explicit,
    integer,
    octets,
    oid,
    pfx,
    pkcs8,
    plain_safe,
    sequence,
    tlv,
)

HOST = "www.example.com"
ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"))
ECDSA_SHA256_NULL = sequence(oid("1.2.840.10045.4.3.2"), tlv(0x05))
FALSE = tlv(0x01, b"\0")
TRUE = tlv(0x01, b"\xff")
BASIC_CONSTRAINTS = "2.5.29.19"
KEY_USAGE = "2.5.29.15"
EXTENDED_KEY_USAGE = "2.5.29.37"
ALTERNATIVE_NAMES = "2.5.29.17"
KEY_IDENTIFIER = "2.5.29.14"
CRL_POINTS = "2.5.29.31"
AUTHORITY_ACCESS = "1.3.6.1.5.5.7.1.1"
TLS_FEATURE = "1.3.6.1.5.5.7.1.24"


def named(common_name: bytes | str, tag: int = 0x0C) -> bytes:
    """A name of one common name, of a string type by its tag."""
    value = common_name if isinstance(common_name, bytes) else common_name.encode()
    return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(tag, value))))


def utc(moment: dt.datetime) -> bytes:
    return tlv(0x17, f"{moment:%y%m%d%H%M%SZ}".encode())


def dates(start_days: float = -1, end_days: float = 90) -> bytes:
    """A validity, in days from now."""
    now = dt.datetime.now(dt.UTC)
    return sequence(utc(now + dt.timedelta(start_days)), utc(now + dt.timedelta(end_days)))


def extension(kind: str, value: bytes, critical: bytes = b"") -> bytes:
    """An extension; `critical` is the whole BOOLEAN."""
    return sequence(oid(kind), critical, octets(value))


def dns(name: bytes | str) -> bytes:
    return tlv(0x82, name if isinstance(name, bytes) else name.encode())


def alternative_names(*names: bytes) -> bytes:
    return extension(ALTERNATIVE_NAMES, sequence(*names))


CA_ONLY = extension(BASIC_CONSTRAINTS, sequence(TRUE), TRUE)
CA_USE = extension(KEY_USAGE, b"\x03\x02\x01\x06", TRUE)
NO_CA = extension(BASIC_CONSTRAINTS, sequence(), TRUE)
SERVER_USE = extension(KEY_USAGE, b"\x03\x02\x07\x80", TRUE)
SERVER_PURPOSE = extension(EXTENDED_KEY_USAGE, sequence(oid("1.3.6.1.5.5.7.3.1")))
AUTHORITYS = (CA_ONLY, CA_USE)
SERVERS = (NO_CA, SERVER_USE, SERVER_PURPOSE, alternative_names(dns(HOST)))
CRITICAL_FALSE = extension(KEY_IDENTIFIER, octets(b"12345678"), FALSE)
"""The slip that OpenSSL reads and neither the library nor Chrome does."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A certificate by hand.

    Attributes:
        der: The certificate.
        name: Its subject, as DER.
        private: Its private key, as PKCS#8.
        key: The same, where it can sign.
    """

    der: bytes
    name: bytes
    private: bytes = field(repr=False)
    key: ec.EllipticCurvePrivateKey | None = field(repr=False)

    def pfx(self, *others: "Made | bytes") -> bytes:
        """A file with its key, it, and others."""
        above = [other.der if isinstance(other, Made) else other for other in others]
        return pfx(plain_safe(bag(KEY_BAG, self.private), *map(der_bag, (self.der, *above))))


def der_bag(der: bytes) -> bytes:
    """A bag with what may be no certificate."""
    return bag(CERTIFICATE_BAG, sequence(oid(X509_CERTIFICATE), explicit(octets(der))))


def certificate(
    *extensions: bytes,
    by: Made | None = None,
    subject: bytes | str = HOST,
    issuer: bytes | str | None = None,
    key: PrivateKey | None = None,
    spki: bytes | None = None,
    private: bytes | None = None,
    algorithm: bytes = ECDSA_SHA256,
    outer: bytes | None = None,
    serial: bytes = b"\x12\x67",
    version: bytes = explicit(integer(2)),
    validity: bytes | None = None,
    unused: bytes = b"\0",
    more: bytes = b"",
) -> Made:
    """Make a certificate.

    Args:
        extensions: Each whole; none at all leaves the field out.
        by: Who signs it; itself by default, with a key on a curve.
        subject, issuer: A common name, or a whole name.
        key: Its key; a new one on P-256 by default.
        spki, private: In place of what `key` would be written as.
        algorithm, outer: Of the signature, inside what is signed and beside it.
        serial, version, validity: As DER, but the serial number as its octets.
        unused: The signature's octet of unused bits.
        more: Octets behind it.
    """
    own = key or new_key()
    signer = by.key if by else own
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    name, above = (it if isinstance(it, bytes) else named(it) for it in (subject, issuer or subject))
    signed = sequence(
        version,
        tlv(0x02, serial),
        algorithm,
        by.name if by and issuer is None else above,
        validity or dates(),
        name,
        spki
        or own.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        tlv(0xA3, sequence(*extensions)) if extensions else b"",
    )
    signature = tlv(0x03, unused, signer.sign(signed, ec.ECDSA(hashes.SHA256())))
    return Made(
        der=sequence(signed, outer or algorithm, signature) + more,
        name=name,
        private=private or pkcs8(own),
        key=own if isinstance(own, ec.EllipticCurvePrivateKey) else None,
    )


def root(subject: str = "handmade root") -> Made:
    """A sound root."""
    return certificate(*AUTHORITYS, subject=subject, validity=dates(end_days=3000))
