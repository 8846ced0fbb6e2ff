import datetime as dt
import re

import pytest
from cryptography.hazmat.primitives import hashes

from shared.bundle import BUNDLE_ID, CertificateBundle, bundle_id
from shared.errors import BrokenBundleError
from shared.validation.assembling import OpenedPfx
from shared.validation.pfx import open_pfx
from tests.rigs.certificates import Issued, KeyKind, authority, self_signed


@pytest.fixture(scope="module")
def issued() -> Issued:
    return authority().intermediate().issue("www.example.com", "*.example.org")


def test_a_bundle_tells_what_others_need_to_know_of_its_leaf(issued: Issued) -> None:
    bundle = issued.bundle()
    assert bundle.fingerprint_sha256 == issued.certificate.fingerprint(hashes.SHA256()).hex()
    assert re.fullmatch(r"[0-9A-F]{40}", bundle.thumbprint_sha1)
    assert bundle.subject == "CN=www.example.com"
    assert bundle.issuer == "CN=certcast test intermediate CA"
    assert bundle.dns_names == ("www.example.com", "*.example.org")
    assert bundle.not_before.tzinfo is dt.UTC
    assert bundle.not_before < dt.datetime.now(dt.UTC) < bundle.not_after


def test_names_are_lower_case_and_absent_where_there_are_none() -> None:
    ca = authority()
    assert ca.issue("WWW.Example.com").bundle().dns_names == ("www.example.com",)
    assert ca.issue(subject="CN=www.example.com").bundle().dns_names == ()


@pytest.mark.parametrize("kind", ["ec", "rsa", "p384", "p521", "ed25519"])
def test_a_bundle_survives_its_sealed_form(kind: KeyKind) -> None:
    bundle = authority().intermediate().issue("www.example.com", key=kind).bundle()
    again = CertificateBundle.from_pem(bundle.to_pem())
    assert again == bundle
    assert again.key_pem() == bundle.key_pem()
    assert bundle.to_pem() == bundle.key_pem() + bundle.chain_pem()
    assert b"PRIVATE KEY" not in bundle.chain_pem()
    assert bundle.chain_pem().count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pem: pem[:0],
        lambda pem: pem[: len(pem) // 2],
        lambda pem: pem[pem.index(b"-----BEGIN CERTIFICATE") :],
        lambda pem: pem[: pem.index(b"-----BEGIN CERTIFICATE")],
        lambda pem: pem.replace(b"-----BEGIN PRIVATE KEY", b"-----BEGIN ENCRYPTED PRIVATE KEY"),
    ],
)
def test_a_damaged_sealed_form_is_refused_without_quoting_it(issued: Issued, spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(BrokenBundleError, match="sealed bundle is damaged") as refused:
        CertificateBundle.from_pem(spoil(issued.bundle().to_pem()))
    assert refused.value.__cause__ is None


def test_a_sealed_form_with_another_s_key_is_refused(issued: Issued) -> None:
    pem = self_signed("www.example.com").bundle().key_pem() + issued.bundle().chain_pem()
    with pytest.raises(BrokenBundleError, match="does not belong"):
        CertificateBundle.from_pem(pem)


def test_no_repr_shows_the_key(issued: Issued) -> None:
    opened = open_pfx(issued.pfx(), [b"secret"])
    assert isinstance(opened, OpenedPfx)
    assert "key" not in repr(opened).replace("certcast", "").lower()


def test_a_bundle_id_names_the_leaf_and_the_uploaded_bytes(issued: Issued) -> None:
    name = bundle_id(issued.bundle(), b"content")
    assert name.startswith(f"{issued.fingerprint}/")
    assert BUNDLE_ID.match(name)
    assert name != bundle_id(issued.bundle(), b"other content")


@pytest.mark.parametrize("name", ["", "a/b", f"{'0' * 64}/{'0' * 64}\n", f"{'A' * 64}/{'0' * 64}", f"../{'0' * 64}"])
def test_what_is_no_bundle_id_is_told_apart(name: str) -> None:
    assert not BUNDLE_ID.match(name)
