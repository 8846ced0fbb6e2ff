import datetime as dt
import re
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle.link import Link
from shared.upload import PortRanges, UploadMetadata, parse_metadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_bundle, judge_pfx
from shared.validation.trust import Trust
from shared.verdict import NOTICES, VerdictCode, Violation
from tests.rigs.certificates import Issued, authority, key_usage, self_signed
from tests.rigs.deployment import ROOT as REPOSITORY

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
ROOT = authority()
CA = ROOT.intermediate()
TRUSTING = ValidationPolicy(trust=Trust(roots=(ROOT.root,), name="test roots"), ports=PortRanges.parse("443, 8443"))
ANY_CHAIN = ValidationPolicy(trust=Trust.from_setting("off"))


def judged(issued: Issued, policy: ValidationPolicy = TRUSTING, **metadata: str) -> Judgement:
    """What is judged of a PFX with this metadata, and the same of its bundle."""
    parsed, faults = parse_metadata(metadata)
    judgement = judge_pfx(issued.pfx(), parsed, [b"secret"], policy=policy, now=NOW, earlier=faults)
    again = judge_bundle(issued.bundle(), parsed, policy=policy, now=NOW, earlier=faults)
    assert again == judgement
    return judgement


def codes(judgement: Judgement) -> list[str]:
    return [violation.code.value for violation in judgement.violations]


def only(judgement: Judgement, code: VerdictCode) -> str:
    """The detail of the one violation there is, which must be this one."""
    assert codes(judgement) == [code.value]
    assert judgement.accepted == (code in NOTICES)
    return judgement.violations[0].detail


# Accepted


def test_a_sound_certificate_is_accepted_for_the_hosts_named() -> None:
    judgement = judged(
        CA.issue("www.example.com", "*.example.org"),
        HostHeader="WWW.example.com, shop.example.org;*.example.org www.example.com",
        PortNumber="8443",
        Role="web",
        SiteName="Shop",
        CertificateSubject="CN=www.example.com",
    )
    assert judgement.violations == ()
    assert judgement.accepted
    assert not judgement.scheduled
    assert judgement.hosts == ("www.example.com", "shop.example.org", "*.example.org")
    assert (judgement.port, judgement.role, judgement.site) == (8443, "web", "Shop")


def test_without_hosts_the_certificate_s_own_names_are_served_and_unusable_ones_are_left_out() -> None:
    names = ["www.example.com", "under_score.example.com", "*.example.com", "10.0.0.1", "www.example.com", "*.com"]
    judgement = judged(CA.issue(*names))
    assert judgement.accepted
    assert judgement.hosts == ("www.example.com", "*.example.com")


def test_a_self_signed_certificate_is_accepted_where_any_chain_is() -> None:
    assert judged(self_signed("www.example.com"), ANY_CHAIN).accepted


def test_a_certificate_for_private_use_is_accepted_without_its_chain_where_any_chain_is() -> None:
    issued = CA.issue("www.example.com")
    judgement = judge_pfx(issued.pfx(others=[]), UploadMetadata(), [b"secret"], policy=ANY_CHAIN, now=NOW)
    assert judgement.accepted


@pytest.mark.parametrize(
    "details",
    [
        *({"key": kind} for kind in ("ec", "p384", "p521", "rsa")),
        {"usages": None},
        {"key_usage": key_usage("digital_signature", "key_encipherment")},
    ],
)
def test_keys_and_uses_that_browsers_accept_are_accepted(details: dict[str, Any]) -> None:
    assert judged(CA.issue("www.example.com", **details)).accepted


