"""Chains of handmade certificates, sound ones and of every kind of fault, with what is trusted of them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.bundle import CertificateBundle, PrivateKey
from shared.bundle.link import Link
from tests.rigs.handmade_certificate import (
    AUTHORITYS,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    SERVERS,
    TRUE,
    Made,
    certificate,
    dates,
    extension,
    named,
)
from tests.rigs.handmade_pfx import integer, octets, oid, sequence, tlv

AUTHORITY_KEY = "2.5.29.35"
POLICIES = "2.5.29.32"
POLICY_CONSTRAINTS = "2.5.29.36"
ANY_POLICY = "2.5.29.54"
NAME_CONSTRAINTS = "2.5.29.30"
NETSCAPE_TYPE = "2.16.840.1.113730.1.1"
UNKNOWN = "1.3.6.1.4.1.55738.666.1"

SERVER, CLIENT, MAIL, ANY = ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.4", "2.5.29.37.0")
GATED = "1.3.6.1.4.1.311.10.3.3"


_B = bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
_BASE = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A leaf, what else is in its file, and what is trusted."""

    leaf: Made
    others: tuple[Made, ...]
    trusted: tuple[Made, ...]

    def bundle(self) -> CertificateBundle:
        """It as a bundle to be judged, its others in the file's order."""
        leaf = x509.load_der_x509_certificate(self.leaf.der)
        key = self.leaf.key
        assert key is not None
        return CertificateBundle(leaf=leaf, chain=tuple(Link.read(other.der) for other in self.others), key=key)

    def roots(self) -> tuple[x509.Certificate, ...]:
        return tuple(x509.load_der_x509_certificate(made.der) for made in self.trusted)


def pem(*ders: bytes) -> bytes:
    """Certificates as OpenSSL's commands read them."""
    return b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in ders)


def ca(
    by: Made, *more: bytes, subject: str | bytes = "Issuing CA", own: tuple[bytes, ...] = AUTHORITYS, **how: object
) -> Made:
    """An authority below another, with more extensions."""
    how.setdefault("validity", dates(end_days=900))
    return certificate(*own, *more, by=by, subject=subject, **how)  # type: ignore[arg-type]


def leaf(by: Made, *more: bytes, own: tuple[bytes, ...] = SERVERS, **how: object) -> Made:
    """A server certificate, with more extensions."""
    return certificate(*own, *more, by=by, **how)  # type: ignore[arg-type]


def chain(by: Made, *others: Made, trusted: tuple[Made, ...]) -> Chain:
    """A leaf by an authority, whose file holds others."""
    return Chain(leaf=leaf(by), others=others, trusted=trusted)


def usages(*purposes: str, critical: bytes = b"") -> bytes:
    return extension(EXTENDED_KEY_USAGE, sequence(*map(oid, purposes)), critical)


def constraints(
    *, permitted: tuple[bytes, ...] = (), excluded: tuple[bytes, ...] = (), critical: bytes = TRUE
) -> bytes:
    """Name constraints for general names."""
    parts = [
        tlv(tag, *(sequence(base) for base in bases)) for tag, bases in ((0xA0, permitted), (0xA1, excluded)) if bases
    ]
    return extension(NAME_CONSTRAINTS, sequence(*parts), critical)


def directory(common_name: str) -> bytes:
    return tlv(0xA4, named(common_name))


def address(*parts: int) -> bytes:
    return tlv(0x87, bytes(parts))


def mailbox(text: str) -> bytes:
    return tlv(0x81, text.encode())


def key_usage(bits: bytes) -> bytes:
    return extension(KEY_USAGE, b"\x03\x02" + bits, TRUE)


def path_length(length: int) -> bytes:
    return extension(BASIC_CONSTRAINTS, sequence(TRUE, integer(length)), TRUE)


def explicit_curve(key: PrivateKey) -> bytes:
    """A key's subjectPublicKeyInfo with P-256 written out in place of its name (SEC 1 C.2, SEC 2 2.4.2)."""
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    parameters = sequence(
        integer(1),
        sequence(oid("1.2.840.10045.1.1"), integer(prime)),
        sequence(octets((prime - 3).to_bytes(32)), octets(_B)),
        octets(_BASE),
        integer(_ORDER),
        integer(1),
    )
    return sequence(sequence(oid("1.2.840.10045.2.1"), parameters), tlv(0x03, b"\0", point))


def named_authority(name: bytes, serial: bytes = b"\x12\x67") -> bytes:
    """An authorityKeyIdentifier as EasyRSA wrote it: the issuer's issuer and serial number."""
    return extension(AUTHORITY_KEY, sequence(tlv(0xA1, tlv(0xA4, name)), tlv(0x82, serial)))
