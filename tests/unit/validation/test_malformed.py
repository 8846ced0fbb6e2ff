"""Certificates that break rules of their encoding: what is refused, what is harmless, and what is said of them."""

import datetime as dt
import ssl
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bundle import CertificateBundle, bundle_id
from shared.bundle.outline import elements
from shared.upload import UploadMetadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_bundle, judge_pfx
from shared.validation.malformed import faults
from shared.validation.trust import Trust
from shared.verdict import VerdictCode, WarningCode
from tests.rigs.certificates import new_key
from tests.rigs.handmade_certificate import (
    ALTERNATIVE_NAMES,
    AUTHORITY_ACCESS,
    AUTHORITYS,
    BASIC_CONSTRAINTS,
    CA_ONLY,
    CA_USE,
    CRITICAL_FALSE,
    CRL_POINTS,
    ECDSA_SHA256_NULL,
    EXTENDED_KEY_USAGE,
    FALSE,
    HOST,
    KEY_IDENTIFIER,
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
    dates,
    dns,
    extension,
    named,
    root,
)
from tests.rigs.handmade_pfx import explicit, indefinite, integer, octets, oid, sequence, tlv
from tests.rigs.memory_handshake import handshake

ANY_CHAIN = ValidationPolicy(trust=Trust.from_setting("off"))
ROOT = root()
ONE = tlv(0x01, b"\1")
POLICIES = "2.5.29.32"


def leaf(*extensions: bytes, **parts: bytes) -> Made:
    return certificate(*(extensions or SERVERS), by=ROOT, **parts)  # type: ignore[arg-type]


def with_names(*names: bytes) -> Made:
    return leaf(NO_CA, SERVER_USE, SERVER_PURPOSE, alternative_names(dns(HOST), *names))


def with_dates(tag: int, *times: bytes) -> Made:
    return leaf(validity=sequence(*(tlv(tag, time) for time in times)))


def judged(file: bytes, *hosts: str) -> Judgement:
    metadata = UploadMetadata(hosts=hosts)
    return judge_pfx(file, metadata, [None], policy=ANY_CHAIN, now=dt.datetime.now(dt.UTC))


def codes(judgement: Judgement) -> list[str]:
    return [violation.code.value for violation in judgement.violations]


