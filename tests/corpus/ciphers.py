"""Every way to encrypt and to authenticate a file."""

from __future__ import annotations

from functools import partial

from tests.corpus.row import Row
from tests.corpus.workshop import SECRET, Workshop
from tests.rigs.handmade_pfx import (
    AES256_CBC,
    HMAC_SHA256,
    PBES2,
    PBKDF2,
    SHROUDED_KEY_BAG,
    bag,
    claimed_mac,
    encrypted,
    encrypted_safe,
    integer,
    octets,
    oid,
    pbmac1,
    pfx,
    pkcs8,
    plain_safe,
    safe_of,
    sequence,
    shrouded_key_bag,
    tlv,
)

READ = (
    *("AES-128-CBC", "AES-192-CBC", "AES-256-CBC", "DES-EDE3-CBC", "PBE-SHA1-3DES", "PBE-SHA1-2DES"),
    *("PBE-SHA1-RC2-128", "PBE-SHA1-RC2-40", "NONE"),
)
UNREAD = {
    "DES-CBC": "DES-CBC (",
    "RC2-CBC": "RC2-CBC (",
    "RC2-40-CBC": "RC2-CBC (",
    "CAMELLIA-128-CBC": "Camellia-128-CBC (",
    "CAMELLIA-192-CBC": "Camellia-192-CBC (",
    "CAMELLIA-256-CBC": "Camellia-256-CBC (",
    "ARIA-128-CBC": "ARIA-128-CBC (",
    "ARIA-192-CBC": "ARIA-192-CBC (",
    "ARIA-256-CBC": "ARIA-256-CBC (",
    "SEED-CBC": "SEED-CBC (",
    "SM4-CBC": "SM4-CBC (",
    "BF-CBC": "Blowfish-CBC (",
    "CAST5-CBC": "CAST5-CBC (",
    "AES-128-OFB": "AES-128-OFB (",
    "AES-128-CFB": "AES-128-CFB (",
    "AES-192-OFB": "AES-192-OFB (",
    "AES-192-CFB": "AES-192-CFB (",
    "AES-256-OFB": "AES-256-OFB (",
    "AES-256-CFB": "AES-256-CFB (",
    "PBE-MD5-DES": "MD5 and DES (PBES1) (",
    "PBE-MD5-RC2-64": "MD5 and RC2 (PBES1) (",
    "PBE-SHA1-DES": "SHA-1 and DES (PBES1) (",
    "PBE-SHA1-RC2-64": "SHA-1 and RC2 (PBES1) (",
    "PBE-SHA1-RC4-128": "SHA-1 and RC4 with 128 bits (",
    "PBE-SHA1-RC4-40": "SHA-1 and RC4 with 40 bits (",
}
"""As OpenSSL calls them, and as we do."""
READ_MACS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
UNREAD_MACS = {
    "sha512-224": "SHA-512/224 (",
    "sha512-256": "SHA-512/256 (",
    "sha3-224": "SHA3-224 (",
    "sha3-256": "SHA3-256 (",
    "sha3-384": "SHA3-384 (",
    "sha3-512": "SHA3-512 (",
    "sm3": "SM3 (",
    "ripemd160": "RIPEMD-160 (",
    "blake2b512": "BLAKE2b (",
    "blake2s256": "BLAKE2s (",
}
READ_HMACS = {
    "sha1": "1.2.840.113549.2.7",
    "sha224": "1.2.840.113549.2.8",
    "sha256": HMAC_SHA256,
    "sha384": "1.2.840.113549.2.10",
    "sha512": "1.2.840.113549.2.11",
}
UNREAD_HMACS = {
    "HMAC with MD5": ("1.2.840.113549.2.6", True),
    "HMAC with SHA-512/224": ("1.2.840.113549.2.12", True),
    "HMAC with SHA-512/256": ("1.2.840.113549.2.13", True),
    "HMAC with SHA3-256": ("2.16.840.1.101.3.4.2.14", False),
    "HMAC with SM3": ("1.2.156.10197.1.401.2", False),
    "HMAC with GOST R 34.11-94": ("1.2.643.2.2.10", False),
    "HMAC with GOST R 34.11-2012 (512 bits)": ("1.2.643.7.1.1.4.2", False),
}
"""The identifier, and whether OpenSSL 3 converts the file."""
UNREAD_OTHERS = {
    "AES-128-GCM": "2.16.840.1.101.3.4.1.6",
    "AES-256-GCM": "2.16.840.1.101.3.4.1.46",
    "AES-256-CCM": "2.16.840.1.101.3.4.1.47",
    "ChaCha20-Poly1305": "1.2.840.113549.1.9.16.3.18",
    "IDEA-CBC": "1.3.6.1.4.1.188.7.1.1.2",
    "GOST 28147-89": "1.2.643.2.2.21",
    "GOST Kuznyechik (CTR-ACPKM)": "1.2.643.7.1.1.5.2.1",
    "GOST Magma (CTR-ACPKM)": "1.2.643.7.1.1.5.1.1",
    "an algorithm that is not known": "1.2.3.4.5",
}
CONVERT = "openssl pkcs12 -legacy -in FILE -nodes -out all.pem && openssl pkcs12 -export -in all.pem -out cert.pfx"


