"""Certificates by their dates, purposes, names and chains."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.corpus.row import Row
from tests.corpus.workshop import HOST, Workshop
from tests.rigs.certificates import Issued, authority, key_usage, self_signed
from tests.rigs.handmade_pfx import certificate_bag, key_bag, pfx, plain_safe

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
    _row("two intermediates, upside down", lambda w: file_of(_deep(w)[0], _deep(w)[1]), "incomplete_chain"),
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


ROWS = (*_DATES, *_PURPOSES, *_NAMES, *_CHAINS)