CRITICAL = "critical is written out as FALSE, which DER leaves out (X.690 section 11.5)"
MALFORMED: dict[str, tuple[Made, str]] = {
    "critical false": (leaf(*SERVERS, CRITICAL_FALSE), f"extension subjectKeyIdentifier: {CRITICAL}"),
    "critical false of an unknown one": (
        leaf(*SERVERS, extension("1.2.3.4", b"x", FALSE)),
        f"extension 1.2.3.4: {CRITICAL}",
    ),
    "critical false of the names": (
        leaf(*SERVERS[:3], extension(ALTERNATIVE_NAMES, sequence(dns(HOST)), FALSE)),
        f"extension subjectAltName: {CRITICAL}",
    ),
    "critical 01": (
        leaf(extension(BASIC_CONSTRAINTS, sequence(), ONE), *SERVERS[1:]),
        "extension basicConstraints: critical is written as 01, and DER writes TRUE as FF (X.690 section 11.1)",
    ),
    "cA of no octets": (
        leaf(extension(BASIC_CONSTRAINTS, sequence(tlv(0x01)), TRUE), *SERVERS[1:]),
        "extension basicConstraints: cA is empty, and DER",
    ),
    "ECDSA with NULL": (leaf(algorithm=ECDSA_SHA256_NULL), "signatureAlgorithm: it has parameters"),
    "two algorithms": (leaf(outer=ECDSA_SHA256_NULL), "signatureAlgorithm: it is not the one inside what is signed"),
    "PSS with NULL": (leaf(algorithm=sequence(oid("1.2.840.113549.1.1.10"), tlv(5))), "signature_alg: it is not what"),
    "Ed25519 with NULL": (leaf(algorithm=sequence(oid("1.3.101.112"), tlv(5))), "signatureAlgorithm: it has param"),
    "broken AIA": (
        leaf(*SERVERS, extension(AUTHORITY_ACCESS, sequence(oid("1.3.6.1.5.5.7.48.1")))),
        "extension authorityInfoAccess: its value is not what RFC 5280 section 4.2 has",
    ),
    "no sequence of constraints": (
        leaf(extension(BASIC_CONSTRAINTS, tlv(0x31), TRUE), *SERVERS[1:]),
        "basicConstraints: its value is not what",
    ),
    "no sequence of names": (
        leaf(*SERVERS[:3], extension(ALTERNATIVE_NAMES, tlv(0x31, dns(HOST)))),
        "subjectAltName: its value is not what",
    ),
    "broken CRL points": (leaf(*SERVERS, extension(CRL_POINTS, sequence(octets(b"x")))), "cRLDistributionPoints: its"),
    "raw key identifier": (leaf(*SERVERS, extension(KEY_IDENTIFIER, b"raw")), "subjectKeyIdentifier: its value"),
    "empty EKU": (leaf(*SERVERS[:2], extension(EXTENDED_KEY_USAGE, sequence()), SERVERS[3]), "extendedKeyUsage: its"),
    "no policies": (leaf(*SERVERS, extension(POLICIES, sequence())), "certificatePolicies: it has no policies"),
    "an IP as text": (with_names(tlv(0x87, b"10.0.0.1")), "subjectAltName: its iPAddress has 8 octets, where 4 or 16"),
    "an IP with a mask": (with_names(tlv(0x87, bytes(32))), "its iPAddress has 32 octets"),
    "an IP of 5": (with_names(tlv(0x87, bytes(5))), "its iPAddress has 5 octets"),
    "a constructed name": (with_names(tlv(0xA2, tlv(0x16, b"a"))), "it has an entry of an unknown kind (0xa2)"),
    "an extension twice": (leaf(*SERVERS, SERVERS[3]), "extension subjectAltName: it is there twice"),
    "version 1": (leaf(version=b""), "version: it has extensions, which version 3 alone may have"),
    "version 2": (leaf(version=explicit(integer(1))), "version: it has extensions"),
    "version 4": (leaf(version=explicit(integer(3))), "version: it has extensions"),
    "version 1 written out": (leaf(version=explicit(integer(0))), "version: 1 is written out"),
    "no seconds": (with_dates(0x17, b"2501010000Z", b"9901010000Z"), "notBefore: '2501010000Z' is no time"),
    "an offset": (with_dates(0x17, b"250101000000+0100", b"490101000000Z"), "notBefore: '250101000000+0100' is no"),
    "a fraction": (with_dates(0x18, b"20250101000000.5Z", b"20990101000000Z"), "notBefore: '20250101000000.5Z'"),
    "no time": (with_dates(0x17, b"soon", b"later"), "notAfter: 'later' is no time"),
    "a 13th month": (with_dates(0x17, b"251301000000Z", b"490101000000Z"), "validity: it is not what"),
    "odd BMPString": (leaf(subject=named(b"abc", 0x1E)), "subject: 'abc' in it is no BMPString"),
    "bad UTF-8": (leaf(subject=named(b"\xff\xfe")), "in it is no UTF8String"),
    "bad PrintableString": (leaf(subject=named(b"a_b", 0x13)), "subject: 'a_b' in it is no PrintableString"),
    "8 bits in IA5String": (leaf(issuer=named(b"\xfc", 0x16)), "issuer: 'ü' in it is no IA5String"),
    "an empty RDN": (leaf(subject=sequence(tlv(0x31))), "subject: a relative distinguished name in it is empty"),
    "a padded serial number": (leaf(serial=b"\0\0\1"), "serial: it is not what"),
    "no serial number": (leaf(serial=b""), "serial: it is not what"),
    "bits left in the signature": (leaf(unused=b"\1"), "signatureValue: it is no whole number of octets"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_leaf_is_told_as_such_with_its_field_and_never_as_a_stranger_to_its_key(kind: str) -> None:
    made, said = MALFORMED[kind]
    judgement = judged(made.pfx(ROOT), HOST)
    # Names that cannot be read at all cover no host either.
    assert codes(judgement) in (["malformed_certificate"], ["malformed_certificate", "host_not_covered"])
    assert said in judgement.violations[0].detail
    assert "Have it issued again" in judgement.violations[0].detail
    assert not judgement.accepted
    assert judgement.bundle is None
    assert judgement.hosts == (HOST,)


BER = certificate(*SERVERS)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (replace(BER, der=indefinite(0x30, elements(BER.der)[0].content)), "written in BER, with lengths left open"),
        (replace(BER, der=b"no certificate"), "it is not written in DER"),
        (leaf(*SERVERS, sequence()), "it is not written in DER"),
        (leaf(subject=sequence(tlv(0x31, b"CA"))), "it is not written in DER"),
    ],
)
def test_one_that_can_hardly_be_read_at_all_is_told_as_such(made: Made, said: str) -> None:
    judgement = judged(made.pfx(), HOST)
    assert codes(judgement) == ["malformed_certificate"]
    assert said in judgement.violations[0].detail


