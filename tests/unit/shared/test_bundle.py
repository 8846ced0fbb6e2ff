import datetime as dt
import re
import ssl
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from shared.bundle import BUNDLE_ID, CertificateBundle, bundle_id
from shared.bundle.link import Link
from shared.errors import BrokenBundleError
from shared.validation.assembling import OpenedPfx
from shared.validation.pfx import open_pfx
from tests.rigs import handmade_certificate as handmade
from tests.rigs.certificates import Issued, KeyKind, authority, self_signed
from tests.rigs.handmade_pfx import sequence, tlv


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


MALFORMED = handmade.certificate(*handmade.AUTHORITYS, handmade.CRITICAL_FALSE, subject="CA", issuer="Root")


class TestALinkThatTheLibraryCannotParse:
    def test_is_sealed_served_and_told_of_as_it_is(self, issued: Issued) -> None:
        link = Link.read(MALFORMED.der)
        bundle = replace(issued.bundle(), chain=(link,))
        again = CertificateBundle.from_sealed(bundle.to_pem(), bundle_id(bundle, b""))
        assert again == bundle
        assert again.chain[0].der == MALFORMED.der
        assert ssl.DER_cert_to_PEM_cert(MALFORMED.der) in bundle.chain_pem().decode()
        assert again.chain_subjects == ("CN=www.example.com", "CN=CA")
        assert not again.chain[0].is_self_issued

    def test_shows_its_names_dates_and_key_and_nothing_that_could_be_trusted(self) -> None:
        link = Link.read(MALFORMED.der)
        assert link.certificate is None
        assert (link.subject, link.view.issuer.rfc4514_string()) == ("CN=CA", "CN=Root")
        assert MALFORMED.key is not None
        assert link.view.public_key() == MALFORMED.key.public_key()
        assert link.view.not_valid_after_utc > dt.datetime.now(dt.UTC)
        assert link.view.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert link.view.signature == b""

    @pytest.mark.parametrize("part", ["validity", "spki"])
    def test_is_read_without_a_part_that_is_broken_too(self, part: str) -> None:
        made = handmade.certificate(handmade.CRITICAL_FALSE, subject="CA", **{part: sequence(tlv(0x17, b"soon"))})  # type: ignore[arg-type]
        view = Link.read(made.der).view
        assert view.subject.rfc4514_string() == "CN=CA"
        if part == "validity":
            assert (view.not_valid_before_utc.year, view.not_valid_after_utc.year) == (1970, 9999)
        else:
            with pytest.raises(UnsupportedAlgorithm):
                view.public_key()

    def test_is_one_that_the_library_does_parse_where_it_does(self, issued: Issued) -> None:
        (link,) = issued.bundle().chain
        assert link.certificate == link.view == issued.chain[0]
        assert Link.read(issued.chain[0].public_bytes(serialization.Encoding.DER)) == link

    @pytest.mark.parametrize(
        "der",
        [
            b"",
            b"\0",
            b"\x30\x80\0\0",
            sequence(),
            sequence(sequence(), sequence(), tlv(0x03, b"\0")),
            sequence(sequence(*[sequence()] * 20_000), sequence(), tlv(0x03, b"\0")),
            sequence(sequence(tlv(0x02, b"\1"), *[sequence()] * 5), sequence(), tlv(0x03, b"\0"))[:-1],
            b"\x30\xff" + bytes(200),
            MALFORMED.der[:-1],
            MALFORMED.der + b"\0",
            handmade.certificate(handmade.CRITICAL_FALSE, subject=sequence(tlv(0x31, b"CA"))).der,
        ],
    )
    def test_is_refused_where_not_even_its_names_can_be_read(self, issued: Issued, der: bytes) -> None:
        with pytest.raises(ValueError, match=r".*"):
            Link.read(der)
        pem = issued.bundle().to_pem() + ssl.DER_cert_to_PEM_cert(der).encode()
        with pytest.raises(BrokenBundleError, match="a sealed bundle is damaged"):
            CertificateBundle.from_pem(pem)


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
