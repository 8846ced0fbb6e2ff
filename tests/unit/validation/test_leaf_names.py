"""A certificate's names are taken as they are written, and those that no client matches are told."""

import datetime as dt

import pytest

from instance_agent.fetching import unfit_for
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.bundle import CertificateBundle
from shared.hostnames import unmatched
from shared.upload import UploadMetadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_pfx
from shared.validation.trust import Trust
from shared.verdict import WarningCode
from tests.rigs.handmade_certificate import (
    NO_CA,
    SERVER_PURPOSE,
    SERVER_USE,
    SERVERS,
    TLS_FEATURE,
    alternative_names,
    certificate,
    dns,
    extension,
    root,
)
from tests.rigs.handmade_pfx import integer, sequence, tlv

ANY_CHAIN = ValidationPolicy(trust=Trust.from_setting("off"))
ROOT = root()


def judged(names: list[bytes | str], *hosts: str, extensions: tuple[bytes, ...] = ()) -> Judgement:
    entries = [name if isinstance(name, bytes) and name[:1] in {b"\x81", b"\x86"} else dns(name) for name in names]
    made = certificate(NO_CA, SERVER_USE, SERVER_PURPOSE, alternative_names(*entries), *extensions, by=ROOT)
    metadata = UploadMetadata(hosts=hosts)
    return judge_pfx(made.pfx(ROOT), metadata, [None], policy=ANY_CHAIN, now=dt.datetime.now(dt.UTC))


def row_for(bundle: CertificateBundle, host: str) -> DesiredBinding:
    return DesiredBinding(
        role=ANY_ROLE,
        host=host,
        port=443,
        state=BindingState.PRESENT,
        generation=1,
        changed_at=dt.datetime.now(dt.UTC),
        fingerprint_sha256=bundle.fingerprint_sha256,
    )


def bundle_of(judgement: Judgement) -> CertificateBundle:
    assert judgement.bundle is not None
    return judgement.bundle


UNMATCHED: dict[str, tuple[bytes | str, str]] = {
    "trailing dot": ("www.example.com.", "'www.example.com.' with a trailing dot, which no client matches"),
    "trailing space": ("www.example.com ", "'www.example.com ' with a space, which no client matches"),
    "leading space": (" www.example.com", "' www.example.com' with a space"),
    "U-label": ("bücher.example", "'bücher.example' with letters that are no ASCII, which no client matches"),
    "U-label in Latin-1": (b"b\xfccher.example", "with letters that are no ASCII"),
    "full width": ("\uff57\uff57\uff57.example.com", "with letters that are no ASCII"),
    "Kelvin sign": ("\u212aiosk.example.com", "with letters that are no ASCII"),
    "NUL": (b"www.example.com\0.evil.test", "with a control character"),
    "empty": ("", "'', which is empty"),
    "IP address": ("10.0.0.1", "'10.0.0.1', which is an IP address"),
    "IPv6 address": ("2001:db8::1", "which is an IP address"),
    "URL": ("https://www.example.com", "which is no host name that clients ask for"),
    "port": ("www.example.com:443", "which is no host name"),
    "underscore": ("under_score.example.com", "which is no host name"),
    "star inside": ("www.*.example.com", "which is no host name"),
    "star and letters": ("w*.example.com", "which is no host name"),
    "two stars": ("*.*.example.com", "which is no host name"),
    "star alone": ("*", "which is no host name"),
    "wide": ("*.com", "which is no host name"),
    "percent": ("b%C3%BCcher.example", "which is no host name"),
    "no Punycode": ("xn--zzzzzz99999999999.example", "with a label xn-- that stands for no letters"),
}


@pytest.mark.parametrize("kind", UNMATCHED)
def test_a_name_that_no_client_matches_is_no_host_and_is_told(kind: str) -> None:
    name, said = UNMATCHED[kind]
    judgement = judged(["ok.example.com", name])
    assert judgement.accepted
    assert judgement.hosts == ("ok.example.com",)
    assert WarningCode.UNUSABLE_NAME in {warning.code for warning in judgement.warnings}
    assert said in judgement.warnings[0].detail
    assert "it is served for its other names alone" in judgement.warnings[0].detail


