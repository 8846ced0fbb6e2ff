"""Encryption and MACs of PKCS#12 files that are changed: taken off, put on again cheaply, computed again."""

from __future__ import annotations

from random import Random

from cryptography.hazmat.decrepit.ciphers.algorithms import RC2, TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.padding import PKCS7

from shared.pkcs12.asn1 import read
from shared.pkcs12.kdf import IV_PURPOSE, KEY_PURPOSE, Pkcs12Derivation
from shared.pkcs12.passwords import spellings
from shared.pkcs12.pbe import read_encryption
from tests.fuzz.der import Node, parsed
from tests.rigs import handmade_pfx as handmade

PASSWORD = "fuzz"
_CHEAP = 20_000
_DATA, _ENCRYPTED, _KEY, _SHROUDED = (
    handmade.oid(kind)[2:]
    for kind in (handmade.DATA, handmade.ENCRYPTED_DATA, handmade.KEY_BAG, handmade.SHROUDED_KEY_BAG)
)
_PBE_3DES = "1.2.840.113549.1.12.1.3"
_PBE_RC2_128 = "1.2.840.113549.1.12.1.5"


def legacy(plain: bytes, kind: str, password: str = PASSWORD) -> tuple[bytes, bytes]:
    """Encrypt as PKCS#12 did at first, with one iteration.

    Returns:
        The AlgorithmIdentifier and the ciphertext.
    """
    salt = b"saltsalt"
    [spelling] = spellings([password.encode()])
    key, iv = (
        Pkcs12Derivation(digest="sha1", salt=salt, iterations=1, purpose=purpose).derive(spelling, size)
        for purpose, size in ((KEY_PURPOSE, 24 if kind == _PBE_3DES else 16), (IV_PURPOSE, 8))
    )
    padder = PKCS7(64).padder()
    context = Cipher(TripleDES(key) if kind == _PBE_3DES else RC2(key), modes.CBC(iv)).encryptor()
    data = context.update(padder.update(plain) + padder.finalize()) + context.finalize()
    parameters = handmade.sequence(handmade.octets(salt), handmade.integer(1))
    return handmade.sequence(handmade.oid(kind), parameters), data


def sealed(plain: bytes, random: Random) -> tuple[bytes, bytes]:
    """Encrypt by one of the schemes."""
    match random.randrange(3):
        case 0:
            return legacy(plain, _PBE_3DES)
        case 1:
            return legacy(plain, _PBE_RC2_128)
        case _:
            return handmade.encrypted(plain, PASSWORD, iterations=1)


def changed_layers(root: Node, random: Random) -> None:
    """Encrypt what is plain in one place, or the other way round; leaves alone what has not that form."""
    found = [node for node in root.walk() if _kind(node) in {_DATA, _ENCRYPTED, _KEY, _SHROUDED}]
    if not found:
        return
    node = random.choice(found)
    made = _turned(_kind(node), _wrapped(node), random)
    if made is not None and (other := parsed(made)) is not None:
        node.inside = other.inside


def changed_mac(root: Node, random: Random) -> None:
    """Take the MAC off, or put on one that fits."""
    inside = root.inside or []
    if len(inside) < 2:
        return
    del inside[2:]
    content = _wrapped(inside[1])
    if random.random() < 0.5 and content is not None and (safes := parsed(content)) is not None:
        mac = handmade.pbmac1([safe.encoded() for safe in safes.inside or ()], PASSWORD, iterations=1)
        if (node := parsed(mac)) is not None:
            inside.append(node)


def _kind(node: Node) -> bytes:
    """The object identifier at its beginning."""
    inside = node.inside
    fits = node.tag == 0x30 and inside is not None and len(inside) > 1 and inside[0].tag == 0x06
    return inside[0].content if fits and inside else b""


def _wrapped(node: Node) -> bytes | None:
    """What follows in it, without its explicit tag and without the octet string around it."""
    inside = (node.inside or [])[1].inside if len(node.inside or []) > 1 else None
    if not inside:
        return None
    value = inside[0]
    if value.tag != 0x04:
        return value.encoded()
    return value.content if value.inside is None else b"".join(each.encoded() for each in value.inside)


def _turned(kind: bytes, content: bytes | None, random: Random) -> bytes | None:
    if content is None:
        return None
    if kind == _DATA:
        algorithm, data = sealed(content, random)
        return handmade.safe_of(algorithm, handmade.tlv(0x80, data))
    if kind == _KEY:
        algorithm, data = sealed(content, random)
        return handmade.bag(handmade.SHROUDED_KEY_BAG, handmade.sequence(algorithm, handmade.octets(data)))
    try:
        values = read(content).children()
        if kind == _SHROUDED:
            plain = _opened(values[0].content, values[1].octets())
            return plain and handmade.bag(handmade.KEY_BAG, plain)
        info = values[1].children()
        plain = _opened(info[1].content, info[2].octets(0x80))
        return plain and handmade.sequence(handmade.oid(handmade.DATA), handmade.explicit(handmade.octets(plain)))
    except (ValueError, IndexError):
        return None


def _opened(algorithm: bytes, data: bytes) -> bytes | None:
    encryption = read_encryption(read(handmade.sequence(algorithm)))
    if encryption.cost(data) > _CHEAP:
        return None
    return encryption.decrypt(spellings([PASSWORD.encode()])[0], data)