def test_every_other_reason_is_told_too_as_far_as_it_can_be_read() -> None:
    authoritys = extension(BASIC_CONSTRAINTS, sequence(ONE), TRUE)
    made = certificate(
        authoritys, *SERVERS[1:], by=ROOT, key=new_key("secp256k1"), validity=dates(-90, -1), subject="www.example.com"
    )
    judgement = judged(made.pfx(ROOT), "other.example.com")
    assert codes(judgement) == [
        "malformed_certificate",
        "weak_key",
        "expired",
        "not_a_server_certificate",
        "host_not_covered",
    ]
    details = " ".join(violation.detail for violation in judgement.violations)
    for said in ("'CN=www.example.com'", "cA is written as 01", "secp256k1", "CA:TRUE", "other.example.com"):
        assert said in details


def test_a_mismatch_is_still_one_where_a_malformed_certificate_shows_its_key() -> None:
    made = leaf(*SERVERS, CRITICAL_FALSE)
    other = certificate(*SERVERS)
    file = replace(made, private=other.private).pfx(ROOT)
    assert codes(judged(file)) == ["key_mismatch"]


HARMLESS: dict[str, Made] = {
    "cA written out as FALSE": leaf(extension(BASIC_CONSTRAINTS, sequence(FALSE), TRUE), *SERVERS[1:]),
    "a path length without cA": leaf(extension(BASIC_CONSTRAINTS, sequence(integer(0)), TRUE), *SERVERS[1:]),
    "CRL point in UTF-8": leaf(
        *SERVERS, extension(CRL_POINTS, sequence(sequence(explicit(explicit(tlv(0x86, "ldap:///CN=ü".encode()))))))
    ),
    "ediPartyName": with_names(tlv(0xA5, tlv(0xA1, tlv(0x0C, b"x")))),
    "x400Address": with_names(tlv(0xA3, b"")),
    "an address of IPv6": with_names(tlv(0x87, bytes(16))),
    "otherName": with_names(explicit(oid("1.3.6.1.4.1.311.20.2.3") + explicit(tlv(0x0C, b"x")))),
    "bits written out": leaf(NO_CA, extension(KEY_USAGE, b"\3\2\0\x80", TRUE), *SERVERS[2:]),
    "a negative serial number": leaf(serial=b"\xf0\1"),
    "serial number zero": leaf(serial=b"\0"),
    "a long serial number": leaf(serial=b"\1" * 21),
    "GeneralizedTime before 2050": with_dates(0x18, b"20250101000000Z", b"20490101000000Z"),
    "BMPString": leaf(subject=named(HOST.encode("utf-16-be"), 0x1E)),
    "TeletexString in Latin-1": leaf(subject=named("Müller".encode("latin-1"), 0x14)),
    "an empty text": leaf(subject=named("")),
    "a policy's URI in UTF-8": leaf(
        *SERVERS,
        extension(
            POLICIES,
            sequence(
                sequence(oid("1.2.3"), sequence(sequence(oid("1.3.6.1.5.5.7.2.1"), tlv(0x16, "http://ü".encode()))))
            ),
        ),
    ),
    "signed timestamps that are none": leaf(*SERVERS, extension("1.3.6.1.4.1.11129.2.4.2", octets(b"garbage"))),
    "a template of Microsoft's that is none": leaf(*SERVERS, extension("1.3.6.1.4.1.311.21.7", b"xx")),
    "an unknown TLS feature": leaf(*SERVERS, extension(TLS_FEATURE, sequence(integer(99)))),
    "octets behind it": leaf(more=b"\0\0"),
}


@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
@pytest.mark.parametrize("kind", HARMLESS)
def test_what_openssl_and_browsers_take_is_accepted_sealed_and_served(kind: str) -> None:
    made = HARMLESS[kind]
    judgement = judged(made.pfx(ROOT))
    assert codes(judgement) == []
    assert judgement.warnings == ()
    assert judgement.hosts == (HOST,)
    bundle = judgement.bundle
    assert bundle is not None
    again = CertificateBundle.from_sealed(bundle.to_pem(), bundle_id(bundle, b""))
    assert again.dns_names == (HOST,)
    assert (again.subject, again.issuer) == (bundle.subject, "CN=handmade root")
    assert made.der.startswith(handshake(again, HOST, root=ROOT.der))