@pytest.mark.parametrize("kind", UNMATCHED)
def test_alone_it_covers_nothing(kind: str) -> None:
    name, said = UNMATCHED[kind]
    judgement = judged([name])
    (violation,) = judgement.violations
    assert violation.code.value == "host_not_covered"
    assert "the certificate has '" in violation.detail
    assert said in violation.detail
    assert judgement.hosts == ()


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("www.example.com.", "www.example.com"),
        ("www.example.com ", "www.example.com"),
        ("bücher.example", "bücher.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("\uff57\uff57\uff57.example.com", "www.example.com"),
        ("\u212aiosk.example.com", "kiosk.example.com"),
        (b"www.example.com\0.evil.test", "www.example.com"),
        ("https://www.example.com", "www.example.com"),
        ("*.com", "example.com"),
        ("*", "localhost"),
        ("w*.example.com", "www.example.com"),
    ],
)
def test_the_host_that_was_meant_is_not_covered_neither_here_nor_for_the_agent(name: bytes | str, host: str) -> None:
    judgement = judged([name, "ok.example.com"], host)
    assert [violation.code.value for violation in judgement.violations] == ["host_not_covered"]
    assert "its names are ok.example.com; the certificate has '" in judgement.violations[0].detail
    bundle = bundle_of(judgement)
    assert "not installed" in str(unfit_for(row_for(bundle, judgement.hosts[0]), bundle))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("WWW.Example.COM", "www.example.com"),
        ("*.Example.com", "www.example.com"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("xn--i-7iq.example", "xn--i-7iq.example"),
        ("xn--zzzzzz99999999999.example", "xn--zzzzzz99999999999.example"),
    ],
)
def test_what_clients_match_is_covered_here_and_for_the_agent(name: str, host: str) -> None:
    judgement = judged([name], host)
    assert judgement.violations == ()
    assert judgement.warnings == ()
    bundle = bundle_of(judgement)
    assert unfit_for(row_for(bundle, judgement.hosts[0]), bundle) is None


def test_names_that_are_not_asked_for_are_no_concern_where_hosts_are() -> None:
    assert judged(["www.example.com", "www.example.com.", "10.0.0.1"], "www.example.com").warnings == ()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("bücher.example", "'bücher.example', which is written xn--bcher-kva.example in a certificate"),
        (tlv(0x81, "jö@example.com".encode()), "an e-mail address 'jö@example.com'"),
        (tlv(0x86, "http://ö".encode()), "a URI 'http://ö'"),
    ],
)
def test_an_entry_for_which_chrome_refuses_the_certificate_is_told_whatever_the_host(
    entry: bytes | str, said: str
) -> None:
    judgement = judged(["www.example.com", entry], "www.example.com")
    assert judgement.accepted
    (warning,) = judgement.warnings
    assert warning.code is WarningCode.UNUSABLE_NAME
    assert "Chrome refuses" in warning.detail
    assert said in warning.detail


def test_a_name_is_a_host_or_there_is_a_reason() -> None:
    assert unmatched("www.example.com") is None
    assert unmatched("*.example.com") is None
    assert unmatched("localhost") is None


@pytest.mark.parametrize(
    ("features", "demanded"), [((5,), True), ((17,), True), ((1, 5), True), ((1,), False), ((), False)]
)
def test_must_staple_is_a_warning_in_plain_words(features: tuple[int, ...], *, demanded: bool) -> None:
    feature = extension(TLS_FEATURE, sequence(*map(integer, features)))
    judgement = judged(["www.example.com"], extensions=(feature,))
    assert judgement.accepted
    assert [warning.code for warning in judgement.warnings] == [WarningCode.MUST_STAPLE] * demanded
    for warning in judgement.warnings:
        assert "'CN=www.example.com' demands a stapled OCSP answer" in warning.detail
        assert "Firefox" in warning.detail


def test_a_feature_that_is_none_is_no_concern() -> None:
    made = certificate(*SERVERS, extension(TLS_FEATURE, b"\x30\x80"), by=ROOT)
    judgement = judge_pfx(made.pfx(), UploadMetadata(), [None], policy=ANY_CHAIN, now=dt.datetime.now(dt.UTC))
    assert judgement.accepted
    assert judgement.warnings == ()