def _by_both(cipher: str, workshop: Workshop) -> bytes:
    return workshop.export("-legacy", "-keypbe", cipher, "-certpbe", cipher)


def _by_two(key: str, certificates: str, workshop: Workshop) -> bytes:
    return workshop.export("-legacy", "-keypbe", key, "-certpbe", certificates)


def _mac(name: str, workshop: Workshop) -> bytes:
    return workshop.export("-macalg", name)


def _pbmac1(key_bytes: int, workshop: Workshop) -> bytes:
    safes = [plain_safe(*workshop.bare)]
    return pfx(*safes, mac=pbmac1(safes, SECRET, key_bytes=key_bytes, iterations=1))


def _pbkdf2(digest: str, named: str, workshop: Workshop) -> bytes:
    """A shrouded key by PBKDF2 with one HMAC, by the identifier of another where that is none of hashlib's."""
    algorithm, data = encrypted(pkcs8(workshop.issued.key), SECRET, iterations=1, digest=digest)
    algorithm = algorithm.replace(oid(READ_HMACS[digest]), oid(named))
    if named != READ_HMACS[digest]:
        algorithm = _wrapped(named)
    key = bag(SHROUDED_KEY_BAG, sequence(algorithm, octets(data)))
    return workshop.plain(key, *workshop.bare[1:])


def _wrapped(prf: str) -> bytes:
    parameters = sequence(octets(b"salt"), integer(1), sequence(oid(prf), tlv(0x05)))
    derivation = sequence(oid(PBKDF2), parameters)
    return sequence(oid(PBES2), sequence(derivation, sequence(oid(AES256_CBC), octets(bytes(16)))))


def _unread_cipher(dotted: str, workshop: Workshop) -> bytes:
    derivation = sequence(oid(PBKDF2), sequence(octets(b"salt"), integer(1)))
    algorithm = sequence(oid(PBES2), sequence(derivation, sequence(oid(dotted), octets(bytes(12)))))
    return pfx(safe_of(algorithm, tlv(0x80, bytes(32))), plain_safe(*workshop.bare))


def _scrypt(n: int, workshop: Workshop) -> bytes:
    return workshop.plain(shrouded_key_bag(workshop.issued.key, SECRET, scrypt=(n, 8, 1)), *workshop.bare[1:])


def _claimed(where: str, count: int, workshop: Workshop) -> bytes:
    key, *certificates = workshop.bare
    match where:
        case "MAC":
            return pfx(plain_safe(*workshop.bare), mac=claimed_mac(count))
        case "key":
            return workshop.plain(shrouded_key_bag(workshop.issued.key, SECRET, claimed=count), *certificates)
        case "certificates":
            return pfx(plain_safe(key), encrypted_safe(SECRET, *certificates, claimed=count))
        case _:
            hidden = shrouded_key_bag(workshop.issued.key, SECRET, claimed=count)
            return pfx(encrypted_safe(SECRET, hidden, *certificates))


def _mixed(workshop: Workshop) -> bytes:
    safes = [plain_safe(shrouded_key_bag(workshop.issued.key, "other"), *workshop.bare[1:])]
    return pfx(*safes, mac=pbmac1(safes, SECRET, iterations=1))


