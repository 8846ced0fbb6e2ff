"""Password-based keys and decryption of PKCS#12 layers, with their cost known first.

The ciphers are `cryptography`'s, except for RC2, of which it has only half.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from shared.pkcs12 import rc2
from shared.pkcs12.asn1 import INTEGER, OCTET_STRING, SEQUENCE, Asn1Error, Element
from shared.pkcs12.kdf import (
    HMACS,
    IV_PURPOSE,
    KEY_PURPOSE,
    MAC_PURPOSE,
    KeyDerivation,
    Pkcs12Derivation,
    ScryptDerivation,
    UnsupportedError,
    hash_of,
    known_hash,
    read_algorithm,
    read_derivation,
)

if TYPE_CHECKING:
    from shared.pkcs12.passwords import Password

_DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_PBES2 = "1.2.840.113549.1.5.13"
_PBMAC1 = "1.2.840.113549.1.5.14"
_MIN_MAC_KEY_BYTES, _MAX_MAC_KEY_BYTES = 20, 64
RC2_BLOCK_COST = 35
"""Steps for each block of RC2, as `bench/pkcs12_costs.py` prints it."""


class WrongPasswordError(ValueError):
    """A layer does not decrypt: another password, or damage."""

    def __init__(self, text: str = "it does not decrypt with the password") -> None:
        super().__init__(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How one layer is encrypted.

    Attributes:
        key: Derives its key.
        key_bytes: How long that is.
        iv: The initialisation vector, or what derives it.
        decryptor: Decrypts whole blocks given key, IV and data.
        block_bytes: The cipher's block.
    """

    key: KeyDerivation
    key_bytes: int
    iv: bytes | Pkcs12Derivation
    decryptor: Callable[[bytes, bytes, bytes], bytes]
    block_bytes: int

    def cost(self, data: bytes) -> int:
        """What decrypting this costs, in steps (`kdf`): key, IV, and the data where the cipher is Python's."""
        steps = self.key.cost(self.key_bytes)
        if not isinstance(self.iv, bytes):
            steps += self.iv.cost(self.block_bytes)
        return steps + (RC2_BLOCK_COST * (len(data) // rc2.BLOCK_BYTES) if self.decryptor is rc2.decrypt_cbc else 0)

    def decrypt(self, password: Password, data: bytes) -> bytes:
        """Derive and decrypt; a wrong password goes unnoticed once in 256 times and then yields noise.

        Raises:
            WrongPasswordError: The padding does not come out right.
        """
        if not data or len(data) % self.block_bytes:
            raise WrongPasswordError
        iv = self.iv if isinstance(self.iv, bytes) else self.iv.derive(password, self.block_bytes)
        try:
            padded = self.decryptor(self.key.derive(password, self.key_bytes), iv, data)
            unpadder = PKCS7(8 * self.block_bytes).unpadder()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            # The library's errors may quote what they were given.
            raise WrongPasswordError from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """How the file is authenticated.

    Attributes:
        key: Derives the MAC's key.
        key_bytes: How long that is.
        digest: HMAC's hash.
        expected: The MAC in the file.
    """

    key: KeyDerivation
    key_bytes: int
    digest: str
    expected: bytes

    @property
    def cost(self) -> int:
        """What trying one password costs, in steps."""
        return self.key.cost(self.key_bytes)

    def verifies(self, password: Password, content: bytes) -> bool:
        """Whether the content is as it was when it was written with this password."""
        computed = hmac.digest(self.key.derive(password, self.key_bytes), content, self.digest)
        return hmac.compare_digest(computed, self.expected)


def _modern(cipher: Callable[[bytes], CipherAlgorithm]) -> Callable[[bytes, bytes, bytes], bytes]:
    def decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
        context = Cipher(cipher(key), modes.CBC(iv)).decryptor()
        return context.update(data) + context.finalize()

    return decrypt


_aes = _modern(algorithms.AES)
_triple_des = _modern(lambda key: TripleDES(key + key[:8] if len(key) == 16 else key))  # noqa: PLR2004 - two of three keys

_PKCS12_SCHEMES: dict[str, tuple[int, Callable[[bytes, bytes, bytes], bytes]]] = {
    "1.2.840.113549.1.12.1.3": (24, _triple_des),
    "1.2.840.113549.1.12.1.4": (16, _triple_des),
    "1.2.840.113549.1.12.1.5": (16, rc2.decrypt_cbc),
    "1.2.840.113549.1.12.1.6": (5, rc2.decrypt_cbc),
}
_PBES2_CIPHERS: dict[str, tuple[int, int, Callable[[bytes, bytes, bytes], bytes]]] = {
    "1.2.840.113549.3.7": (24, 8, _triple_des),
    "2.16.840.1.101.3.4.1.2": (16, 16, _aes),
    "2.16.840.1.101.3.4.1.22": (24, 16, _aes),
    "2.16.840.1.101.3.4.1.42": (32, 16, _aes),
}


def read_encryption(algorithm: Element) -> Encryption:
    """Understand the AlgorithmIdentifier of an encrypted layer, without deriving anything.

    Raises:
        Asn1Error: It is malformed; `UnsupportedError` where it is an algorithm certcast does not read.
    """
    oid, parameters = read_algorithm(algorithm)
    if scheme := _PKCS12_SCHEMES.get(oid):
        key_bytes, decryptor = scheme
        salt, iterations = parameters.children(OCTET_STRING, INTEGER)[:2]
        key_of = partial(Pkcs12Derivation, digest="sha1", salt=salt.content, iterations=iterations.count())
        iv = key_of(purpose=IV_PURPOSE)
        return Encryption(
            key=key_of(purpose=KEY_PURPOSE), key_bytes=key_bytes, iv=iv, decryptor=decryptor, block_bytes=8
        )
    if oid != _PBES2:
        raise UnsupportedError("it is encrypted by", oid)
    derivation, cipher = parameters.children(SEQUENCE, SEQUENCE)[:2]
    cipher_oid, cipher_parameters = read_algorithm(cipher)
    if cipher_oid not in _PBES2_CIPHERS:
        raise UnsupportedError("it is encrypted by", cipher_oid)
    key_bytes, block_bytes, decryptor = _PBES2_CIPHERS[cipher_oid]
    iv_octets = cipher_parameters.octets()
    if len(iv_octets) != block_bytes:
        raise Asn1Error("it has an initialisation vector of the wrong length")
    key = read_derivation(derivation)
    return Encryption(key=key, key_bytes=key_bytes, iv=iv_octets, decryptor=decryptor, block_bytes=block_bytes)


def read_mac(mac_data: Element) -> Mac:
    """Understand MacData (RFC 7292 section 4), PBMAC1 included (RFC 9579), without deriving anything.

    Raises:
        Asn1Error: It is malformed; `UnsupportedError` where it is an algorithm certcast does not read.
    """
    info, salt, *rest = mac_data.children(SEQUENCE, OCTET_STRING)
    algorithm, expected = info.children(SEQUENCE, OCTET_STRING)[:2]
    oid, parameters = read_algorithm(algorithm)
    if oid == _PBMAC1:
        return _pbmac1(parameters, expected.content)
    digest = known_hash(_DIGESTS, oid, "its MAC is made with")
    iterations = rest[0].count() if rest else 1
    key = Pkcs12Derivation(digest=digest, salt=salt.content, iterations=iterations, purpose=MAC_PURPOSE)
    return Mac(key=key, key_bytes=hash_of(digest)().digest_size, digest=digest, expected=expected.content)


def _pbmac1(parameters: Element, expected: bytes) -> Mac:
    derivation, scheme = parameters.children(SEQUENCE, SEQUENCE)[:2]
    digest = known_hash(HMACS, read_algorithm(scheme)[0], "its MAC is made with")
    key = read_derivation(derivation)
    numbers = read_algorithm(derivation)[1].children()[1:]
    # RFC 9579 section 4 demands the key's length, which stands after N, r and p or after the iterations.
    place = 3 if isinstance(key, ScryptDerivation) else 1
    if len(numbers) <= place or numbers[place].tag != INTEGER:
        raise Asn1Error("its MAC (PBMAC1) does not say how long its key is, which RFC 9579 demands")
    key_bytes = numbers[place].count()
    # RFC 9579 section 9: of a very short key many passwords make the same. A very long one would multiply the cost.
    if not _MIN_MAC_KEY_BYTES <= key_bytes <= _MAX_MAC_KEY_BYTES:
        length = f"{key_bytes} octet{'' if key_bytes == 1 else 's'}"
        raise Asn1Error(
            f"its MAC (PBMAC1) is made with a key of {length}, and certcast, as OpenSSL, takes {_MIN_MAC_KEY_BYTES} to "
            f"{_MAX_MAC_KEY_BYTES} (RFC 9579)"
        )
    return Mac(key=key, key_bytes=key_bytes, digest=digest, expected=expected)
