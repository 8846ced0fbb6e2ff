"""Which known metadata key was meant by an unknown one, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upload import SEALED_BUNDLE_KEY
from shared.validation.metadata_keys import KNOWN, meant_by, misnamed_password, unknown_keys
from shared.verdict import MAX_WARNINGS, WarningCode

SECRET = "correct horse battery"

MEANT = {
    "HostHeader": (
        "HostHeaders",
        "host_header",
        "host-header",
        "Host",
        "hostname",
        "HostHeadr",
        "domain",
        "hostheader ",
    ),
    "PortNumber": ("Port", "port_number", "portnumer", "PortNumbers", "https_port"),
    "CertificateSubject": ("Subject", "certificate_subject", "CertSubject", "CN", "CertificatSubject"),
    "CertificatePassword": (
        *("Password", "password", "pwd", "PFXPassword", "pfx_password", "certificate-password", "CertificatePasword"),
        *("CertPassword", "Passwort", "passphrase", "PFX_PASS", "MyShopPfxPassword2", "certificatepasswort"),
    ),
    "SiteName": ("Site", "site_name", "website", "WebSiteName", "SitName"),
    "Role": ("Roles", "role_name", "InstanceRole"),
    "Default": ("is_default", "Defualt", "Defaults", "fallback", "DefaultCertificate"),
}
FOREIGN = ("project", "mtime", "hdi_isfolder", "owner", "environment", "created_by", "rules", "cost", "file-encoding")


def said(raw: dict[str, str]) -> list[str]:
    return [warning.detail for warning in unknown_keys(raw)]


@pytest.mark.parametrize(("key", "meant"), [(key, known) for known, keys in MEANT.items() for key in keys])
def test_the_likeliest_known_key_is_named(key: str, meant: str) -> None:
    assert meant_by(key) == meant
    [warning] = unknown_keys({key: SECRET})
    assert warning.code is WarningCode.UNKNOWN_METADATA
    assert f"The metadata key {key} is not known. Did you mean {meant}?" in warning.detail
    assert SECRET not in warning.detail


@pytest.mark.parametrize("key", FOREIGN)
def test_what_looks_like_none_of_ours_is_taken_for_none(key: str) -> None:
    assert meant_by(key) is None
    [sentence] = said({key: SECRET})
    assert sentence == (
        f"The metadata key {key} is not known, and left as it is; certcast reads HostHeader, PortNumber, "
        "CertificateSubject, CertificatePassword, SiteName, Role, Default."
    )
    assert unknown_keys({key: SECRET}, others=False) == ()


def test_known_keys_in_any_case_and_certcasts_own_are_not_warned_of() -> None:
    assert said({key.upper(): "x" for key in KNOWN} | {SEALED_BUNDLE_KEY: "x"}) == []


def test_a_key_that_stands_beside_the_right_one_is_to_be_deleted() -> None:
    assert said({"HostHeader": "a", "Host": "b"}) == [
        "The metadata key Host is not known, and HostHeader is set: delete Host."
    ]


def test_many_unknown_keys_make_few_warnings() -> None:
    warnings = unknown_keys({f"host{number}": "x" for number in range(100)} | dict.fromkeys(FOREIGN, "x"))
    assert len(warnings) < MAX_WARNINGS
    assert " more are not known, and left as they are" in warnings[-1].detail


def test_a_password_under_another_name_is_found_where_there_is_none_of_its_own() -> None:
    found = misnamed_password({"hostheader": "a", "pwd": SECRET})
    assert found is not None
    assert found.detail == "No CertificatePassword is set, but a key pwd is: rename it to CertificatePassword."
    assert misnamed_password({"pwd": SECRET, "certificatePASSWORD": "x"}) is None
    assert misnamed_password({"project": SECRET}) is None


@given(st.dictionaries(st.text(max_size=300), st.just(SECRET), max_size=20))
def test_whatever_the_keys_are_no_value_is_quoted(raw: dict[str, str]) -> None:
    found = unknown_keys(raw)
    assert len(found) <= MAX_WARNINGS
    assert not [warning for warning in found if SECRET in warning.detail]
    assert SECRET not in str(misnamed_password(raw))
