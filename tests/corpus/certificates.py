"""Certificates that break rules, as old and home-made tools write them, and names that no client matches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.bundle import PrivateKey
from tests.corpus.row import Row
from tests.corpus.workshop import HOST, Workshop
from tests.rigs.certificates import new_key
from tests.rigs.handmade_certificate import (
    AUTHORITY_ACCESS,
    AUTHORITYS,
    BASIC_CONSTRAINTS,
    CA_ONLY,
    CA_USE,
    CRITICAL_FALSE,
    CRL_POINTS,
    ECDSA_SHA256_NULL,
    FALSE,
    KEY_USAGE,
    NO_CA,
    SERVER_PURPOSE,
    SERVER_USE,
    SERVERS,
    TLS_FEATURE,
    TRUE,
    Made,
    alternative_names,
    certificate,
    dns,
    extension,
    named,
    root,
)
from tests.rigs.handmade_pfx import explicit, integer, octets, oid, sequence, tlv

_RSA = "1.2.840.113549.1.1.1"
_PSS = "1.2.840.113549.1.1.10"
_ONE = tlv(0x01, b"\1")

_root = cache(root)


def _leaf(*extensions: bytes, **parts: bytes) -> Callable[[Workshop], bytes]:
    return lambda _: certificate(*(extensions or SERVERS), by=_root(), **parts).pfx(_root())  # type: ignore[arg-type]


def _with_names(*names: bytes) -> Callable[[Workshop], bytes]:
    return _leaf(NO_CA, SERVER_USE, SERVER_PURPOSE, alternative_names(*names))


def _below(*extensions: bytes, **parts: bytes) -> Callable[[Workshop], bytes]:
    """A sound leaf below an intermediate like this."""

    def make(_: Workshop) -> bytes:
        above: Made = certificate(*extensions, by=_root(), subject="Issuing CA", **parts)  # type: ignore[arg-type]
        return certificate(*SERVERS, by=above).pfx(above, _root())

    return make


def _written(key: PrivateKey, spki: bytes, private: bytes) -> bytes:
    return certificate(*SERVERS, by=_root(), key=key, spki=spki, private=private).pfx(_root())


@cache
def _rsa(exponent: int = 65537) -> rsa.RSAPrivateKey:
    key = new_key("rsa")
    assert isinstance(key, rsa.RSAPrivateKey)
    return key if exponent == 65537 else rsa.generate_private_key(exponent, 2048)


def _pss_null() -> bytes:
    return sequence(sequence(oid(_PSS), tlv(0x05, b"")), tlv(0x03, b"\0" + sequence(integer(3), integer(3))))


def _pss(_: Workshop) -> bytes:
    key = _rsa()
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    plain = sequence(oid(_RSA), tlv(0x05))
    bound = sequence(oid(_PSS))
    numbers = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert plain in spki
    whole = sequence(bound, tlv(0x03, b"\0", numbers))
    inside = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return _written(key, whole, sequence(integer(0), bound, octets(inside)))


def _explicit_curve(workshop: Workshop) -> bytes:
    options = ("-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit")
    pem = workshop.run("openssl", "genpkey", "-algorithm", "EC", *options)
    spki = workshop.run("openssl", "pkey", "-pubout", "-outform", "DER", given=pem)
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    private = workshop.run("openssl", "pkcs8", "-topk8", "-nocrypt", "-outform", "DER", given=pem)
    return _written(key, spki, private)


def _large_exponent(_: Workshop) -> bytes:
    """An RSA key with a public exponent of 65 bits."""
    base = _rsa().private_numbers()
    n, p, q = base.public_numbers.n, base.p, base.q
    exponent = 2**64 + 13
    while True:
        try:
            d = pow(exponent, -1, (p - 1) * (q - 1))
            break
        except ValueError:
            exponent += 2
    numbers = sequence(*map(integer, (0, n, exponent, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))))
    algorithm = sequence(oid(_RSA), tlv(0x05))
    spki = sequence(algorithm, tlv(0x03, b"\0", sequence(integer(n), integer(exponent))))
    return _written(_rsa(), spki, sequence(integer(0), algorithm, octets(numbers)))


def _row(
    name: str,
    make: Callable[[Workshop], bytes],
    *verdicts: str,
    says: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    openssl: bool | None = True,
) -> Row:
    return Row(
        name=name,
        make=make,
        password=None,
        verdicts=verdicts,
        warnings=warnings,
        says=says,
        hosts=hosts,
        openssl=openssl,
        library=False,  # which is the one that cannot read most of them
    )


MALFORMED = "malformed_certificate"
ABOVE = ("malformed_intermediate",)
_STARTTLS = sequence(integer(5))

_LEAVES = (
    _row(
        "critical written out as FALSE",
        _leaf(*SERVERS, CRITICAL_FALSE),
        MALFORMED,
        says=("subjectKeyIdentifier", "critical"),
    ),
    _row(
        "critical written as 01",
        _leaf(extension(BASIC_CONSTRAINTS, sequence(), _ONE), *SERVERS[1:]),
        MALFORMED,
        says=("basicConstraints",),
    ),
    _row("ECDSA with NULL parameters", _leaf(algorithm=ECDSA_SHA256_NULL), MALFORMED, says=("signatureAlgorithm",)),
    _row(
        "a broken AIA",
        _leaf(*SERVERS, extension(AUTHORITY_ACCESS, sequence(oid("1.3.6.1.5.5.7.48.1")))),
        MALFORMED,
        says=("authorityInfoAccess",),
    ),
    _row("an extension twice", _leaf(*SERVERS, SERVERS[3]), MALFORMED, says=("it is there twice",)),
    _row("an address of eight octets", _with_names(dns(HOST), tlv(0x87, b"10.0.0.1")), MALFORMED, says=("iPAddress",)),
    _row("version 1 with extensions", _leaf(version=b""), MALFORMED, says=("version",)),
    _row(
        "keyUsage without any bit",
        _leaf(NO_CA, extension(KEY_USAGE, b"\3\2\7\0"), *SERVERS[2:]),
        "malformed_certificate",
        "not_a_server_certificate",
        says=("keyUsage: none of its bits",),
    ),
    _row("an empty AIA", _leaf(*SERVERS, extension(AUTHORITY_ACCESS, sequence())), MALFORMED, says=("it is empty",)),
    _row("cA written out as FALSE", _leaf(extension(BASIC_CONSTRAINTS, sequence(FALSE), TRUE), *SERVERS[1:])),
    _row("a negative serial number", _leaf(serial=b"\xf0\1")),
    _row("a serial number of 21 octets", _leaf(serial=b"\1" * 21)),
    _row("keyUsage with zeros at its end", _leaf(NO_CA, extension(KEY_USAGE, b"\3\2\0\x80", TRUE), *SERVERS[2:])),
    _row(
        "a CRL distribution point in UTF-8",
        _leaf(
            *SERVERS,
            extension(CRL_POINTS, sequence(sequence(explicit(explicit(tlv(0x86, "ldap:///CN=Müller".encode())))))),
        ),
    ),
    _row("ediPartyName", _with_names(dns(HOST), tlv(0xA5, tlv(0xA1, tlv(0x0C, b"x"))))),
    _row(
        "an e-mail address in UTF-8",
        _with_names(dns(HOST), tlv(0x81, "jö@example.com".encode())),
        warnings=("unusable_name",),
    ),
    _row("must-staple", _leaf(*SERVERS, extension(TLS_FEATURE, _STARTTLS)), warnings=("must_staple",)),
    _row("a subject in BMPString", _leaf(subject=named(HOST.encode("utf-16-be"), 0x1E))),
    _row("a subject in TeletexString", _leaf(subject=named("Müller".encode("latin-1"), 0x14))),
)
_INTERMEDIATES = (
    _row("intermediate: critical written out as FALSE", _below(*AUTHORITYS, CRITICAL_FALSE), warnings=ABOVE),
    _row(
        "intermediate: cA written as 01",
        _below(extension(BASIC_CONSTRAINTS, sequence(_ONE), TRUE), CA_USE),
        warnings=ABOVE,
    ),
    _row("intermediate: ECDSA with NULL parameters", _below(*AUTHORITYS, algorithm=ECDSA_SHA256_NULL), warnings=ABOVE),
    _row(
        "intermediate: a broken AIA",
        _below(*AUTHORITYS, extension(AUTHORITY_ACCESS, sequence(oid("1.2.3")))),
        warnings=ABOVE,
    ),
    _row("intermediate: cA not critical", _below(extension(BASIC_CONSTRAINTS, sequence(TRUE)), CA_USE)),
    _row("intermediate: no keyUsage", _below(CA_ONLY)),
)
_KEYS = (
    _row("a key for RSASSA-PSS only", _pss, "weak_key", says=("PSS",), openssl=None),
    _row(
        "a key for RSASSA-PSS only, with parameters NULL",
        lambda _: certificate(*SERVERS, by=_root(), spki=_pss_null()).pfx(_root()),
        "malformed_certificate",
        "weak_key",
        says=("PSS", "subjectPublicKeyInfo"),
        openssl=None,
    ),
    _row("a curve written out", _explicit_curve, "weak_key", says=("explicit",), openssl=None),
    _row("a public exponent of 65 bits", _large_exponent, "weak_key", says=("exponent",), openssl=None),
)
_NAMES = (
    *(
        # Chrome refuses the whole certificate where a name has other letters than ASCII, and that is a second warning.
        _row(
            f"{what} beside a sound name",
            _with_names(dns(HOST), dns(name)),
            warnings=("unusable_name",) * (1 if name.isascii() else 2),
        )
        for what, name in {
            "a trailing dot": b"shop.example.com.",
            "a space at the end": b"shop.example.com ",
            "a U-label": "bücher.example".encode(),
            "full-width letters": "\uff53hop.example.com".encode(),
            "an empty label": b"shop..example.com",
            "an underscore": b"my_shop.example.com",
            "a wildcard inside a label": b"s*p.example.com",
            "two wildcards": b"*.*.example.com",
        }.items()
    ),
    *(
        _row(
            f"{what} where the host is asked for",
            _with_names(dns(name)),
            "host_not_covered",
            says=(said,),
            warnings=() if name.isascii() else ("unusable_name",),
            hosts=(HOST,),
        )
        for what, name, said in (
            ("a trailing dot", b"www.example.com.", "trailing dot"),
            ("a space at the end", b"www.example.com ", "no client matches"),
            ("full-width letters", "\uff57ww.example.com".encode(), "no client matches"),
        )
    ),
    _row("a name in capitals", _with_names(dns(b"WWW.Example.COM")), hosts=(HOST,)),
    _row(
        "HostHeader in percent-encoding",
        _with_names(dns(b"xn--bcher-kva.example")),
        "invalid_host",
        hosts=("b%C3%BCcher.example",),
        says=("xn--bcher-kva.example",),
    ),
)

ROWS = (*_LEAVES, *_INTERMEDIATES, *_KEYS, *_NAMES)