def test_any_use_is_a_server_s_to_browsers_and_not_to_openssl() -> None:
    issued = CA.issue("www.example.com", usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    assert judged(issued, ANY_CHAIN).accepted
    assert "no server certificate to OpenSSL" in only(judged(issued), VerdictCode.NOT_A_SERVER_CERTIFICATE)


def test_an_old_signature_of_a_root_does_not_matter() -> None:
    root = authority(key="rsa", signed_with="sha1")
    issued = root.issue("www.example.com")
    policy = ValidationPolicy(trust=Trust(roots=(root.root,), name="old root"))
    judgement = judge_pfx(issued.pfx(others=[root.root]), UploadMetadata(), [b"secret"], policy=policy, now=NOW)
    assert judgement.accepted


# The file


def test_what_cannot_be_opened_is_judged_by_its_metadata_all_the_same() -> None:
    metadata = UploadMetadata(hosts=("www.example.com", "a:1"), port=8443, role="web", site="Shop")
    judgement = judge_pfx(b"no pfx", metadata, [None], policy=TRUSTING, now=NOW)
    assert codes(judgement) == ["unreadable_bundle", "invalid_host"]
    assert judgement.bundle is None
    assert not judgement.accepted
    assert not judgement.scheduled
    assert (judgement.hosts, judgement.port) == (("www.example.com",), 8443)
    assert (judgement.role, judgement.site) == ("web", "Shop")


def test_the_policy_s_limits_hold() -> None:
    file = CA.issue("www.example.com").pfx(iterations=1000)
    for policy, code in (
        (ValidationPolicy(trust=TRUSTING.trust, max_pfx_bytes=100), VerdictCode.TOO_LARGE),
        (ValidationPolicy(trust=TRUSTING.trust, max_kdf_iterations=100), VerdictCode.KDF_TOO_EXPENSIVE),
    ):
        only(judge_pfx(file, UploadMetadata(), [b"secret"], policy=policy, now=NOW), code)


# The certificate, one verdict each


ONE_FAULT: dict[str, tuple[dict[str, Any], VerdictCode, list[str]]] = {
    "a short RSA key": ({"key": "rsa1024"}, VerdictCode.WEAK_KEY, ["RSA key of 1024 bits"]),
    "an unusual curve": ({"key": "secp256k1"}, VerdictCode.WEAK_KEY, ["curve secp256k1"]),
    "an Ed25519 key": ({"key": "ed25519"}, VerdictCode.WEAK_KEY, ["EdDSA"]),
    "an Ed448 key": ({"key": "ed448"}, VerdictCode.WEAK_KEY, ["EdDSA"]),
    "a DSA key": ({"key": "dsa"}, VerdictCode.WEAK_KEY, ["DSA"]),
    "an end that is past": (
        {"not_after": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)},
        VerdictCode.EXPIRED,
        ["'CN=www.example.com' expired at 2024-02-29T12:00:00Z"],
    ),
    "an authority's certificate": ({"is_ca": True}, VerdictCode.NOT_A_SERVER_CERTIFICATE, ["CA:TRUE"]),
    "other purposes": (
        {"usages": [ExtendedKeyUsageOID.CLIENT_AUTH, x509.ObjectIdentifier("1.2.3.4")]},
        VerdictCode.NOT_A_SERVER_CERTIFICATE,
        ["allows clientAuth, 1.2.3.4 and not serverAuth"],
    ),
    "a key that may not sign a handshake": (
        {"key": "rsa", "key_usage": key_usage("key_encipherment")},
        VerdictCode.NOT_A_SERVER_CERTIFICATE,
        ["lacks digitalSignature"],
    ),
    "all that is wrong with its purpose": (
        {"is_ca": True, "usages": [ExtendedKeyUsageOID.CODE_SIGNING]},
        VerdictCode.NOT_A_SERVER_CERTIFICATE,
        ["CA:TRUE", "codeSigning"],
    ),
}


@pytest.mark.parametrize(("details", "code", "said"), ONE_FAULT.values(), ids=ONE_FAULT)
def test_one_fault_is_one_verdict_that_names_it(details: dict[str, Any], code: VerdictCode, said: list[str]) -> None:
    detail = only(judged(CA.issue("www.example.com", **details)), code)
    assert all(words in detail for words in said), detail


@pytest.mark.parametrize(("signed_with", "said"), [("sha1", "SHA-1"), ("md5", "MD5")])
def test_an_old_signature_of_the_leaf_is_weak(signed_with: str, said: str) -> None:
    root = authority(key="rsa")
    issued = root.issue("www.example.com", signed_with=signed_with)  # type: ignore[arg-type]
    policy = ValidationPolicy(trust=Trust(roots=(root.root,), name="test"))
    assert f"'CN=www.example.com' is signed with {said}" in only(judged(issued, policy), VerdictCode.WEAK_SIGNATURE)


def test_an_old_signature_of_an_intermediate_is_weak() -> None:
    root = authority(key="rsa")
    issued = root.intermediate("old CA", signed_with="sha1").issue("www.example.com")
    policy = ValidationPolicy(trust=Trust(roots=(root.root,), name="test"))
    assert "'CN=old CA' is signed with SHA-1" in only(judged(issued, policy), VerdictCode.WEAK_SIGNATURE)


def test_a_signature_by_an_unknown_algorithm_is_weak() -> None:
    root = authority(key="rsa")
    issued = root.issue("www.example.com")
    der = issued.certificate.public_bytes(Encoding.DER)
    known, unknown = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010163")
    odd = Issued(x509.load_der_x509_certificate(der.replace(known, unknown)), issued.key, (), root.root)
    judgement = judge_bundle(odd.bundle(), UploadMetadata(), policy=TRUSTING, now=NOW)
    assert "1.2.840.113549.1.1.99" in only(judgement, VerdictCode.WEAK_SIGNATURE)


