"""PFX files of every shape to begin with, made from nothing."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
from collections.abc import Iterator
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle import PrivateKey
from tests.fuzz.seal import PASSWORD, legacy
from tests.rigs import handmade_pfx as handmade
from tests.rigs.certificates import Authority, Issued, KeyKind, authority, key_usage, self_signed

HOST = "www.example.com"
_RC2_40 = "1.2.840.113549.1.12.1.6"
_ED25519 = "1.3.101.112"
_DAY = dt.timedelta(days=1)
_SUBJECT = f"CN={HOST},O=Shop\\, Inc.,OU=\\C3\\A9,C=DE"


@cache
def root() -> Authority:
    """An authority whose key is always the same, so that a finding can be repeated later."""
    return authority("Fuzz CA", key=ec.derive_private_key(2**200 + 1, ec.SECP256R1()))


@cache
def below() -> Authority:
    """One below it."""
    return root().intermediate("Fuzz intermediate CA", key=ec.derive_private_key(2**201 + 1, ec.SECP256R1()))


def files() -> Iterator[bytes]:
    """All of them."""
    for issued in _certificates():
        yield _plain(issued)
    yield from _layers(below().issue(HOST, f"*.{HOST}", subject=_SUBJECT))
    yield from _oddities(below().issue(HOST))
    yield from _guises(below().issue(HOST))


def _plain(issued: Issued) -> bytes:
    chain = (issued.certificate, *issued.chain, issued.root)
    bags = [handmade.certificate_bag(each) for each in dict.fromkeys(chain)]
    return handmade.pfx(handmade.plain_safe(handmade.key_bag(issued.key), *bags))


def _certificates() -> Iterator[Issued]:
    kinds: tuple[KeyKind, ...] = ("ec", "p384", "p521", "secp256k1", "rsa", "rsa1024", "ed25519", "ed448")
    for kind in kinds:
        yield below().issue(HOST, "*.example.com", subject=_SUBJECT, key=kind)
    yield below().issue(HOST, key=dsa.generate_private_key(1024))  # noqa: S505 - a longer one takes seconds
    yield self_signed(HOST)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    yield root().issue(HOST, not_after=now - _DAY)
    yield root().issue(HOST, not_before=now + _DAY)
    yield root().issue(HOST, is_ca=True, usages=(ExtendedKeyUsageOID.CLIENT_AUTH,), key_usage=key_usage("crl_sign"))
    yield root().issue(HOST, usages=None, key_usage=key_usage("digital_signature"))
    yield root().issue(subject=HOST)
    yield authority("Old CA", key="rsa1024", signed_with="sha1").issue(HOST, key="rsa1024", signed_with="sha1")
    yield root().issue(*(f"{number}.example.com" for number in range(300)), subject="O=" + "\\," * 600)
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.RFC822Name("a@example.com"),
        x509.UniformResourceIdentifier("https://example.com/"),
        x509.DirectoryName(x509.Name.from_rfc4514_string(_SUBJECT)),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), handmade.integer(1)),
        x509.DNSName("*.xn--zckzah.example"),
    ]
    yield root().issue(names=names)
    limits = x509.NameConstraints([x509.DNSName("example.com")], [x509.DNSName("example.org")])
    yield root().intermediate("Limited CA", path_length=0, extensions=[limits, *_rarer_extensions()]).issue(HOST)


def _rarer_extensions() -> list[x509.ExtensionType]:
    at = [x509.UniformResourceIdentifier("http://example.com/crl")]
    return [
        x509.CRLDistributionPoints([x509.DistributionPoint(at, None, None, None)]),
        x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["https://example.com/"])]),
        x509.TLSFeature([x509.TLSFeatureType.status_request]),
        x509.PolicyConstraints(0, 0),
        x509.InhibitAnyPolicy(0),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
    ]


def _layers(issued: Issued) -> Iterator[bytes]:
    """One certificate in all the ways to encrypt and to authenticate it."""
    key, certificate = handmade.key_bag(issued.key), handmade.certificate_bag(issued.certificate)
    others = [handmade.certificate_bag(each) for each in issued.chain]
    yield issued.pfx(None)
    yield issued.pfx(PASSWORD, iterations=1)
    yield issued.pfx(PASSWORD, iterations=1, legacy=True)
    safes = [
        handmade.plain_safe(handmade.shrouded_key_bag(issued.key, PASSWORD)),
        handmade.encrypted_safe(PASSWORD, certificate, *others),
    ]
    yield handmade.pfx(*safes, mac=handmade.pbmac1(safes, PASSWORD))
    yield handmade.pfx(*safes)
    yield handmade.pfx(*safes, mac=handmade.claimed_mac(1))
    for kind in (handmade.PBE_3DES, "1.2.840.113549.1.12.1.5"):
        algorithm, data = legacy(handmade.sequence(key, certificate), kind)
        yield handmade.pfx(handmade.safe_of(algorithm, handmade.tlv(0x80, data)))
    parameters = handmade.sequence(handmade.octets(b"salt"), handmade.integer(1))
    algorithm = handmade.sequence(handmade.oid(_RC2_40), parameters)
    yield handmade.pfx(handmade.safe_of(algorithm, handmade.tlv(0x80, os.urandom(64))))
    scrypt = handmade.shrouded_key_bag(issued.key, PASSWORD, scrypt=(16, 1, 1))
    yield handmade.pfx(handmade.plain_safe(scrypt, certificate))
    dear = handmade.shrouded_key_bag(issued.key, PASSWORD, claimed=2**31 - 1)
    yield handmade.pfx(handmade.plain_safe(dear, certificate))


def _oddities(issued: Issued) -> Iterator[bytes]:
    """Files that no program writes."""
    key, certificate = handmade.key_bag(issued.key), handmade.certificate_bag(issued.certificate)
    nested = certificate
    for _ in range(4):
        nested = handmade.bag(handmade.SAFE_CONTENTS_BAG, handmade.sequence(nested))
    yield handmade.pfx(handmade.plain_safe(key), handmade.plain_safe(nested))
    other = below().issue("other.example.com")
    both = (*(key, certificate), handmade.key_bag(other.key), handmade.certificate_bag(other.certificate))
    yield handmade.pfx(handmade.plain_safe(*both))
    yield handmade.pfx(handmade.plain_safe(key, handmade.certificate_bag(other.certificate)))
    yield handmade.pfx(handmade.plain_safe(key))
    yield handmade.pfx(handmade.plain_safe(certificate, handmade.bag(handmade.SECRET_BAG, handmade.sequence())))
    enveloped = handmade.sequence(handmade.oid(handmade.ENVELOPED_DATA), handmade.explicit(handmade.sequence()))
    yield handmade.pfx(enveloped)
    pieces = handmade.indefinite(0x24, handmade.octets(handmade.sequence(key, certificate)))
    yield handmade.pfx(handmade.indefinite(0x30, handmade.oid(handmade.DATA), handmade.indefinite(0xA0, pieces)))
    for size in (0, 31, 33):
        yield handmade.pfx(handmade.plain_safe(_short_key(size), _certificate_of("ed25519")))


def _guises(issued: Issued) -> Iterator[bytes]:
    """Files that are no PFX, or text of one."""
    good = issued.pfx(PASSWORD, iterations=1)
    text = base64.b64encode(good)
    pem = issued.bundle().to_pem()
    der = issued.certificate.public_bytes(Encoding.DER)
    yield from (b"", bytes(32), b"<!DOCTYPE html>", b"\xfe\xed\xfe\xed" + bytes(20), der, handmade.pkcs8(issued.key))
    yield from (text, b'"' + text + b'"', text.decode().encode("utf-16"), json.dumps({"value": text.decode()}).encode())
    yield from (b"data:;base64," + text, base64.b64encode(text), text.replace(b"+", b"%2B"), base64.b64encode(der))
    yield from (pem, b"\xef\xbb\xbf" + pem, pem.decode().encode("utf-16"), pem.replace(b"\n", b"\\n"))
    yield from (good[:500], good.replace(b"\n", b"\r\n"), b"\n" + good, good.decode("latin-1").encode("utf-16"))


def _short_key(size: int) -> bytes:
    algorithm = handmade.sequence(handmade.oid(_ED25519))
    value = handmade.octets(handmade.octets(bytes(size)))
    return handmade.bag(handmade.KEY_BAG, handmade.sequence(handmade.integer(0), algorithm, value))


def _certificate_of(kind: KeyKind | PrivateKey) -> bytes:
    return handmade.certificate_bag(below().issue(HOST, key=kind).certificate)