ABOVE = {
    "critical false": certificate(*AUTHORITYS, CRITICAL_FALSE, by=ROOT, subject="CA"),
    "cA 01": certificate(extension(BASIC_CONSTRAINTS, sequence(ONE), TRUE), CA_USE, by=ROOT, subject="CA"),
    "ECDSA with NULL": certificate(*AUTHORITYS, by=ROOT, subject="CA", algorithm=ECDSA_SHA256_NULL),
    "broken AIA": certificate(*AUTHORITYS, extension(AUTHORITY_ACCESS, sequence(oid("1.2.3"))), by=ROOT, subject="CA"),
}


@pytest.mark.parametrize("kind", ABOVE)
def test_a_malformed_intermediate_is_served_as_it_is_with_a_warning(kind: str) -> None:
    above = ABOVE[kind]
    made = certificate(*SERVERS, by=above)
    judgement = judged(made.pfx(above))
    assert judgement.accepted
    (warning,) = judgement.warnings
    assert warning.code is WarningCode.MALFORMED_INTERMEDIATE
    assert "The intermediate 'CN=CA' stays in the chain as it is" in warning.detail
    assert faults(above.der)[0] in warning.detail
    bundle = judgement.bundle
    assert bundle is not None
    assert [link.der for link in bundle.chain] == [above.der]
    assert bundle.chain_subjects == ("CN=www.example.com", "CN=CA")
    assert handshake(bundle, HOST, root=ROOT.der) == made.der
    again = judge_bundle(bundle, UploadMetadata(), policy=ANY_CHAIN, now=dt.datetime.now(dt.UTC))
    assert again == judgement


def test_one_that_no_server_can_read_is_left_out_and_told() -> None:
    above = certificate(*AUTHORITYS, by=ROOT, subject="CA", serial=b"\0\0\1")
    made = certificate(*SERVERS, by=above)
    judgement = judged(made.pfx(above, b"\x30\x80\0\0"))
    assert judgement.accepted
    assert judgement.bundle is not None
    assert judgement.bundle.chain == ()
    first, second = judgement.warnings
    assert {first.code, second.code} == {WarningCode.MALFORMED_INTERMEDIATE}
    assert "The certificate 'CN=CA' is left out of the chain" in first.detail
    assert "A certificate in the file is left out" in second.detail
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=above.der)


def test_a_malformed_stranger_is_no_concern() -> None:
    stranger = certificate(CA_ONLY, CRITICAL_FALSE, subject="stranger")
    judgement = judged(leaf().pfx(stranger))
    assert judgement.accepted
    assert judgement.warnings == ()


@pytest.mark.parametrize("size", [100, 8_000])
def test_a_hostile_certificate_costs_little(size: int) -> None:
    made = leaf(*SERVERS, *[extension("1.2.3.4", b"", FALSE)] * (size // 2))
    assert made.der
    began = dt.datetime.now(dt.UTC)
    found = codes(judged(made.pfx()))
    assert found[0] in {VerdictCode.MALFORMED_CERTIFICATE.value, VerdictCode.TOO_LARGE.value}
    assert dt.datetime.now(dt.UTC) - began < dt.timedelta(seconds=3)


SOUND = leaf(*SERVERS, extension(CRL_POINTS, sequence(sequence(explicit(explicit(tlv(0x86, b"http://x")))))))
WARNED = pytest.mark.filterwarnings("ignore::UserWarning")


@WARNED
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), min_size=1, max_size=3))
def test_whatever_octets_are_changed_there_is_a_judgement_with_a_reason_of_ours(changes: list[tuple[int, int]]) -> None:
    changed = bytearray(SOUND.der)
    for position, octet in changes:
        changed[position % len(changed)] = octet
    for made in (replace(SOUND, der=bytes(changed)), SOUND):
        judgement = judged(made.pfx(bytes(changed), ROOT))
        assert "unexpected" not in " ".join(violation.detail for violation in judgement.violations)
        if judgement.bundle is not None and judgement.accepted:
            bundle = judgement.bundle
            assert CertificateBundle.from_sealed(bundle.to_pem(), bundle_id(bundle, b"")) == bundle
            assert handshake(bundle, HOST)