def test_a_certificate_of_an_edwards_authority_is_no_weak_signature() -> None:
    assert judged(authority(key="ed25519").issue("www.example.com"), ANY_CHAIN).accepted


def test_the_last_second_is_still_valid() -> None:
    assert judged(CA.issue("www.example.com", not_before=NOW - DAY, not_after=NOW)).accepted
    assert codes(
        judged(CA.issue("www.example.com", not_before=NOW - DAY, not_after=NOW - dt.timedelta(seconds=1)))
    ) == ["expired"]


def test_a_certificate_of_tomorrow_is_scheduled() -> None:
    judgement = judged(CA.issue("www.example.com", not_before=NOW + DAY))
    assert (NOW + DAY).strftime("%Y-%m-%dT%H:%M:%SZ") in only(judgement, VerdictCode.NOT_YET_VALID)
    assert judgement.scheduled


def test_a_certificate_of_tomorrow_that_is_refused_is_not_scheduled() -> None:
    judgement = judged(CA.issue("www.example.com", key="rsa1024", not_before=NOW + DAY))
    assert codes(judgement) == ["weak_key", "not_yet_valid"]
    assert not judgement.scheduled


# Hosts


@pytest.mark.parametrize(
    ("issued", "hosts", "said"),
    [
        (
            CA.issue("*.example.com"),
            "example.com a.b.example.com x.test y.test *.b.example.com ok.example.com",
            "does not cover example.com, a.b.example.com, x.test and 2 more: its names are *.example.com.",
        ),
        *(
            (
                CA.issue(subject="CN=www.example.com"),
                hosts,
                "the certificate has no subjectAltName with a host name (browsers ignore its common name",
            )
            for hosts in ("", "www.example.com")
        ),
        (
            CA.issue(subject="O=Example", names=[x509.RFC822Name("me@example.com")]),
            "",
            "no subjectAltName with a host name.",
        ),
        (
            CA.issue("under_score.example.com"),
            "",
            "the certificate has 'under_score.example.com', which is no host name that clients ask for.",
        ),
    ],
    ids=["a few are named", "a common name", "a common name as host", "no name at all", "unusable names"],
)
def test_hosts_that_are_not_covered_are_told_with_what_is(issued: Issued, hosts: str, said: str) -> None:
    judgement = judged(issued, HostHeader=hosts)
    assert said in only(judgement, VerdictCode.HOST_NOT_COVERED)
    assert bool(judgement.hosts) is bool(hosts)


def test_a_wildcard_host_needs_the_very_same_wildcard() -> None:
    only(judged(CA.issue("www.example.com"), HostHeader="*.example.com"), VerdictCode.HOST_NOT_COVERED)
    assert judged(CA.issue("*.example.com"), HostHeader="*.example.com").accepted


def test_international_hosts_are_compared_in_their_ascii_form() -> None:
    assert judged(CA.issue("xn--bcher-kva.example"), HostHeader="bücher.example").accepted
    assert judged(CA.issue("*.example.com"), HostHeader="bücher.example.com").accepted
    only(judged(CA.issue("*.example.com"), HostHeader="bücher.www.example.com"), VerdictCode.HOST_NOT_COVERED)


def test_what_is_no_host_is_reported_with_what_to_write_instead() -> None:
    judgement = judged(
        CA.issue("www.example.com"), HostHeader="https://www.example.com/ www.example.com 10.0.0.1 a_b.c *.d e/f"
    )
    detail = only(judgement, VerdictCode.INVALID_HOST)
    assert "write the host alone, 'www.example.com'; '10.0.0.1' is an IP address" in detail
    assert "and 2 more" in detail
    assert judgement.hosts == ("www.example.com",)


def test_hosts_are_limited() -> None:
    hosts = [f"h{number}.example.com" for number in range(251)]
    wildcard = CA.issue("*.example.com")
    detail = only(judged(wildcard, HostHeader=" ".join(hosts)), VerdictCode.TOO_MANY_HOSTS)
    assert "251 hosts, and 250 are the most" in detail
    assert judged(wildcard, HostHeader=" ".join([*hosts[:250], *hosts[:250]])).accepted
    only(judged(CA.issue(*hosts)), VerdictCode.TOO_MANY_HOSTS)


# Subject


