"""Keys from passwords, with what each costs known beforehand.

The derivations are hashlib's. Only that of RFC 7292 appendix B, which no library offers by itself, is written out here.

Costs are in steps. A step is one iteration of PKCS#12's own derivation for one block of output, as it is done here,
which takes about 0.4 microseconds. What the others take beside that, `bench/pkcs12_costs.py` prints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from shared.pkcs12.asn1 import INTEGER, OCTET_STRING, OID, SATURATED, SEQUENCE, Asn1Error, Element
from shared.pkcs12.names import called, is_convertible

if TYPE_CHECKING:
    from shared.pkcs12.passwords import Password

HMACS = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_SCRYPT_MEMORY_BYTES = 64 * 1024 * 1024
_USUAL_SCRYPT_N = 1024

KEY_PURPOSE, IV_PURPOSE, MAC_PURPOSE = 1, 2, 3
"""What PKCS#12's own derivation is for (RFC 7292 appendix B.3)."""


class UnsupportedError(Asn1Error):
    """The file uses an algorithm that certcast does not read; the text is a clause that names it.

    Attributes:
        convertible: Whether OpenSSL reads it.
    """

    def __init__(self, used_for: str, oid: str) -> None:
        """Name it.

        Args:
            used_for: How the clause begins, such as "it is encrypted by".
            oid: The algorithm's identifier.
        """
        super().__init__(f"{used_for} {called(oid)}, which certcast does not read")
        self.convertible = is_convertible(oid)


_LONG_HASHES = frozenset({"sha384", "sha512"})


class KeyDerivation(Protocol):
    """A way from a password to a key."""

    def cost(self, size: int) -> int:
        """What deriving a key of so many octets costs, in steps."""

    def material(self, password: Password) -> bytes:
        """The form of the password that a key is derived from."""

    def derive(self, password: Password, size: int) -> bytes:
        """A key of so many octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs12Derivation:
    """RFC 7292 appendix B.2.

    Attributes:
        digest: The hash's name in hashlib.
        salt: From the file.
        iterations: From the file.
        purpose: What is derived: key, IV or MAC key.
    """

    digest: str
    salt: bytes
    iterations: int
    purpose: int

    def cost(self, size: int) -> int:
        """As in `KeyDerivation`: every block of output takes all iterations, a third more where the hash is long."""
        steps = self.iterations * _blocks(size, self.digest)
        return steps * 4 // 3 if self.digest in _LONG_HASHES else steps

    def material(self, password: Password) -> bytes:
        """As in `KeyDerivation`."""
        return password.bmp

    def derive(self, password: Password, size: int) -> bytes:
        """As in `KeyDerivation`."""
        digest = hash_of(self.digest)
        block = digest().block_size
        state = _filled(self.salt, block) + _filled(self.material(password), block)
        derived = b""
        while True:
            output = digest(bytes([self.purpose]) * block + state).digest()
            for _ in range(self.iterations - 1):
                output = digest(output).digest()
            derived += output
            if len(derived) >= size:
                return derived[:size]
            addend = int.from_bytes(_filled(output, block)) + 1
            state = b"".join(
                ((int.from_bytes(state[i : i + block]) + addend) % 256**block).to_bytes(block)
                for i in range(0, len(state), block)
            )


def hash_of(name: str) -> partial[hashlib._Hash]:
    """The constructor of hashlib's; found once, as looking it up by name costs more than hashing."""
    return partial(getattr(hashlib, name), usedforsecurity=False)


def _blocks(size: int, digest: str) -> int:
    """How many outputs of a hash make a key of so many octets."""
    return max(1, -(-size // hash_of(digest)().digest_size))


def _filled(text: bytes, block: int) -> bytes:
    """The text repeated until it fills whole blocks."""
    size = -(-len(text) // block) * block
    return (text * (size // len(text) + 1))[:size] if text else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pbkdf2Derivation:
    """RFC 8018 section 5.2."""

    digest: str
    salt: bytes
    iterations: int

    def cost(self, size: int) -> int:
        """As in `KeyDerivation`: an iteration takes half a step, a whole one where the hash is long."""
        iterations = self.iterations * _blocks(size, self.digest)
        return iterations if self.digest in _LONG_HASHES else -(-iterations // 2)

    def material(self, password: Password) -> bytes:
        """As in `KeyDerivation`."""
        return password.utf8

    def derive(self, password: Password, size: int) -> bytes:
        """As in `KeyDerivation`."""
        return hashlib.pbkdf2_hmac(self.digest, self.material(password), self.salt, self.iterations, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScryptDerivation:
    """RFC 7914."""

    salt: bytes
    n: int
    r: int
    p: int

    def cost(self, size: int) -> int:  # noqa: ARG002 - the last of it makes no difference
        """As in `KeyDerivation`: two steps for each of N·r·p where N is small, else less than one.

        As good as endless where it would need more memory than certcast gives it.
        """
        if 128 * self.n * self.r > _SCRYPT_MEMORY_BYTES:
            return SATURATED
        return self.n * self.r * self.p * (1 if self.n >= _USUAL_SCRYPT_N else 2)

    def material(self, password: Password) -> bytes:
        """As in `KeyDerivation`."""
        return password.utf8

    def derive(self, password: Password, size: int) -> bytes:
        """As in `KeyDerivation`."""
        return hashlib.scrypt(
            self.material(password),
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=2 * _SCRYPT_MEMORY_BYTES,
            dklen=size,
        )


def read_derivation(algorithm: Element) -> KeyDerivation:
    """Understand the AlgorithmIdentifier of a derivation, without deriving anything.

    Raises:
        Asn1Error: It is malformed; `UnsupportedError` where it is an algorithm certcast does not read.
    """
    oid, parameters = read_algorithm(algorithm)
    if oid == _SCRYPT:
        salt, n, r, p = parameters.children(OCTET_STRING, INTEGER, INTEGER, INTEGER)[:4]
        return ScryptDerivation(salt=salt.content, n=n.count(), r=r.count(), p=p.count())
    if oid != _PBKDF2:
        raise UnsupportedError("it derives a key by", oid)
    salt, iterations, *rest = parameters.children(OCTET_STRING, INTEGER)
    prf = next((element for element in rest if element.tag == SEQUENCE), None)
    digest = "sha1" if prf is None else known_hash(HMACS, read_algorithm(prf)[0], "it derives a key by")
    return Pbkdf2Derivation(digest=digest, salt=salt.content, iterations=iterations.count())


def read_algorithm(algorithm: Element) -> tuple[str, Element]:
    """An AlgorithmIdentifier's object identifier and parameters; absent ones are as good as empty.

    Raises:
        Asn1Error: It is malformed.
    """
    oid, *parameters = algorithm.expect(SEQUENCE).children(OID)
    return oid.oid(), parameters[0] if parameters else Element(SEQUENCE, b"")


def known_hash(names: dict[str, str], oid: str, used_for: str) -> str:
    """The hash's name in hashlib.

    Args:
        names: The hashes that are read.
        oid: The one in the file.
        used_for: As in `UnsupportedError`.

    Raises:
        UnsupportedError: It is none of these.
    """
    if oid not in names:
        raise UnsupportedError(used_for, oid)
    return names[oid]
