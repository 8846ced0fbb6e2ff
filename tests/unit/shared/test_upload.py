import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.binding import ANY_ROLE
from shared.upload import (
    SEALED_BUNDLE_KEY,
    UploadMetadata,
    is_certificate_name,
    parse_metadata,
    password_reference,
    scrubbed,
)
from shared.verdict import VerdictCode

BUNDLE = f"{'a' * 64}/{'b' * 64}"
REFERENCE = "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/pfx/0123)"


def parsed(**raw: str) -> UploadMetadata:
    metadata, violations = parse_metadata(raw)
    assert violations == ()
    return metadata


def test_without_metadata_everything_is_at_its_default() -> None:
    assert parsed() == UploadMetadata(
        hosts=(), port=443, subject=None, password=None, site=None, role=ANY_ROLE, sealed_bundle=None
    )
    assert parsed(HostHeader=" ", PortNumber="", CertificateSubject=" ", SiteName="", Role=" ") == parsed()


def test_metadata_of_the_original_pattern_is_read() -> None:
    metadata = parsed(
        HostHeader="www.store2.com",
        PortNumber="443",
        CertificateSubject="CN=www.store2.com",
        CertificatePassword="password",
    )
    assert metadata.hosts == ("www.store2.com",)
    assert metadata.port == 443
    assert metadata.subject == "CN=www.store2.com"
    assert metadata.password == "password"


def test_keys_are_read_in_any_case_and_others_are_left_alone() -> None:
    metadata = parsed(hostheader="a.example", PORTNUMBER=" 8443 ", sitename=" Shop 1 ", rOLE="web-1", note="mine")
    assert (metadata.hosts, metadata.port, metadata.site, metadata.role) == (("a.example",), 8443, "Shop 1", "web-1")


def test_hosts_are_separated_by_commas_semicolons_and_white_space_and_kept_as_written() -> None:
    assert parsed(HostHeader=" A.example,b.example;;c.example\t*.d.example \n").hosts == (
        "A.example",
        "b.example",
        "c.example",
        "*.d.example",
    )


def test_the_default_is_asked_for_by_true_alone() -> None:
    for text, meant in (("true", True), (" True\n", True), ("FALSE", False), ("", False)):
        assert parsed(dEFAULT=text).default is meant


def test_a_password_is_kept_to_the_letter_and_out_of_sight() -> None:
    metadata = parsed(CertificatePassword=" s3cret ")
    assert metadata.password == " s3cret "
    assert "s3cret" not in repr(metadata)
    assert parsed(CertificatePassword="").password == ""


@pytest.mark.parametrize("port", ["0", "65536", "-1", "443.0", "0x1bb", "https", "٤٤٣", "9" * 5000, "4 43"])
def test_a_port_that_is_none_is_reported_and_stands_at_its_default(port: str) -> None:
    metadata, violations = parse_metadata({"PortNumber": port})
    assert metadata.port == 443
    assert [violation.code for violation in violations] == [VerdictCode.INVALID_PORT]
    assert port[:9] in violations[0].detail


@pytest.mark.parametrize("port", [1, 443, 65535])
def test_a_port_is_read_over_its_whole_range(port: int) -> None:
    assert parsed(PortNumber=str(port)).port == port


@pytest.mark.parametrize("role", ["a b", "web/1", "x" * 65, "**", "rôle", "a\x00"])
def test_a_role_that_is_none_is_reported(role: str) -> None:
    metadata, (violation,) = parse_metadata({"Role": role})
    assert metadata.role == ANY_ROLE
    assert violation.code is VerdictCode.INVALID_METADATA
    assert violation.detail.startswith("Role is ")


@pytest.mark.parametrize("site", ["a/b", 'a"b', "a\x07b", "x" * 257, "a:b"])
def test_a_site_that_iis_would_refuse_is_reported(site: str) -> None:
    metadata, (violation,) = parse_metadata({"SiteName": site})
    assert metadata.site is None
    assert violation.code is VerdictCode.INVALID_METADATA
    assert "\x07" not in violation.detail


def test_every_fault_is_reported_at_once() -> None:
    _, violations = parse_metadata({"Role": "a b", "PortNumber": "x", "SiteName": "?"})
    assert {violation.code for violation in violations} == {VerdictCode.INVALID_METADATA, VerdictCode.INVALID_PORT}
    assert len(violations) == 3


@given(st.dictionaries(st.sampled_from(["HostHeader", "portnumber", "Role", "SiteName", "certcast_bundle"]), st.text()))
def test_no_metadata_is_too_odd_to_be_parsed(raw: dict[str, str]) -> None:
    metadata, violations = parse_metadata(raw)
    assert 1 <= metadata.port <= 65535
    assert all(violation.detail for violation in violations)


@pytest.mark.parametrize(
    "password",
    [REFERENCE, f"  {REFERENCE} ", REFERENCE.lower(), "@microsoft.keyvault( secreturi = https://v.example/secrets/x )"],
)
def test_a_key_vault_reference_is_told_from_a_password(password: str) -> None:
    uri = password_reference(password)
    assert uri is not None
    assert uri.startswith("https://")
    assert not uri.endswith((")", " "))
    assert parsed(CertificatePassword=password).password == password


@pytest.mark.parametrize("password", ["", "secret", "@Microsoft", "x" + REFERENCE])
def test_a_literal_password_is_no_reference(password: str) -> None:
    assert password_reference(password) is None
    assert parsed(CertificatePassword=password).password == password


@pytest.mark.parametrize(
    "password",
    [
        "@Microsoft.KeyVault(VaultName=v;SecretName=hush)",
        "@Microsoft.KeyVault(SecretUri=http://v/secrets/hush)",
        "@Microsoft.KeyVault(SecretUri=https://v/secrets/hush",
    ],
)
def test_a_reference_that_cannot_be_followed_is_reported_without_quoting_it(password: str) -> None:
    metadata, (violation,) = parse_metadata({"CertificatePassword": password})
    assert metadata.password is None
    assert violation.code is VerdictCode.INVALID_METADATA
    assert "hush" not in violation.detail


def test_only_what_has_the_form_of_a_bundle_id_is_taken_for_one() -> None:
    assert parsed(certcast_bundle=BUNDLE).sealed_bundle == BUNDLE
    for text in ("", "../x", BUNDLE + "\n", BUNDLE.upper()):
        assert parsed(certcast_bundle=text).sealed_bundle is None


def test_scrubbing_takes_the_password_and_leaves_the_rest() -> None:
    raw = {"HostHeader": "a.example", "certificatePASSWORD": "s3cret", "CertCast_Bundle": "old", "note": "mine"}
    left = scrubbed(raw, BUNDLE)
    assert left == {"HostHeader": "a.example", "note": "mine", SEALED_BUNDLE_KEY: BUNDLE}
    assert scrubbed(left, BUNDLE) == left
    assert raw["certificatePASSWORD"] == "s3cret"


@pytest.mark.parametrize("name", ["a.pfx", "A.PFX", "shop/web site/ü%20#.p12", "x.y.Pfx", "a//b...d/x%2e%2e?.pfx"])
def test_certificates_are_known_by_their_name(name: str) -> None:
    assert is_certificate_name(name)


@pytest.mark.parametrize(
    "name", ["", "a.pem", "pfx", ".pfx", "folder/.p12", "a.pfx/", "a.pfx\n", "a.pfx.txt", "a" * 1021 + ".pfx"]
)
def test_other_blobs_are_left_alone(name: str) -> None:
    assert not is_certificate_name(name)
