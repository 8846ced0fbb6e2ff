"""A family of chains: each rule that a client may apply kept and broken, on each certificate of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.rigs.certificates import new_key
from tests.rigs.chains import (
    ANY,
    ANY_POLICY,
    AUTHORITY_KEY,
    CLIENT,
    GATED,
    MAIL,
    NETSCAPE_TYPE,
    POLICIES,
    POLICY_CONSTRAINTS,
    SERVER,
    UNKNOWN,
    Chain,
    address,
    ca,
    chain,
    constraints,
    directory,
    explicit_curve,
    key_usage,
    leaf,
    mailbox,
    named_authority,
    path_length,
    usages,
)
from tests.rigs.handmade_certificate import (
    AUTHORITY_ACCESS,
    AUTHORITYS,
    BASIC_CONSTRAINTS,
    CA_ONLY,
    CA_USE,
    CRITICAL_FALSE,
    CRL_POINTS,
    ECDSA_SHA256_NULL,
    HOST,
    KEY_IDENTIFIER,
    NO_CA,
    SERVER_PURPOSE,
    SERVER_USE,
    SERVERS,
    TLS_FEATURE,
    TRUE,
    Made,
    alternative_names,
    certificate,
    dates,
    dns,
    extension,
    named,
    root,
)
from tests.rigs.handmade_pfx import integer, octets, oid, sequence, tlv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

V1 = b""
PLAIN_CA = extension(BASIC_CONSTRAINTS, sequence(TRUE))
POLICY = sequence(sequence(oid("1.3.6.1.4.1.4146.11.1.3")))
POINTS = sequence(sequence(tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://crl.example.net/ca.crl")))))
ACCESS = sequence(sequence(oid("1.3.6.1.5.5.7.48.2"), tlv(0x86, b"http://ca.example.net/ca.cer")))

CRITICAL: dict[str, bytes] = {
    "policies": extension(POLICIES, POLICY, TRUE),
    "CRL distribution points": extension(CRL_POINTS, POINTS, TRUE),
    "policy constraints": extension(POLICY_CONSTRAINTS, sequence(tlv(0x80, b"\0")), TRUE),
    "inhibitAnyPolicy": extension(ANY_POLICY, integer(0), TRUE),
    "subject key identifier": extension(KEY_IDENTIFIER, octets(b"12345678"), TRUE),
    "access information": extension(AUTHORITY_ACCESS, ACCESS, TRUE),
    "TLS feature": extension(TLS_FEATURE, sequence(integer(5)), TRUE),
    "an unknown one": extension(UNKNOWN, sequence(), TRUE),
}
"""Extensions that are critical, and known to some clients."""

AUTHORITIES: dict[str, tuple[bytes, ...]] = {
    "basicConstraints not critical": (PLAIN_CA, CA_USE),
    "basicConstraints not critical, no keyUsage": (PLAIN_CA,),
    "no keyUsage": (CA_ONLY,),
    "no extensions but keyUsage": (CA_USE,),
    "CA:FALSE": (NO_CA, CA_USE),
    "no keyCertSign": (CA_ONLY, key_usage(b"\x07\x80")),
    "keyUsage not critical": (CA_ONLY, extension("2.5.29.15", b"\x03\x02\x01\x06")),
    "serverAuth": (*AUTHORITYS, usages(SERVER)),
    "clientAuth": (*AUTHORITYS, usages(CLIENT)),
    "clientAuth and serverAuth": (*AUTHORITYS, usages(CLIENT, SERVER)),
    "anyExtendedKeyUsage": (*AUTHORITYS, usages(ANY)),
    "anyExtendedKeyUsage and mail": (*AUTHORITYS, usages(ANY, MAIL)),
    "gated cryptography": (*AUTHORITYS, usages(GATED)),
    "serverAuth, critical": (*AUTHORITYS, usages(SERVER, critical=TRUE)),
    "clientAuth, critical": (*AUTHORITYS, usages(CLIENT, critical=TRUE)),
    "pathlen 0": (path_length(0), CA_USE),
    "pathlen 1": (path_length(1), CA_USE),
    "names: permitted": (*AUTHORITYS, constraints(permitted=(dns("example.com"),))),
    "names: permitted with a dot": (*AUTHORITYS, constraints(permitted=(dns(".example.com"),))),
    "names: the very host": (*AUTHORITYS, constraints(permitted=(dns(HOST),))),
    "names: others permitted": (*AUTHORITYS, constraints(permitted=(dns("corp.example.net"),))),
    "names: others permitted, not critical": (
        *AUTHORITYS,
        constraints(permitted=(dns("corp.example.net"),), critical=b""),
    ),
    "names: excluded": (*AUTHORITYS, constraints(excluded=(dns("example.com"),))),
    "names: others excluded": (*AUTHORITYS, constraints(excluded=(dns("example.net"),))),
    "names: all excluded": (*AUTHORITYS, constraints(excluded=(dns(""),))),
    "names: permitted but the host excluded": (
        *AUTHORITYS,
        constraints(permitted=(dns("example.com"),), excluded=(dns(HOST),)),
    ),
    "names: addresses only": (*AUTHORITYS, constraints(permitted=(address(10, 0, 0, 0, 255, 0, 0, 0),))),
    "names: mail only": (*AUTHORITYS, constraints(permitted=(mailbox("example.net"),))),
    "names: the subject permitted": (*AUTHORITYS, constraints(permitted=(directory(HOST),))),
    "names: another subject permitted": (*AUTHORITYS, constraints(permitted=(directory("another"),))),
    "names: the subject excluded": (*AUTHORITYS, constraints(excluded=(directory(HOST),))),
    "names: another subject excluded": (*AUTHORITYS, constraints(excluded=(directory("another"),))),
}
"""What an authority may be like, sound or not."""


def _authorities() -> Iterator[tuple[str, Chain]]:
    for name, own in AUTHORITIES.items():
        top = certificate(*own, subject="Root", validity=dates(end_days=3000))
        yield f"root: {name}", chain(top, trusted=(top,))
        between = ca(top)
        yield f"root above an intermediate: {name}", chain(between, between, trusted=(top,))
        good = root()
        middle = ca(good, own=own)
        yield f"intermediate: {name}", chain(middle, middle, trusted=(good,))
        low = ca(middle, subject="Lower CA")
        yield f"upper intermediate: {name}", chain(low, low, middle, trusted=(good,))
        yield f"trusted intermediate: {name}", chain(middle, middle, trusted=(middle,))


def _critical() -> Iterator[tuple[str, Chain]]:
    for name, more in CRITICAL.items():
        good = root()
        middle = ca(good)
        yield f"leaf: critical {name}", Chain(leaf=leaf(middle, more), others=(middle,), trusted=(good,))
        odd = ca(good, more)
        yield f"intermediate: critical {name}", chain(odd, odd, trusted=(good,))
        top = certificate(*AUTHORITYS, more, subject="Root", validity=dates(end_days=3000))
        yield f"root: critical {name}", chain(top, trusted=(top,))


def _dates() -> Iterator[tuple[str, Chain]]:
    for name, validity in {"lapsed": dates(-900, -1), "not yet valid": dates(1, 900)}.items():
        top = certificate(*AUTHORITYS, subject="Root", validity=validity)
        yield f"root: {name}", chain(top, trusted=(top,))
        good = root()
        middle = ca(good, validity=validity)
        yield f"intermediate: {name}", chain(middle, middle, trusted=(good,))


def _versions() -> Iterator[tuple[str, Chain]]:
    first = certificate(subject="Root", version=V1, validity=dates(end_days=3000))
    yield "root of version 1", chain(first, trusted=(first,))
    middle = ca(first)
    yield "root of version 1 above an intermediate", chain(middle, middle, trusted=(first,))
    good = root()
    old = ca(good, own=(), version=V1)
    yield "intermediate of version 1", chain(old, old, trusted=(good,))


def _leaves() -> Iterator[tuple[str, Chain]]:
    named_host = alternative_names(dns(HOST))
    leaves: dict[str, tuple[bytes, ...]] = {
        "no basicConstraints": (SERVER_USE, SERVER_PURPOSE, named_host),
        "no extendedKeyUsage": (NO_CA, SERVER_USE, named_host),
        "anyExtendedKeyUsage": (NO_CA, SERVER_USE, usages(ANY), named_host),
        "anyExtendedKeyUsage and serverAuth": (NO_CA, SERVER_USE, usages(ANY, SERVER), named_host),
        "clientAuth": (NO_CA, SERVER_USE, usages(CLIENT), named_host),
        "serverAuth, critical": (NO_CA, SERVER_USE, usages(SERVER, critical=TRUE), named_host),
        "a wildcard": (NO_CA, SERVER_USE, SERVER_PURPOSE, alternative_names(dns("*.example.com"))),
        "Netscape's client": (NO_CA, SERVER_USE, named_host, extension(NETSCAPE_TYPE, b"\x03\x02\x07\x80")),
        "Netscape's server": (NO_CA, SERVER_USE, named_host, extension(NETSCAPE_TYPE, b"\x03\x02\x06\x40")),
        "name constraints": (*SERVERS, constraints(permitted=(dns("example.com"),))),
    }
    for name, own in leaves.items():
        good = root()
        middle = ca(good)
        yield f"leaf: {name}", Chain(leaf=leaf(middle, own=own), others=(middle,), trusted=(good,))


def _identifiers() -> Iterator[tuple[str, Chain]]:
    good = root()
    identified = ca(good, extension(KEY_IDENTIFIER, octets(b"12345678")))
    fits = extension(AUTHORITY_KEY, sequence(tlv(0x80, b"12345678")))
    misses = extension(AUTHORITY_KEY, sequence(tlv(0x80, b"87654321")))
    for name, more in {
        "key identifier fits": fits,
        "key identifier of another": misses,
        "issuer and serial number fit": named_authority(good.name),
        "issuer and serial number of another": named_authority(good.name, b"\x01\x02"),
        "issuer of another": named_authority(named("another")),
    }.items():
        yield f"leaf: {name}", Chain(leaf=leaf(identified, more), others=(identified,), trusted=(good,))


def _easy_rsa() -> Iterator[tuple[str, Chain]]:
    """A private authority as EasyRSA made it until 2026."""
    own = (PLAIN_CA, extension("2.5.29.15", b"\x03\x02\x01\x06"), extension(KEY_IDENTIFIER, octets(b"of the root")))
    name = named("Easy-RSA CA")
    by_key = tlv(0x80, b"of the root")
    identified = extension(AUTHORITY_KEY, sequence(by_key, tlv(0xA1, tlv(0xA4, name)), tlv(0x82, b"\x12\x67")))
    top = certificate(*own, identified, subject=name, validity=dates(end_days=3000))
    yield "EasyRSA, from the root", Chain(leaf=leaf(top, identified), others=(), trusted=(top,))
    between = ca(top, identified, own=own[:2])
    yield "EasyRSA, from an intermediate", chain(between, between, trusted=(top,))


def _spellings() -> Iterator[tuple[str, Chain]]:
    good = root("Root CA")
    for name, spelled in {
        "another string type": named("Root CA", 0x13),
        "another letter case": named("ROOT ca"),
        "more spaces": named(" Root   CA "),
        "another name": named("Root CB"),
    }.items():
        below = certificate(*SERVERS, by=good, issuer=spelled)
        yield f"issuer in {name}", Chain(leaf=below, others=(), trusted=(good,))


def _gaps() -> Iterator[tuple[str, Chain]]:
    good = root()
    middle = ca(good)
    low = ca(middle, subject="Lower CA")
    yield "sound", chain(middle, middle, trusted=(good,))
    yield "sound, of three, in any order", chain(low, good, middle, low, middle, trusted=(good,))
    yield "leaf from the root", chain(good, trusted=(good,))
    yield "the root in the file", chain(good, good, trusted=(good,))
    yield "the lower one missing", chain(low, middle, trusted=(good,))
    yield "the upper one missing", chain(low, low, trusted=(good,))
    yield "another root trusted", chain(middle, middle, good, trusted=(root("Another"),))
    yield "a namesake trusted", chain(middle, middle, trusted=(root(),))
    yield "two roots of one name", chain(middle, middle, trusted=(root(), good, root()))
    yield "the intermediate trusted", chain(low, low, trusted=(low,))
    yield "the upper intermediate trusted", chain(low, low, trusted=(middle,))
    alone = certificate(*SERVERS)
    yield "self-signed", Chain(leaf=alone, others=(), trusted=(good,))
    yield "self-signed and trusted", Chain(leaf=alone, others=(), trusted=(alone,))
    yield "a namesake's certificate", chain(middle, ca(root()), trusted=(good,))
    rolled = ca(ca(good, own=(path_length(0), CA_USE)), own=(path_length(0), CA_USE))
    above = ca(good, own=(path_length(0), CA_USE), key=rolled.key)
    yield "a new key signed by the old", chain(rolled, rolled, above, trusted=(good,))


def _malformed() -> Iterator[tuple[str, Chain]]:
    good = root()
    slip = ca(good, CRITICAL_FALSE)
    yield "intermediate: critical FALSE", chain(slip, slip, trusted=(good,))
    null = ca(good, algorithm=ECDSA_SHA256_NULL)
    yield "intermediate: NULL parameters", chain(null, null, trusted=(good,))
    access = ca(good, extension(AUTHORITY_ACCESS, b"\x30\x05\x01"))
    yield "intermediate: broken access information", chain(access, access, trusted=(good,))
    broken = ca(good, own=(extension(BASIC_CONSTRAINTS, b"\x30\x05\x01"), CA_USE))
    yield "intermediate: broken basicConstraints", chain(broken, broken, trusted=(good,))


def bad_twins() -> dict[str, Callable[[Made, Made], Made]]:
    """A bad certificate for a good one's authority, by another authority: what is wrong with it, and how it is made."""

    def like(*own: bytes, **how: Any) -> Callable[[Made, Made], Made]:
        return lambda by, good: ca(by, own=own or AUTHORITYS, key=good.key, **how)

    return {
        "lapsed": like(validity=dates(-900, -1)),
        "not yet valid": like(validity=dates(1, 2000)),
        "no authority": like(NO_CA, CA_USE),
        "no keyCertSign": like(CA_ONLY, key_usage(b"\x07\x80")),
        "not for servers": like(*AUTHORITYS, usages(MAIL)),
        "names permitted": like(*AUTHORITYS, constraints(permitted=(dns("corp.example.net"),))),
        "names excluded": like(*AUTHORITYS, constraints(excluded=(dns("example.com"),))),
        "subjects permitted": like(*AUTHORITYS, constraints(permitted=(directory("another"),))),
        "a critical extension": like(*AUTHORITYS, CRITICAL["an unknown one"]),
        "malformed": like(*AUTHORITYS, extension(BASIC_CONSTRAINTS, b"\x30\x05\x01")),
    }


