import dataclasses

import pytest

from operator_cli.blob_metadata import blob_name, upload_metadata
from operator_cli.pfx_file import Candidate, Wish
from shared.errors import ConfigurationError
from shared.upload import parse_metadata
from shared.validation.judge import Judgement
from shared.validation.subjects import mismatches
from tests.rigs.certificates import name


def candidate(*hosts: str, password: str | None = None) -> Candidate:
    judgement = Judgement(violations=(), hosts=hosts, port=443, role="*", site=None, bundle=None)
    return Candidate(content=b"", password=password, judgement=judgement, trust="off")


def test_only_what_was_asked_for_is_written() -> None:
    assert upload_metadata(Wish(), candidate("www.example.com")) == {}


def test_everything_asked_for_is_read_back_the_same() -> None:
    wish = Wish(hosts=("WWW.example.com", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example"), port=8443)
    wish = dataclasses.replace(wish, subject="CN=www.example.com", site="Default Web Site", role="web")
    raw = upload_metadata(wish, candidate("www.example.com", "xn--bcher-kva.example", password="p w"))
    metadata, violations = parse_metadata(raw)
    assert violations == ()
    assert metadata.hosts == ("www.example.com", "xn--bcher-kva.example")
    assert (metadata.port, metadata.subject, metadata.site) == (8443, "CN=www.example.com", "Default Web Site")
    assert (metadata.role, metadata.password) == ("web", "p w")


def test_a_subject_outside_ascii_is_escaped_and_still_means_the_same() -> None:
    subject = "CN=www.example.com,O=B\N{LATIN SMALL LETTER U WITH DIAERESIS}cher \N{EURO SIGN}"
    raw = upload_metadata(Wish(subject=subject), candidate())
    assert raw["CertificateSubject"].isascii()
    assert mismatches(raw["CertificateSubject"], name(subject)) == ()


@pytest.mark.parametrize(
    "password", ["h\N{LATIN SMALL LETTER U WITH ACUTE}nter2", " hunter2", "hunter2 ", "hunt\ter2", "hunt\ner2"]
)
def test_a_password_that_headers_cannot_carry_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ConfigurationError, match="Key Vault") as caught:
        upload_metadata(Wish(), candidate(password=password))
    assert password.strip() not in str(caught.value)


def test_a_site_that_headers_cannot_carry_is_refused_by_its_option() -> None:
    with pytest.raises(ConfigurationError, match="--site"):
        upload_metadata(Wish(site="Gesch\N{LATIN SMALL LETTER A WITH DIAERESIS}ft"), candidate())


def test_more_hosts_than_metadata_can_carry_are_refused_with_a_way_round() -> None:
    hosts = tuple(f"{number:03}.a-rather-long-label-for-a-host.example.com" for number in range(200))
    with pytest.raises(ConfigurationError, match="leave --host out"):
        upload_metadata(Wish(hosts=hosts), candidate(*hosts))


def test_the_blob_is_named_after_the_file_unless_a_name_is_given() -> None:
    assert blob_name("shop.pfx", None) == "shop.pfx"
    assert blob_name("shop.bin", "shops/shop.P12") == "shops/shop.P12"


@pytest.mark.parametrize(
    ("file", "given"), [("shop.pem", None), ("shop.pfx", "shop"), ("shop.pfx", "folder/"), ("", "")]
)
def test_a_name_that_certcast_would_pass_over_is_refused(file: str, given: str | None) -> None:
    with pytest.raises(ConfigurationError, match="--name"):
        blob_name(file, given)


def test_a_file_name_that_is_no_text_needs_another_name() -> None:
    with pytest.raises(ConfigurationError, match="--name"):
        blob_name("shop\udcff.pfx", None)
