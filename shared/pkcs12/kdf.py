"""Keys from passwords, with what each costs known beforehand.

The derivations are hashlib's. Only that of RFC 7292 appendix B, which no library offers by itself, is written out here.

Costs are in steps. A step is one iteration of PKCS#12's own derivation for one block of output, as it is done here,
which takes about 0.4 microseconds. What the others take beside that, `bench/pkcs12_costs.py` prints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from shared.pkcs12.asn1 import INTEGER, OCTET_STRING, OID, SATURATED, SEQUENCE, Asn1Error, Element

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """The file uses an algorithm that certcast does not read; the text is a clause that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A password in the two forms in which PKCS#12 files use it.

    Attributes:
        utf8: For PBES2 and PBMAC1 (RFC 8018).
        bmp: For the derivation of PKCS#12 itself: UTF-16 with a final null character (RFC 7292 appendix B.1).
    """

    utf8: bytes = field(repr=False)
    bmp: bytes = field(repr=False)


def spellings(passwords: Sequence[bytes | None]) -> tuple[Password, ...]:
    """The distinct forms to try.

    An absent and an empty password differ in PKCS#12 (nothing against one null character), programs disagree which one
    "no password" means, and no person can tell them apart: so either is tried for both.
    """
    tried: dict[Password, None] = {}
    for password in passwords or (None,):
        if not password:
            tried[Password(utf8=b"", bmp=b"")] = None
        try:
            text = (password or b"").decode()
        except UnicodeDecodeError:
            text = (password or b"").decode("latin-1")
        tried[Password(utf8=password or b"", bmp=text.encode("utf-16-be") + b"\0\0")] = None
    return tuple(tried)


_LONG_HASHES = frozenset({"sha384", "sha512"})


class KeyDerivation(Protocol):
    """A way from a password to a key."""

    def cost(self, size: int) -> int:
        """What deriving a key of so many octets costs, in steps."""

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

    def derive(self, password: Password, size: int) -> bytes:
        """As in `KeyDerivation`."""
        digest = hash_of(self.digest)
        block = digest().block_size
        state = _filled(self.salt, block) + _filled(password.bmp, block)
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

    def derive(self, password: Password, size: int) -> bytes:
        """As in `KeyDerivation`."""
        return hashlib.pbkdf2_hmac(self.digest, password.utf8, self.salt, self.iterations, size)


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

    def derive(self, password: Password, size: int) -> bytes:
        """As in `KeyDerivation`."""
        return hashlib.scrypt(
            password.utf8,
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
        raise UnsupportedError(f"it derives its key by an algorithm that certcast does not read ({oid})")
    salt, iterations, *rest = parameters.children(OCTET_STRING, INTEGER)
    prf = next((element for element in rest if element.tag == SEQUENCE), None)
    digest = "sha1" if prf is None else known_hash(HMACS, read_algorithm(prf)[0])
    return Pbkdf2Derivation(digest=digest, salt=salt.content, iterations=iterations.count())


def read_algorithm(algorithm: Element) -> tuple[str, Element]:
    """An AlgorithmIdentifier's object identifier and parameters; absent ones are as good as empty.

    Raises:
        Asn1Error: It is malformed.
    """
    oid, *parameters = algorithm.expect(SEQUENCE).children(OID)
    return oid.oid(), parameters[0] if parameters else Element(SEQUENCE, b"")


def known_hash(names: dict[str, str], oid: str) -> str:
    """The hash's name in hashlib.

    Raises:
        UnsupportedError: It is none of these.
    """
    if oid not in names:
        raise UnsupportedError(f"it uses a hash that certcast does not read ({oid})")
    return names[oid]