def _twins() -> Iterator[tuple[str, Chain]]:
    for name, twin in bad_twins().items():
        one, two = root("Root A"), root("Root B")
        good = ca(one)
        bad = twin(two, good)
        for order, others in {"first": (bad, good), "last": (good, bad)}.items():
            yield f"a twin, {order}: {name}", chain(good, *others, trusted=(one, two))
        yield f"a twin alone: {name}", chain(good, bad, trusted=(one, two))
        low = ca(good, subject="Lower CA")
        yield f"a twin above: {name}", chain(low, bad, low, good, trusted=(two, one))
    one, two = root("Root A"), root("Root B")
    good = ca(one)
    crossed = ca(two, subject="Root A", key=one.key)
    yield "a cross-signed root", chain(good, good, crossed, trusted=(two,))
    yield "a cross-signed root, both trusted", chain(good, good, crossed, trusted=(one, two))
    lapsed = ca(two, subject="Root A", key=one.key, validity=dates(-900, -1))
    yield "a cross-signed root that has lapsed", chain(good, good, lapsed, two, trusted=(one,))
    yield "a cross-signed root that has lapsed, trusted alone", chain(good, good, lapsed, trusted=(two,))
    mid = ca(two, constraints(permitted=(dns("corp.example.net"),)), subject="Mid")
    via = ca(mid, key=good.key)
    yield "a twin by way of a constrained one", chain(good, good, via, mid, trusted=(one, two))
    left, right = ca(one, subject="Left"), ca(two, subject="Right")
    circle = (ca(left, subject="Right", key=right.key), ca(right, subject="Left", key=left.key))
    yield "a circle", chain(left, *circle, trusted=(one,))
    yield "a circle with a way out", chain(left, *circle, left, trusted=(one,))
    deep = ca(one, own=(path_length(0), CA_USE), subject="Upper")
    wide = ca(two, own=(path_length(1), CA_USE), subject="Upper", key=deep.key)
    under = ca(deep, subject="Lower CA")
    yield "a twin allows one authority less", chain(under, under, deep, wide, trusted=(one, two))
    yield "a path is too long", chain(under, under, deep, trusted=(one, two))


def _keys() -> Iterator[tuple[str, Chain]]:
    good = root()
    for kind in ("p384", "p521", "secp256k1"):
        middle = ca(good, key=new_key(kind))
        yield f"intermediate: {kind}", chain(middle, middle, trusted=(good,))
    key = new_key()
    odd = ca(good, key=key, spki=explicit_curve(key))
    yield "intermediate: a curve written out", chain(odd, odd, trusted=(good,))


def family() -> dict[str, Chain]:
    """Every chain, by what it is like."""
    kinds = (
        _authorities,
        _critical,
        _dates,
        _versions,
        _leaves,
        _identifiers,
        _easy_rsa,
        _spellings,
        _gaps,
        _malformed,
    )
    return {name: made for kind in (*kinds, _twins, _keys) for name, made in kind()}
