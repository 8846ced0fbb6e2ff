"""What is in a file and in what order: bags, safes, keys beside the one that is meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import permutations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x448, x25519

from tests.corpus.row import Row
from tests.corpus.workshop import HOST, SECRET, Workshop
from tests.rigs.certificates import KeyKind, new_key
from tests.rigs.handmade_pfx import (
    DATA,
    KEY_BAG,
    PBES2,
    SAFE_CONTENTS_BAG,
    SECRET_BAG,
    SHROUDED_KEY_BAG,
    bag,
    certificate_bag,
    encrypted_safe,
    explicit,
    indefinite,
    integer,
    key_bag,
    octets,
    oid,
    pfx,
    plain_safe,
    sequence,
    shrouded_key_bag,
    tlv,
)

_FRIENDLY_NAME = "1.2.840.113549.1.9.20"
_LOCAL_KEY_ID = "1.2.840.113549.1.9.21"
_CRL_BAG = "1.2.840.113549.1.12.10.1.4"
_SDSI = "1.2.840.113549.1.9.22.2"
_RSA = "1.2.840.113549.1.1.1"
_CAMELLIA = "1.2.392.200011.61.1.1.1.4"

Bags = Callable[[Workshop], tuple[bytes, ...]]


def _ordered(order: tuple[int, ...], workshop: Workshop) -> bytes:
    bags = (*workshop.bare, certificate_bag(workshop.root.certificate))
    return workshop.plain(*(bags[place] for place in order))


def _named(bag_: bytes, *attributes: bytes) -> bytes:
    """A bag with attributes."""
    header = 2 if bag_[1] < 0x80 else 2 + bag_[1] - 0x80
    return sequence(bag_[header:], tlv(0x31, *attributes))


def _attribute(kind: str, *values: bytes) -> bytes:
    return sequence(oid(kind), tlv(0x31, *values))


def _with_names(workshop: Workshop, *names: str) -> bytes:
    attributes = [_attribute(_FRIENDLY_NAME, tlv(0x1E, name.encode("utf-16-be"))) for name in names]
    local = _attribute(_LOCAL_KEY_ID, octets(b"\1\0\0\0"))
    return workshop.plain(*(_named(each, local, *attributes) for each in workshop.bare))


def _nested(depth: int, workshop: Workshop) -> bytes:
    bags = sequence(*workshop.bare)
    for _ in range(depth):
        bags = sequence(bag(SAFE_CONTENTS_BAG, bags))
    return pfx(sequence(oid(DATA), explicit(octets(bags))))


def _of_pieces(workshop: Workshop) -> bytes:
    bags = sequence(*workshop.bare)
    pieces = indefinite(0x24, *(octets(bags[at : at + 100]) for at in range(0, len(bags), 100)))
    safes = indefinite(0x30, indefinite(0x30, oid(DATA), indefinite(0xA0, pieces)))
    whole = indefinite(0x30, oid(DATA), indefinite(0xA0, indefinite(0x24, octets(safes[:70]), octets(safes[70:]))))
    return indefinite(0x30, integer(3), whole)


def _each_alone(workshop: Workshop) -> bytes:
    return pfx(*(plain_safe(each) for each in workshop.bare))


def _each_encrypted(workshop: Workshop) -> bytes:
    return pfx(*(encrypted_safe(SECRET, each) for each in workshop.bare))


def _also(*extra: bytes) -> Callable[[Workshop], bytes]:
    return lambda workshop: workshop.plain(*extra, *workshop.bare, *extra)


# Keys beside the one that is meant


def _pkcs8_of(key: x25519.X25519PrivateKey | x448.X448PrivateKey | rsa.RSAPrivateKey) -> bytes:
    encoding = serialization.Encoding.DER
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@cache
def _other_rsa() -> bytes:
    return _pkcs8_of(rsa.generate_private_key(65537, 2048))


def _giant_rsa() -> bytes:
    numbers = sequence(*map(integer, (0, 2**65_536 + 1, 65537, 3, 2**32_768 + 1, 2**32_768 + 1, 1, 1, 1)))
    return sequence(integer(0), sequence(oid(_RSA), tlv(0x05)), octets(numbers))


def _of_unknown_kind() -> bytes:
    return sequence(integer(0), sequence(oid("1.2.3.4")), octets(b"key"))


def _shrouded_by(algorithm: bytes) -> bytes:
    return bag(SHROUDED_KEY_BAG, sequence(algorithm, octets(bytes(32))))


def _camellia() -> bytes:
    derivation = sequence(oid("1.2.840.113549.1.5.12"), sequence(octets(b"salt"), integer(1)))
    return sequence(oid(PBES2), sequence(derivation, sequence(oid(_CAMELLIA), octets(bytes(16)))))


_STRANGERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "another on P-256": (lambda: key_bag(new_key("ec")), "belongs to no certificate in the file"),
    "another of RSA": (lambda: bag(KEY_BAG, _other_rsa()), "belongs to no certificate in the file"),
    "one of Ed25519": (lambda: key_bag(new_key("ed25519")), "belongs to no certificate in the file"),
    "one of DSA": (lambda: key_bag(dsa.generate_private_key(1024)), "belongs to no certificate in the file"),  # noqa: S505
    "one of X25519": (
        lambda: bag(KEY_BAG, _pkcs8_of(x25519.X25519PrivateKey.generate())),
        "of a type that TLS servers",
    ),
    "one of X448": (lambda: bag(KEY_BAG, _pkcs8_of(x448.X448PrivateKey.generate())), "of a type that TLS servers"),
    "one of an unknown kind": (
        lambda: bag(KEY_BAG, _of_unknown_kind()),
        "of a type that TLS servers do not use (1.2.3.4)",
    ),
    "one of RSA with 65,536 bits": (lambda: bag(KEY_BAG, _giant_rsa()), "more than an RSA key of 8192 bits would"),
    "a damaged one": (lambda: bag(KEY_BAG, _other_rsa()[:-9]), "is damaged"),
    "one that is empty": (lambda: bag(KEY_BAG, sequence()), "is damaged"),
    "one that is no PKCS#8": (lambda: bag(KEY_BAG, octets(b"key")), "is damaged"),
    "one under another password": (lambda: shrouded_key_bag(new_key(), "other"), "does not decrypt with the password"),
    "one by Camellia": (lambda: _shrouded_by(_camellia()), "is encrypted by Camellia-256-CBC"),
    "one by an unknown algorithm": (
        lambda: _shrouded_by(sequence(oid("1.2.3"))),
        "is encrypted by an algorithm that is not",
    ),
    "one whose encryption is malformed": (lambda: _shrouded_by(sequence(oid(PBES2))), "is damaged"),
}


def _beside(extra: Callable[[], bytes], first: bool, workshop: Workshop) -> bytes:  # noqa: FBT001 - a place
    stranger, bags = extra(), workshop.bare
    return workshop.plain(*((stranger, *bags) if first else (*bags, stranger)))


def _instead(extra: Callable[[], bytes], workshop: Workshop) -> bytes:
    return workshop.plain(extra(), *workshop.bare[1:])


def _of_kind(kind: KeyKind | ec.EllipticCurve | int, workshop: Workshop) -> bytes:
    if isinstance(kind, str):
        key = new_key(kind)
    else:
        key = rsa.generate_private_key(65537, kind) if isinstance(kind, int) else ec.generate_private_key(kind)
    issued = workshop.intermediate.issue(HOST, key=key)
    return workshop.plain(key_bag(issued.key), *map(certificate_bag, (issued.certificate, *issued.chain)))


def _two_pairs(same_key: bool, workshop: Workshop) -> bytes:  # noqa: FBT001 - which
    other = workshop.intermediate.issue(HOST, key=workshop.issued.key if same_key else "ec")
    return workshop.plain(*workshop.bare, key_bag(other.key), certificate_bag(other.certificate))


WEAK, UNREADABLE, MISMATCH = ("weak_key",), ("unreadable_bundle",), ("key_mismatch",)

ROWS = (
    *(
        Row(
            name=f"order {order}",
            make=partial(_ordered, order),
            trusts=True,
            group="key, leaf, intermediate and root in each of 24 orders",
        )
        for order in permutations(range(4))
    ),
    *(
        Row(name=f"friendly names: {what}", make=lambda workshop, names=names: _with_names(workshop, *names))  # type: ignore[misc]
        for what, names in {
            "none": (),
            "one": ("shop",),
            "two": ("a", "b"),
            "with ü": ("grün",),
            "empty": ("",),
        }.items()
    ),
    *(Row(name=f"safes nested {depth} deep", make=partial(_nested, depth), library=False) for depth in (1, 2, 4)),
    Row(name="safes nested 5 deep", make=partial(_nested, 5), verdicts=UNREADABLE, says=("nested too deeply",)),
    Row(name="BER of indefinite length, in pieces", make=_of_pieces),
    Row(name="each bag in a safe of its own", make=_each_alone),
    Row(name="each bag in an encrypted safe of its own", make=_each_encrypted),
    Row(name="an empty safe beside", make=lambda workshop: pfx(plain_safe(), plain_safe(*workshop.bare))),
    Row(name="a secret beside", make=_also(bag(SECRET_BAG, sequence(oid(KEY_BAG), explicit(octets(b"x")))))),
    Row(
        name="a revocation list beside",
        make=_also(bag(_CRL_BAG, sequence(oid("1.2.840.113549.1.9.23.1"), explicit(octets(b"x"))))),
        openssl=None,
        library=False,
    ),
    Row(
        name="an SDSI certificate beside",
        make=_also(bag("1.2.840.113549.1.12.10.1.3", sequence(oid(_SDSI), explicit(tlv(0x16, b"eA=="))))),
    ),
    Row(name="a bag of an unknown kind beside", make=_also(bag("1.2.3.4", octets(b"x"))), openssl=None, library=False),
    Row(name="every certificate twice", make=lambda workshop: workshop.plain(*workshop.bare, *workshop.bare[1:])),
    Row(name="everything twice, the key too", make=lambda workshop: workshop.plain(*workshop.bare, *workshop.bare)),
    Row(name="no key", make=lambda workshop: workshop.plain(*workshop.bare[1:]), verdicts=("no_private_key",)),
    Row(name="no certificate", make=lambda workshop: workshop.plain(workshop.bare[0]), verdicts=("no_certificate",)),
    Row(name="nothing in it", make=lambda _: pfx(), verdicts=("no_private_key", "no_certificate"), openssl=None),
    Row(name="two certificates with their keys", make=partial(_two_pairs, False), verdicts=("ambiguous_leaf",)),
    Row(name="a renewal with the same key", make=partial(_two_pairs, True), verdicts=("ambiguous_leaf",)),
    Row(
        name="16 private keys",
        make=lambda workshop: workshop.plain(*workshop.bare, *(key_bag(new_key()) for _ in range(15))),
        warnings=("ignored_key",),
        says=("15 other private keys in the file are ignored: one belongs to no certificate",),
        library=False,
    ),
    Row(
        name="17 private keys",
        make=lambda workshop: workshop.plain(*workshop.bare, *(key_bag(new_key()) for _ in range(16))),
        verdicts=UNREADABLE,
        says=("more than 16 private keys",),
    ),
    *(
        Row(
            name=f"beside the key, {'before' if first else 'after'} it: {name}",
            make=partial(_beside, extra, first),
            warnings=("ignored_key",),
            says=("in the file is ignored: it", said),
            openssl=None,
            library=False,
            group="beside the key, before or after it: " + ", ".join(_STRANGERS),
        )
        for name, (extra, said) in _STRANGERS.items()
        for first in (True, False)
    ),
    *(
        Row(
            name=f"in place of the key: {name}",
            make=partial(_instead, extra),
            verdicts=MISMATCH if "belongs" in said else WEAK if "type" in said or "more than" in said else UNREADABLE,
            says=("" if "belongs" in said or "password" in said or "malformed" in name else said,),
            openssl=None,
        )
        for name, (extra, said) in _STRANGERS.items()
    ),
    *(Row(name=f"a key of {kind}", make=partial(_of_kind, kind)) for kind in ("ec", "p384", "p521", "rsa")),
    *(Row(name=f"a key of RSA with {bits} bits", make=partial(_of_kind, bits)) for bits in (3072,)),
    *(
        Row(name=f"a key of {kind}", make=partial(_of_kind, kind), verdicts=WEAK)
        for kind in ("rsa1024", "secp256k1", "ed25519", "ed448", "dsa")
    ),
    *(
        Row(name=f"a key on {curve.name}", make=partial(_of_kind, curve), verdicts=WEAK, openssl=None)
        for curve in (ec.SECP224R1(), ec.SECP192R1(), ec.BrainpoolP256R1(), ec.BrainpoolP384R1())
    ),
)
