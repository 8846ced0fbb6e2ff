"""Loading one untrusted private key, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from shared.pkcs12.asn1 import INTEGER, OID, SEQUENCE, Asn1Error, read

if TYPE_CHECKING:
    from shared.bundle import PrivateKey

MAX_RSA_BITS = 8192
"""Checking a longer RSA key takes minutes, and no browser or public CA has a use for one."""

_DAMAGED = "is damaged"

# How long a key takes to load is its sender's choice; so a limit comes first: the most octets of PKCS#8 that an honest
# key of each type needs.
_MOST_OCTETS = {
    "1.2.840.113549.1.1.1": 5120,  # RSA, 8192 bits
    "1.2.840.113549.1.1.10": 5120,  # RSA for PSS only
    "1.2.840.10045.2.1": 1024,  # EC
    "1.2.840.10040.4.1": 1400,  # DSA
    "1.3.101.112": 256,  # Ed25519
    "1.3.101.113": 256,  # Ed448
}


class UnfitKeyError(ValueError):
    """The key is of a kind or size that is not even loaded; the text says which, as in "is of a type"."""


def load_private_key(pkcs8: bytes, *, check: bool = True) -> PrivateKey:
    """Load one key.

    Args:
        pkcs8: DER of an unencrypted PrivateKeyInfo (RFC 5208).
        check: Whether to check an RSA key thoroughly: up to three seconds for 8192 bits.

    Raises:
        UnfitKeyError: No server can use such a key, whether or not it is sound.
        ValueError: It is damaged; the text is a clause of the same kind, and holds nothing of the key.
    """
    try:
        kind = _kind(pkcs8)
    except Asn1Error:
        raise ValueError(_DAMAGED) from None
    if kind not in _MOST_OCTETS:
        raise UnfitKeyError(f"is of a type that TLS servers do not use ({kind})")
    if len(pkcs8) > _MOST_OCTETS[kind]:
        raise UnfitKeyError(f"takes {len(pkcs8)} octets, more than an RSA key of {MAX_RSA_BITS} bits would")
    try:
        key = load_der_private_key(pkcs8, None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, rsa.RSAPrivateKey) and check and _is_bounded(key):
            key = load_der_private_key(pkcs8, None)
    except Exception:  # noqa: BLE001 - among them its InternalError, for an Ed25519 key of a wrong length
        # The library's errors may quote what they were given.
        raise ValueError(_DAMAGED) from None
    return cast("PrivateKey", key)  # its object identifier said so


def _kind(pkcs8: bytes) -> str:
    """The object identifier of its algorithm."""
    _version, algorithm, *_ = read(pkcs8).expect(SEQUENCE).children(INTEGER, SEQUENCE)
    return algorithm.children(OID)[0].oid()


def _is_bounded(key: rsa.RSAPrivateKey) -> bool:
    """Refuse numbers that do not fit together: only then do the modulus' bits bound the primes to be tested."""
    numbers = key.private_numbers()
    if numbers.p * numbers.q != numbers.public_numbers.n or key.key_size > MAX_RSA_BITS:
        raise ValueError(_DAMAGED)
    return True
