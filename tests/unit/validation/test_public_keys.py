"""Keys are judged by what the certificate says of them, and what is accepted can be served."""

import datetime as dt
import ssl
import subprocess
from collections.abc import Callable
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

from shared.bundle import PrivateKey
from shared.upload import UploadMetadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_pfx
from shared.validation.public_keys import unfit
from shared.validation.trust import Trust
from tests.rigs.certificates import KeyKind, new_key
from tests.rigs.handmade_certificate import HOST, SERVERS, Made, certificate, root
from tests.rigs.handmade_pfx import integer, oid, pkcs8, sequence, tlv
from tests.rigs.memory_handshake import handshake

ANY_CHAIN = ValidationPolicy(trust=Trust.from_setting("off"))
ROOT = root()
RSA = oid("1.2.840.113549.1.1.1")
EC = oid("1.2.840.10045.2.1")
NULL = tlv(0x05)


def judged(made: Made) -> Judgement:
    return judge_pfx(made.pfx(ROOT), UploadMetadata(), [None], policy=ANY_CHAIN, now=dt.datetime.now(dt.UTC))


def codes(judgement: Judgement) -> set[str]:
    return {violation.code.value for violation in judgement.violations}


def spki(algorithm: bytes, key: bytes) -> bytes:
    return sequence(algorithm, tlv(0x03, b"\0", key))


def rsa_spki(key: PrivateKey, *, exponent: int | None = None, algorithm: bytes = sequence(RSA, NULL)) -> bytes:
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.public_key().public_numbers()
    return spki(algorithm, sequence(integer(numbers.n), integer(exponent or numbers.e)))


def point(key: PrivateKey) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


@cache
def written_by_openssl(*options: str) -> tuple[bytes, bytes]:
    """A key as OpenSSL makes it: PKCS#8 and subjectPublicKeyInfo."""
    made = ran("genpkey", *options)
    private = ran("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", given=made)
    return private, ran("pkey", "-pubout", "-outform", "DER", given=made)


def ran(*command: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *command], input=given, capture_output=True, check=True).stdout


def by_openssl(*options: str) -> Made:
    private, public = written_by_openssl(*options)
    return certificate(*SERVERS, by=ROOT, spki=public, private=private)


EXPLICIT = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit")
PSS = ("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048")


def rsa_with(exponent: int) -> tuple[str, ...]:
    return "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", f"rsa_keygen_pubexp:{exponent}"


