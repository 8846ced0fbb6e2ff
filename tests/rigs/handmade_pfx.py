"""PKCS#12 files put together by hand in shapes that no program writes: hostile, odd or new ones."""

import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from shared.bundle import PrivateKey

DATA = "1.2.840.113549.1.7.1"
ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"
SIGNED_DATA = "1.2.840.113549.1.7.2"
KEY_BAG = "1.2.840.113549.1.12.10.1.1"
SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2"
CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3"
SECRET_BAG = "1.2.840.113549.1.12.10.1.5"
SAFE_CONTENTS_BAG = "1.2.840.113549.1.12.10.1.6"
X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"
PBES2 = "1.2.840.113549.1.5.13"
PBKDF2 = "1.2.840.113549.1.5.12"
PBMAC1 = "1.2.840.113549.1.5.14"
SCRYPT = "1.3.6.1.4.1.11591.4.11"
HMAC_SHA256 = "1.2.840.113549.2.9"
SHA256 = "2.16.840.1.101.3.4.2.1"
_HMACS = {
    "sha1": "1.2.840.113549.2.7",
    "sha224": "1.2.840.113549.2.8",
    "sha256": HMAC_SHA256,
    "sha384": "1.2.840.113549.2.10",
    "sha512": "1.2.840.113549.2.11",
}
AES256_CBC = "2.16.840.1.101.3.4.1.42"
PBE_3DES = "1.2.840.113549.1.12.1.3"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER value."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def indefinite(tag: int, *parts: bytes) -> bytes:
    """One BER value of indefinite length."""
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        encoded += bytes(reversed(groups))
    return tlv(0x06, bytes(encoded))


def explicit(value: bytes) -> bytes:
    return tlv(0xA0, value)


def pkcs8(key: PrivateKey) -> bytes:
    """The key, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def bag(kind: str, value: bytes) -> bytes:
    return sequence(oid(kind), explicit(value))


def key_bag(key: PrivateKey) -> bytes:
    return bag(KEY_BAG, pkcs8(key))


def certificate_bag(certificate: x509.Certificate) -> bytes:
    der = certificate.public_bytes(serialization.Encoding.DER)
    return bag(CERTIFICATE_BAG, sequence(oid(X509_CERTIFICATE), explicit(octets(der))))


def encrypted(
    plain: bytes,
    password: str,
    *,
    iterations: int = 1000,
    claimed: int | None = None,
    scrypt: tuple[int, int, int] | None = None,
    default_hash: bool = False,
    digest: str = "sha256",
) -> tuple[bytes, bytes]:
    """Encrypt as PBES2 with AES-256 does.

    Args:
        plain: What to encrypt.
        password: With which password.
        iterations: Of PBKDF2.
        claimed: The count to write into the file in place of the true one.
        scrypt: N, r and p where the key comes from scrypt instead.
        default_hash: Whether to name no hash, which means SHA-1.
        digest: The hash for PBKDF2 otherwise.

    Returns:
        The AlgorithmIdentifier and the ciphertext.
    """
    salt, iv = os.urandom(16), os.urandom(16)
    if scrypt is not None:
        n, r, p = scrypt
        affordable = 128 * n * r < 2**24
        key = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, dklen=32) if affordable else bytes(32)
        derivation = sequence(oid(SCRYPT), sequence(octets(salt), integer(n), integer(r), integer(p)))
    else:
        key = hashlib.pbkdf2_hmac("sha1" if default_hash else digest, password.encode(), salt, iterations, 32)
        prf = b"" if default_hash else sequence(oid(_HMACS[digest]), tlv(0x05))
        count = integer(iterations if claimed is None else claimed)
        derivation = sequence(oid(PBKDF2), sequence(octets(salt), count, prf))
    padder = PKCS7(128).padder()
    context = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    data = context.update(padder.update(plain) + padder.finalize()) + context.finalize()
    return sequence(oid(PBES2), sequence(derivation, sequence(oid(AES256_CBC), octets(iv)))), data


def shrouded_key_bag(
    key: PrivateKey, password: str, *, claimed: int | None = None, scrypt: tuple[int, int, int] | None = None
) -> bytes:
    algorithm, data = encrypted(pkcs8(key), password, claimed=claimed, scrypt=scrypt)
    return bag(SHROUDED_KEY_BAG, sequence(algorithm, octets(data)))


def plain_safe(*bags: bytes) -> bytes:
    return sequence(oid(DATA), explicit(octets(sequence(*bags))))


def encrypted_safe(password: str, *bags: bytes, claimed: int | None = None) -> bytes:
    algorithm, data = encrypted(sequence(*bags), password, claimed=claimed)
    return safe_of(algorithm, tlv(0x80, data))


def safe_of(algorithm: bytes, *content: bytes) -> bytes:
    """EncryptedData with this algorithm and content."""
    return sequence(oid(ENCRYPTED_DATA), explicit(sequence(integer(0), sequence(oid(DATA), algorithm, *content))))


def pfx(*safes: bytes, mac: bytes = b"") -> bytes:
    return sequence(integer(3), sequence(oid(DATA), explicit(octets(sequence(*safes)))), mac)


def pbmac1(safes: Sequence[bytes], password: str, *, key_bytes: int = 32, iterations: int = 1000) -> bytes:
    """MacData as RFC 9579 has it, over a file of these safes."""
    salt = os.urandom(16)
    prf = sequence(oid(HMAC_SHA256), tlv(0x05))
    parameters = sequence(octets(salt), integer(iterations), integer(key_bytes), prf)
    algorithm = sequence(oid(PBMAC1), sequence(sequence(oid(PBKDF2), parameters), prf))
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations, key_bytes)
    return sequence(
        sequence(algorithm, octets(hmac.digest(key, sequence(*safes), "sha256"))), octets(b"unused"), integer(1)
    )


def claimed_mac(iterations: int) -> bytes:
    """MacData that asks for so many iterations and fits nothing."""
    return sequence(
        sequence(sequence(oid(SHA256), tlv(0x05)), octets(bytes(32))), octets(b"saltsalt"), integer(iterations)
    )
