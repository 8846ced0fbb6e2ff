"""Which keys TLS servers and browsers can use, told by the certificate's own words for its key."""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.bundle.outline import SEQUENCE, Element, elements, inside
from shared.pkcs12.asn1 import read

MIN_RSA_BITS = 2048
_MAX_EXPONENT_BITS = 33
"""Chrome's limit, as Windows has 32: rsa_check_public_key in crypto/fipsmodule/rsa of BoringSSL. OpenSSL's is 64."""
_CURVES = {"1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"}
_OTHER_CURVES = {
    "1.2.156.10197.1.301": "SM2",
    "1.3.132.0.10": "secp256k1",
    "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
    "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
}
_RSA = "1.2.840.113549.1.1.1"
_EC = "1.2.840.10045.2.1"
_OBJECT_IDENTIFIER = 0x06
_PSS = "1.2.840.113549.1.1.10"
_OTHERS = {
    "1.2.840.113549.1.1.7": "an RSA key for OAEP alone (id-RSAES-OAEP)",
    "1.2.840.10040.4.1": "a DSA key",
    "1.3.101.110": "an X25519 key, which cannot sign,",
    "1.3.101.111": "an X448 key, which cannot sign,",
    "1.3.101.112": "an EdDSA key (Ed25519)",
    "1.3.101.113": "an EdDSA key (Ed448)",
    "1.2.643.2.2.19": "a GOST key",
    "1.2.643.7.1.1.1.1": "a GOST key",
    "1.2.643.7.1.1.1.2": "a GOST key",
    "2.16.840.1.101.3.4.3.17": "an ML-DSA key",
    "2.16.840.1.101.3.4.3.18": "an ML-DSA key",
    "2.16.840.1.101.3.4.3.19": "an ML-DSA key",
}
# Those of them that OpenSSL reads without a further provider.
_VERIFIED = {"1.2.840.10040.4.1", *(f"1.3.101.{last}" for last in range(110, 114))}
GOOD_KEYS = "use RSA with 2048 bits or more, or EC on P-256, P-384 or P-521"


class Unfit(NamedTuple):
    """Why a key is of no use.

    Attributes:
        found, refused, cure: Clauses: what it is, by whom it is refused, and what to do.
        hides_chain: Whether OpenSSL says nothing else of a chain where its leaf has such a key.
    """

    found: str
    refused: str = "browsers refuse"
    cure: str = GOOD_KEYS
    hides_chain: bool = False


def unfit(key: bytes) -> Unfit | None:
    """What is wrong with a public key by its algorithm and parameters; None for what servers and browsers use.

    The private key's own words for itself do not count: it is written anew as PKCS#8 where it is served.

    Args:
        key: A subjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER, untrusted.
    """
    try:
        algorithm, bits = inside(key)
        kind, *parameters = elements(algorithm.content)
        name = read(kind.whole).oid()
        if name == _RSA:
            return _rsa(bits.content[1:])
        if name == _EC:
            return _ec(parameters)
    except ValueError:
        return Unfit("a key that cannot be read", "no client can use", hides_chain=True)
    if name == _PSS:
        return Unfit(
            "an RSA key for PSS alone (id-RSASSA-PSS)",
            "browsers refuse and HAProxy and nginx cannot serve",
            "have it issued again for an ordinary RSA key (rsaEncryption), with which TLS 1.3 uses PSS all the same",
        )
    return Unfit(_OTHERS.get(name, f"a key of the kind {name}"), hides_chain=name not in _VERIFIED)


def _rsa(key: bytes) -> Unfit | None:
    modulus, exponent = inside(key)
    bits = int.from_bytes(modulus.content).bit_length()
    if bits < MIN_RSA_BITS:
        return Unfit(f"an RSA key of {bits} bits")
    value = int.from_bytes(exponent.content, signed=True)
    if value.bit_length() > _MAX_EXPONENT_BITS:
        found = f"an RSA key with a public exponent of {value.bit_length()} bits"
    elif value <= 1 or not value & 1:
        found = f"an RSA key with the public exponent {value}"
    else:
        return None
    return Unfit(found, cure="make a key with the exponent 65537, which every tool uses unless told otherwise")


def _ec(parameters: list[Element]) -> Unfit | None:
    """By its parameters (RFC 5480 section 2.1.1): the name of a curve, and nothing else, may be there."""
    named = "write the key with the name of its curve (`openssl ec -in key.pem -param_enc named_curve -out named.pem`)"
    match parameters:
        case [Element(tag=tag) as curve] if tag == _OBJECT_IDENTIFIER:
            name = read(curve.whole).oid()
            return None if name in _CURVES else Unfit(f"an EC key on the curve {_curve(name)}")
        case [Element(tag=tag)] if tag == SEQUENCE:
            found = "an EC key with explicit parameters in place of the name of its curve"
        case [] | [Element(tag=0x05)]:
            found = "an EC key that does not say on which curve it is (implicitCurve)"
        case _:
            found = "an EC key with parameters that name no curve"
    return Unfit(
        found,
        "OpenSSL and browsers refuse (RFC 5480 section 2.1.1)",
        f"{named} and have it issued again for that one",
        hides_chain=True,
    )


def _curve(name: str) -> str:
    if name in _OTHER_CURVES:
        return _OTHER_CURVES[name]
    try:
        return ec.get_curve_for_oid(x509.ObjectIdentifier(name))().name
    except LookupError:
        return name