def test_another_subject_is_told_with_what_was_expected_and_found() -> None:
    issued = CA.issue("www.example.com", subject="CN=www.example.com,O=Example")
    detail = only(judged(issued, CertificateSubject="CN=www.store2.com, O=example"), VerdictCode.SUBJECT_MISMATCH)
    assert "expects 'CN=www.store2.com, O=example'" in detail
    assert "is 'CN=www.example.com,O=Example' and lacks CN=www.store2.com" in detail


def test_an_empty_subject_is_told_as_such() -> None:
    issued = CA.issue("www.example.com", subject="")
    assert "subject is empty" in only(
        judged(issued, CertificateSubject="www.example.com"), VerdictCode.SUBJECT_MISMATCH
    )


def test_a_subject_that_cannot_be_compared_is_faulty_metadata() -> None:
    detail = only(judged(CA.issue("www.example.com"), CertificateSubject="CN=a,b"), VerdictCode.INVALID_METADATA)
    assert "has no value" in detail


# Trust


def test_a_chain_without_its_intermediate_is_incomplete() -> None:
    issued = CA.issue("www.example.com")
    judgement = judge_pfx(issued.pfx(others=[]), UploadMetadata(), [b"secret"], policy=TRUSTING, now=NOW)
    assert "certcast test intermediate CA" in only(judgement, VerdictCode.INCOMPLETE_CHAIN)


def test_a_chain_to_a_stranger_s_root_is_untrusted() -> None:
    stranger = authority("A Stranger").issue("www.example.com")
    judgement = judge_pfx(stranger.pfx(others=[stranger.root]), UploadMetadata(), [b"secret"], policy=TRUSTING, now=NOW)
    assert "A Stranger" in only(judgement, VerdictCode.UNTRUSTED_CHAIN)


def test_cross_signed_alternatives_are_resolved_by_who_is_trusted() -> None:
    other = authority("other root")
    crossed = other.intermediate("certcast test intermediate CA", key=CA.key)
    file = CA.issue("www.example.com").pfx(others=[crossed.certificate, other.root, CA.certificate])
    judgement = judge_pfx(file, UploadMetadata(), [b"secret"], policy=TRUSTING, now=NOW)
    assert judgement.accepted
    assert judgement.bundle is not None
    assert judgement.bundle.chain == (Link.of(CA.certificate),)


# Together


def test_every_fault_is_found_and_the_most_fundamental_comes_first() -> None:
    stranger = authority("A Stranger", key="rsa", not_before=NOW - 900 * DAY)
    issued = stranger.issue(
        "www.example.com",
        key="rsa1024",
        not_after=NOW - DAY,
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
    )
    judgement = judged(issued, HostHeader="b.example.com c:1", PortNumber="0", CertificateSubject="CN=b", Role="a b")
    assert codes(judgement) == [
        "weak_key",
        "expired",
        "not_a_server_certificate",
        "host_not_covered",
        "invalid_host",
        "invalid_port",
        "subject_mismatch",
        "incomplete_chain",
        "invalid_metadata",
    ]
    assert not judgement.accepted


def test_what_was_known_before_is_judged_too_and_a_missing_secret_comes_first() -> None:
    secret = Violation(code=VerdictCode.PASSWORD_SECRET_UNAVAILABLE, detail="The vault does not answer.")
    older = Violation(code=VerdictCode.OLDER_THAN_LIVE, detail="A later one is live.")
    issued = CA.issue("www.example.com")
    judgement = judge_pfx(
        issued.pfx(), UploadMetadata(), [None], policy=TRUSTING, now=NOW, earlier=[older, secret, older]
    )
    assert codes(judgement) == ["password_secret_unavailable", "unreadable_bundle", "older_than_live"]
    assert judge_bundle(issued.bundle(), UploadMetadata(), policy=TRUSTING, now=NOW, earlier=[older]).accepted


def test_no_password_is_ever_told() -> None:
    issued = CA.issue("www.example.com")
    for password in (b"Tr0ub4dor", b"\xff\xfeTr0ub4dor"):
        metadata = UploadMetadata(password="Tr0ub4dor")
        judgement = judge_pfx(issued.pfx(), metadata, [password], policy=TRUSTING, now=NOW)
        assert "Tr0ub4dor" not in repr((judgement, metadata))


# The documentation


def test_the_documentation_explains_every_verdict_and_no_other() -> None:
    page = (REPOSITORY / "docs" / "verdicts.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    documented = {section.split("\n", 1)[0].strip("`\n ") for section in sections}
    assert {code.value for code in VerdictCode} <= documented
    assert {name for name in documented if "_" in name} <= {code.value for code in VerdictCode}
    for section in sections:
        if section.startswith("`"):
            assert "**Means**" in section, section
            assert "**Happens**" in section, section
            assert "**Do**" in section, section
