"""Certificates by their dates, purposes, names and chains."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle import PrivateKey
from tests.corpus.row import Row
from tests.corpus.workshop import HOST, Workshop
from tests.rigs.certificates import Authority, Issued, authority, key_usage, self_signed
from tests.rigs.handmade_certificate import (
    AUTHORITYS,
    BASIC_CONSTRAINTS,
    CA_ONLY,
    CRL_POINTS,
    KEY_USAGE,
    SERVERS,
    TRUE,
    certificate,
    extension,
)
from tests.rigs.handmade_pfx import certificate_bag, explicit, key_bag, oid, pfx, plain_safe, sequence, tlv

_DAY = dt.timedelta(days=1)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def file_of(issued: Issued, others: Sequence[x509.Certificate] | None = None) -> bytes:
    """Key, leaf and others (by default its intermediates), not encrypted."""
    chain = issued.chain if others is None else others
    return pfx(plain_safe(key_bag(issued.key), *map(certificate_bag, (issued.certificate, *chain))))


def _leaf(make: Callable[[Workshop], Issued]) -> Callable[[Workshop], bytes]:
    return lambda workshop: file_of(make(workshop))


def _row(
    name: str,
    make: Callable[[Workshop], bytes],
    *verdicts: str,
    says: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
) -> Row:
    return Row(name=name, make=make, verdicts=verdicts, says=says, hosts=hosts, trusts=True)


def _deep(workshop: Workshop) -> tuple[Issued, tuple[x509.Certificate, ...]]:
    lower = workshop.root.intermediate("Upper CA").intermediate("Lower CA")
    issued = lower.issue(HOST)
    return issued, issued.chain


def _upside_down(workshop: Workshop) -> bytes:
    issued, chain = _deep(workshop)
    return file_of(issued, chain[::-1])


def _old_intermediate(workshop: Workshop) -> Issued:
    return workshop.root.intermediate("Old CA", not_before=_now() - 90 * _DAY, not_after=_now() - _DAY).issue(HOST)


def _signed_weakly(how: str) -> Callable[[Workshop], bytes]:
    def make(_: Workshop) -> bytes:
        issuing = authority("Old root", key="rsa").intermediate("Old CA", key="rsa")
        return file_of(issuing.issue(HOST, signed_with=how))  # type: ignore[arg-type]

    return make


_DATES = (
    _row("valid", _leaf(lambda w: w.intermediate.issue(HOST))),
    _row("issued by the root itself", _leaf(lambda w: w.root.issue(HOST))),
    _row("expired", _leaf(lambda w: w.intermediate.issue(HOST, not_after=_now() - _DAY)), "expired"),
    _row("not yet valid", _leaf(lambda w: w.intermediate.issue(HOST, not_before=_now() + _DAY)), "not_yet_valid"),
    _row(
        "valid for 50 years",
        _leaf(lambda w: w.intermediate.issue(HOST, not_after=_now() + 18_000 * _DAY)),
    ),
)
_PURPOSES = (
    _row(
        "serverAuth and clientAuth",
        _leaf(
            lambda w: w.intermediate.issue(
                HOST, usages=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            )
        ),
    ),
    _row(
        "anyExtendedKeyUsage",
        _leaf(lambda w: w.intermediate.issue(HOST, usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
        "not_a_server_certificate",
        says=("is no server certificate to OpenSSL",),
    ),
    _row("no extendedKeyUsage", _leaf(lambda w: w.intermediate.issue(HOST, usages=None))),
    _row(
        "clientAuth alone",
        _leaf(lambda w: w.intermediate.issue(HOST, usages=[ExtendedKeyUsageOID.CLIENT_AUTH])),
        "not_a_server_certificate",
    ),
    _row(
        "emailProtection alone",
        _leaf(lambda w: w.intermediate.issue(HOST, usages=[ExtendedKeyUsageOID.EMAIL_PROTECTION])),
        "not_a_server_certificate",
    ),
    _row(
        "keyUsage digitalSignature",
        _leaf(lambda w: w.intermediate.issue(HOST, key_usage=key_usage("digital_signature"))),
    ),
    _row(
        "keyUsage keyEncipherment alone",
        _leaf(lambda w: w.intermediate.issue(HOST, key="rsa", key_usage=key_usage("key_encipherment"))),
        "not_a_server_certificate",
    ),
    _row("CA:TRUE", _leaf(lambda w: w.intermediate.issue(HOST, is_ca=True)), "not_a_server_certificate"),
)
_NAMES = (
    _row("one name", _leaf(lambda w: w.intermediate.issue(HOST)), hosts=(HOST,)),
    _row("a wildcard for a host below it", _leaf(lambda w: w.intermediate.issue("*.example.com")), hosts=(HOST,)),
    _row(
        "a wildcard for its parent",
        _leaf(lambda w: w.intermediate.issue("*.example.com")),
        "host_not_covered",
        hosts=("example.com",),
    ),
    _row(
        "a wildcard two levels up",
        _leaf(lambda w: w.intermediate.issue("*.example.com")),
        "host_not_covered",
        hosts=("a.b.example.com",),
    ),
    _row("a wildcard for itself", _leaf(lambda w: w.intermediate.issue("*.example.com")), hosts=("*.example.com",)),
    _row(
        "a name for a wildcard",
        _leaf(lambda w: w.intermediate.issue(HOST)),
        "host_not_covered",
        hosts=("*.example.com",),
    ),
    _row("another host", _leaf(lambda w: w.intermediate.issue(HOST)), "host_not_covered", hosts=("shop.example.org",)),
    _row(
        "A-label for U-label", _leaf(lambda w: w.intermediate.issue("xn--bcher-kva.example")), hosts=("bücher.example",)
    ),
    _row("common name alone", _leaf(lambda w: w.intermediate.issue(subject=HOST)), "host_not_covered"),
    _row(
        "an address alone",
        _leaf(lambda w: w.intermediate.issue(names=[x509.IPAddress(ipaddress.ip_address("192.0.2.1"))])),
        "host_not_covered",
    ),
    _row("empty subject", _leaf(lambda w: w.intermediate.issue(HOST, subject=""))),
    _row(
        "HostHeader with a URL",
        _leaf(lambda w: w.intermediate.issue(HOST)),
        "invalid_host",
        hosts=("https://www.example.com",),
    ),
    _row(
        "HostHeader with an address", _leaf(lambda w: w.intermediate.issue(HOST)), "invalid_host", hosts=("192.0.2.1",)
    ),
    _row(
        "HostHeader with an underscore",
        _leaf(lambda w: w.intermediate.issue(HOST)),
        "invalid_host",
        hosts=("my_shop.example.com",),
    ),
    _row("250 names", _leaf(lambda w: w.intermediate.issue(*(f"{n}.example.com" for n in range(250))))),
    _row(
        "251 names", _leaf(lambda w: w.intermediate.issue(*(f"{n}.example.com" for n in range(251)))), "too_many_hosts"
    ),
)
_CHAINS = (
    _row("its intermediate", lambda w: file_of(w.issued)),
    _row("its intermediate and its root", lambda w: file_of(w.issued, [*w.issued.chain, w.root.certificate])),
    _row("no intermediate", lambda w: file_of(w.issued, []), "incomplete_chain"),
    _row("its root alone", lambda w: file_of(w.issued, [w.root.certificate]), "incomplete_chain"),
    _row("a stranger beside", lambda w: file_of(w.issued, [authority("Stranger").certificate, *w.issued.chain])),
    _row("two intermediates", lambda w: file_of(*_deep(w))),
    _row("two intermediates, upside down", _upside_down),
    _row("self-signed", lambda _: file_of(self_signed(HOST)), "untrusted_chain"),
    _row(
        "another root", lambda _: file_of(authority("Other").intermediate("Other CA").issue(HOST)), "incomplete_chain"
    ),
    _row(
        "another root, in the file",
        lambda _: _with_root(authority("Other").intermediate("Other CA").issue(HOST)),
        "untrusted_chain",
    ),
    _row("an intermediate that has expired", _leaf(_old_intermediate), "untrusted_chain"),
    _row(
        "a path longer than allowed",
        _leaf(lambda w: w.root.intermediate("Short", path_length=0).intermediate("Too low").issue(HOST)),
        "untrusted_chain",
    ),
    _row(
        "names outside the constraints",
        _leaf(
            lambda w: w.root.intermediate(
                "Narrow", extensions=[x509.NameConstraints([x509.DNSName("example.net")], None)]
            ).issue(HOST)
        ),
        "untrusted_chain",
    ),
    _row(
        "names inside the constraints",
        _leaf(
            lambda w: w.root.intermediate(
                "Narrow", extensions=[x509.NameConstraints([x509.DNSName("example.com")], None)]
            ).issue(HOST)
        ),
    ),
    _row(
        "an issuer that is no authority",
        _leaf(lambda w: w.root.intermediate("None", usage=key_usage("digital_signature")).issue(HOST)),
        "untrusted_chain",
    ),
    _row("signed with SHA-1", _signed_weakly("sha1"), "weak_signature"),
    _row("signed with MD5", _signed_weakly("md5"), "weak_signature"),
    _row(
        "a certificate of 70,000 octets",
        _leaf(lambda w: w.intermediate.issue(HOST, subject="O=" + "x" * 66_000)),
        "too_large",
    ),
)


def _with_root(issued: Issued) -> bytes:
    return file_of(issued, [*issued.chain, issued.root])


def _twins(first: bool, change: Callable[[Workshop, PrivateKey], Authority], workshop: Workshop) -> bytes:  # noqa: FBT001
    """The good intermediate and another certificate for its key, in one order or the other."""
    twin, good = change(workshop, workshop.intermediate.key).certificate, workshop.intermediate.certificate
    return file_of(workshop.issued, [twin, good] if first else [good, twin])


def _again(workshop: Workshop, key: PrivateKey, by: Authority | None = None, **options: Any) -> Authority:
    return (by or workshop.root).intermediate("Corpus issuing CA", key=key, **options)


_NARROW = x509.NameConstraints([x509.DNSName("corp.example.net")], None)
_MAIL = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
_TWINS: dict[str, Callable[[Workshop, PrivateKey], Authority]] = {
    "has expired": lambda w, key: _again(w, key, not_before=_now() - 90 * _DAY, not_after=_now() - _DAY),
    "is not yet valid": lambda w, key: _again(w, key, not_before=_now() + 30 * _DAY),
    "is constrained to other names": lambda w, key: _again(w, key, extensions=[_NARROW]),
    "is for e-mail": lambda w, key: _again(w, key, extensions=[_MAIL]),
    "may not sign": lambda w, key: _again(w, key, usage=key_usage("digital_signature")),
    "is by a stranger": lambda w, key: _again(w, key, authority("Stranger")),
    "is good, too": _again,
}
_POLICIES = sequence(sequence(oid("1.3.6.1.4.1.4146.11.1.3")))
_POINTS = sequence(sequence(explicit(explicit(tlv(0x86, b"http://example.com/crl")))))


def _handmade(*extensions: bytes, old: bool = False) -> Callable[[Workshop], bytes]:
    """A leaf with these besides, by the root or the old one."""
    return lambda w: certificate(*SERVERS, *extensions, by=w.old_root if old else w.above()).pfx()


def _below(*extensions: bytes, old: bool = False) -> Callable[[Workshop], bytes]:
    """A leaf below an intermediate of these."""

    def make(workshop: Workshop) -> bytes:
        by = workshop.old_root if old else workshop.above()
        above = certificate(*extensions, by=by, subject="Handmade CA")
        return certificate(*SERVERS, by=above).pfx(above)

    return make


_NOT_CRITICAL = (extension(BASIC_CONSTRAINTS, sequence(TRUE)), extension(KEY_USAGE, b"\x03\x02\x01\x06"))
_PRIVATE = (
    _row("by a root with nothing critical", _handmade(old=True)),
    _row("root and intermediate with nothing critical", _below(*_NOT_CRITICAL, old=True)),
    _row("an intermediate with nothing critical", _below(*_NOT_CRITICAL)),
    _row("an intermediate without keyUsage", _below(CA_ONLY)),
    _row("critical policies", _handmade(extension("2.5.29.32", _POLICIES, TRUE))),
    _row("critical policies of the intermediate", _below(*AUTHORITYS, extension("2.5.29.32", _POLICIES, TRUE))),
    _row("critical distribution points", _handmade(extension(CRL_POINTS, _POINTS, TRUE))),
    _row("critical distribution points of the intermediate", _below(*AUTHORITYS, extension(CRL_POINTS, _POINTS, TRUE))),
    _row("a critical extension of no known kind", _handmade(extension("1.2.3.4", b"x", TRUE)), "untrusted_chain"),
)
_PATHS = tuple(
    _row(
        f"a twin of its intermediate, {'before' if first else 'behind'} it: it {what}",
        partial(_twins, first, change),
    )
    for what, change in _TWINS.items()
    for first in (True, False)
)

ROWS = (*_DATES, *_PURPOSES, *_NAMES, *_CHAINS, *_PRIVATE, *_PATHS)