def pss_sealed_as_rsa() -> Made:
    """What a library that forgets the kind makes of it: the certificate is bound to PSS and the key is not."""
    private, public = written_by_openssl(*PSS)
    key = serialization.load_der_private_key(private, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return certificate(*SERVERS, by=ROOT, spki=public, private=pkcs8(key))


def with_exponent(value: int) -> Made:
    key = new_key("rsa")
    return certificate(*SERVERS, by=ROOT, key=key, spki=rsa_spki(key, exponent=value))


def on(curve: bytes) -> Made:
    key = new_key()
    return certificate(*SERVERS, by=ROOT, key=key, spki=spki(sequence(EC, curve), point(key)))


def of_kind(dotted: str) -> Made:
    return certificate(*SERVERS, by=ROOT, spki=spki(sequence(oid(dotted)), b"\4\x20" + bytes(32)))


def exchange() -> Made:
    key = x25519.X25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate(*SERVERS, by=ROOT, spki=public, private=private)


def of(kind: KeyKind) -> Made:
    return certificate(*SERVERS, by=ROOT, key=new_key(kind))


WEAK: dict[str, tuple[Callable[[], Made], str]] = {
    "PSS": (lambda: by_openssl(*PSS), "an RSA key for PSS alone (id-RSASSA-PSS)"),
    "PSS sealed as RSA": (pss_sealed_as_rsa, "have it issued again for an ordinary RSA key (rsaEncryption)"),
    "OAEP": (lambda: of_kind("1.2.840.113549.1.1.7"), "an RSA key for OAEP alone"),
    "explicit parameters": (lambda: by_openssl(*EXPLICIT), "an EC key with explicit parameters in place of the name"),
    "implicit curve": (lambda: on(NULL), "an EC key that does not say on which curve it is"),
    "no curve": (lambda: on(b""), "an EC key that does not say on which curve it is"),
    "odd parameters": (lambda: on(tlv(0x04, b"x")), "an EC key with parameters that name no curve"),
    "SM2": (lambda: on(oid("1.2.156.10197.1.301")), "an EC key on the curve SM2"),
    "an unknown curve": (lambda: on(oid("1.2.3.4")), "an EC key on the curve 1.2.3.4"),
    "brainpool": (
        lambda: by_openssl("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"),
        "an EC key on the curve brainpoolP256r1",
    ),
    "exponent 1": (lambda: with_exponent(1), "with the public exponent 1"),
    "an even exponent": (lambda: with_exponent(65536), "with the public exponent 65536"),
    "an exponent of 65 bits": (lambda: by_openssl(*rsa_with(2**64 + 13)), "with a public exponent of 65 bits"),
    "an exponent of 34 bits": (lambda: by_openssl(*rsa_with(2**33 + 1)), "make a key with the exponent 65537"),
    "a negative exponent": (lambda: with_exponent(-3), "with the public exponent -3"),
    "1024 bits": (lambda: of("rsa1024"), "an RSA key of 1024 bits"),
    "secp256k1": (lambda: of("secp256k1"), "an EC key on the curve secp256k1"),
    "Ed25519": (lambda: of("ed25519"), "an EdDSA key (Ed25519)"),
    "Ed448": (lambda: of("ed448"), "an EdDSA key (Ed448)"),
    "DSA": (lambda: of("dsa"), "a DSA key"),
    "GOST": (lambda: of_kind("1.2.643.7.1.1.1.1"), "a GOST key"),
    "ML-DSA": (lambda: of_kind("2.16.840.1.101.3.4.3.17"), "an ML-DSA key"),
    "X25519": (exchange, "1.3.101.110"),
    "no RSA key inside": (
        lambda: certificate(*SERVERS, by=ROOT, spki=spki(sequence(RSA, NULL), b"no key")),
        "a key that cannot be read",
    ),
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_key_that_servers_or_browsers_cannot_use_is_weak_and_named(kind: str) -> None:
    make, said = WEAK[kind]
    judgement = judged(make())
    assert {"weak_key"} <= codes(judgement) <= {"weak_key", "malformed_certificate"}
    assert said in judgement.violations[-1].detail


def test_a_public_key_that_is_none_is_told_as_such() -> None:
    for key in (b"", b"\x30\x80", sequence(), spki(sequence(), b""), spki(sequence(RSA, NULL), sequence(integer(1)))):
        found = unfit(key)
        assert found is not None
        assert found.found == "a key that cannot be read"


def explicit_for_a_named_curve() -> Made:
    private, _public = written_by_openssl(*EXPLICIT)
    key = serialization.load_der_private_key(private, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return certificate(*SERVERS, by=ROOT, key=key, private=private)


def pss_for_an_rsa_certificate() -> Made:
    private, _public = written_by_openssl(*PSS)
    key = serialization.load_der_private_key(private, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return certificate(*SERVERS, by=ROOT, key=key, spki=rsa_spki(key), private=private)


def rsa_without_null() -> Made:
    key = new_key("rsa")
    return certificate(*SERVERS, by=ROOT, key=key, spki=rsa_spki(key, algorithm=sequence(RSA)))


GOOD: dict[str, Callable[[], Made]] = {
    "RSA": lambda: of("rsa"),
    "RSA without NULL": rsa_without_null,
    "RSA with the exponent 3": lambda: by_openssl(*rsa_with(3)),
    "P-256": lambda: of("ec"),
    "P-384": lambda: of("p384"),
    "P-521": lambda: of("p521"),
    "the private key alone has explicit parameters": explicit_for_a_named_curve,
    "the private key alone is for PSS": pss_for_an_rsa_certificate,
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", GOOD)
def test_a_key_that_is_accepted_can_be_served(kind: str, version: ssl.TLSVersion) -> None:
    made = GOOD[kind]()
    judgement = judged(made)
    assert judgement.violations == ()
    assert judgement.bundle is not None
    assert handshake(judgement.bundle, HOST, root=ROOT.der, version=version) == made.der