UNREADABLE = ("unreadable_bundle",)
EXPENSIVE = ("kdf_too_expensive",)
UNREAD_CIPHERS = "all, or the key alone, by " + ", ".join(UNREAD)
PAIRS = "the key by one and the certificates by another of " + ", ".join(READ[:-1]) + " and not at all"

ROWS = (
    *(
        Row(name=f"key {key}, certificates {other}", make=partial(_by_two, key, other), group=PAIRS)
        for key in READ
        for other in READ
    ),
    *(
        Row(
            name=f"all by {name}",
            make=partial(_by_both, name),
            verdicts=UNREADABLE,
            says=(said, CONVERT),
            group=UNREAD_CIPHERS,
        )
        for name, said in UNREAD.items()
    ),
    *(
        Row(
            name=f"key alone by {name}",
            make=partial(_by_two, name, "NONE"),
            verdicts=UNREADABLE,
            says=(said, CONVERT),
            group=UNREAD_CIPHERS,
        )
        for name, said in UNREAD.items()
    ),
    *(
        Row(
            name=f"by {name}",
            make=partial(_unread_cipher, oid),
            verdicts=UNREADABLE,
            says=(f"{name} ({oid})",),
            openssl=None,
        )
        for name, oid in UNREAD_OTHERS.items()
    ),
    *(Row(name=f"MAC {name}", make=partial(_mac, name), group="MAC " + ", ".join(READ_MACS)) for name in READ_MACS),
    *(
        Row(
            name=f"MAC {name}",
            make=partial(_mac, name),
            verdicts=UNREADABLE,
            says=(said, CONVERT),
            group="MAC " + ", ".join(UNREAD_MACS),
        )
        for name, said in UNREAD_MACS.items()
    ),
    Row(name="no MAC", make=lambda workshop: workshop.export("-nomac")),
    Row(
        name="neither MAC nor encryption",
        make=lambda workshop: workshop.export("-nomac", "-keypbe", "NONE", "-certpbe", "NONE"),
    ),
    *(
        Row(name=f"PBMAC1 with a key of {size} octets", make=partial(_pbmac1, size), openssl=None)
        for size in (20, 32, 64)
    ),
    *(
        Row(
            name=f"PBMAC1 with a key of {size} octet{'' if size == 1 else 's'}",
            make=partial(_pbmac1, size),
            verdicts=UNREADABLE,
            says=(f"a key of {size} octet", "takes 20 to 64"),
            openssl=None,
        )
        for size in (1, 8, 19, 65)
    ),
    *(
        Row(
            name=f"PBKDF2 with HMAC of {digest}",
            make=partial(_pbkdf2, digest, named),
            group="PBKDF2 with HMAC of " + ", ".join(READ_HMACS),
        )
        for digest, named in READ_HMACS.items()
    ),
    *(
        Row(
            name=f"PBKDF2 by {name}",
            make=partial(_pbkdf2, "sha256", dotted),
            verdicts=UNREADABLE,
            says=(f"derives a key by {name} ({dotted})", CONVERT if convertible else "with AES and HMAC-SHA-256"),
            openssl=None,
        )
        for name, (dotted, convertible) in UNREAD_HMACS.items()
    ),
    *(Row(name=f"scrypt with N={n}", make=partial(_scrypt, n)) for n in (1024, 8192)),
    Row(name="scrypt with N=1048576", make=partial(_scrypt, 2**20), verdicts=EXPENSIVE, openssl=None),
    *(
        Row(
            name=f"{count:,} iterations for the {where}",
            make=partial(_claimed, where, count),
            verdicts=EXPENSIVE,
            says=("openssl pkcs12 -export -iter 10000",),
            openssl=None,
            group="5,000,000 iterations or more for MAC, key, certificates, or the key inside the certificates' layer",
        )
        for where in ("MAC", "key", "certificates", "key inside the certificates' layer")
        for count in (5_000_000, 2**31 - 1, 2**62)
    ),
    *(
        Row(
            name=f"{count:,} iterations throughout",
            make=lambda workshop, count=count: workshop.export("-iter", str(count), quick=()),  # type: ignore[misc]
            group="2 to 100,000 iterations throughout",
        )
        for count in (2, 1000, 2048, 10_000, 100_000)
    ),
    Row(
        name="the key under another password than the MAC",
        make=_mixed,
        verdicts=UNREADABLE,
        says=("the password is the one of its MAC, but not of all",),
        openssl=None,
    ),
)
