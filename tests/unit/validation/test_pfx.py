from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.bundle import CertificateBundle
from shared.bundle.link import Link
from shared.verdict import VerdictCode, Violation
from tests.rigs.certificates import Issued, KeyKind, authority, new_key, self_signed
from tests.rigs.handmade_pfx import (
    CERTIFICATE_BAG,
    KEY_BAG,
    X509_CERTIFICATE,
    bag,
    certificate_bag,
    explicit,
    integer,
    key_bag,
    octets,
    oid,
    pfx,
    plain_safe,
    sequence,
    shrouded_key_bag,
    tlv,
)
from tests.rigs.opened import load_pfx

RSA = "1.2.840.113549.1.1.1"


@pytest.fixture(scope="module")
def issued() -> Issued:
    return authority().intermediate().issue("www.example.com", "*.example.org")


def load(file: bytes, *passwords: str | None) -> CertificateBundle | tuple[Violation, ...]:
    return load_pfx(file, [None if password is None else password.encode() for password in passwords or ("secret",)])


def refusal(file: bytes, *passwords: str | None) -> Violation:
    """The one reason why the file is refused."""
    found = load(file, *passwords)
    assert isinstance(found, tuple)
    assert len(found) == 1
    return found[0]


# The bundle itself


@pytest.mark.parametrize("kind", ["ec", "rsa", "p384", "p521", "ed25519", "ed448", "dsa", "secp256k1", "rsa1024"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pfx_opens_whatever_its_key_and_cipher(kind: KeyKind, *, legacy: bool) -> None:
    issued = authority().intermediate().issue("www.example.com", key=kind)
    bundle = load(issued.pfx(legacy=legacy))
    assert bundle == issued.bundle()
    assert isinstance(bundle, CertificateBundle)
    assert bundle.key_pem() == issued.bundle().key_pem()


def test_a_pfx_without_a_password_opens_with_none_or_the_empty_one(issued: Issued) -> None:
    file = issued.pfx(None)
    assert load(file, None) == load(file, "") == issued.bundle()


@pytest.mark.parametrize("name", [None, "a friendly name", "\N{SNOWMAN}"])
def test_friendly_names_do_not_matter(issued: Issued, name: str | None) -> None:
    assert load(issued.pfx(friendly_name=name)) == issued.bundle()


@pytest.mark.parametrize("password", ["pässwörd", "\N{SNOWMAN} and \N{PILE OF POO}", "with spaces  "])
@pytest.mark.parametrize("legacy", [False, True])
def test_passwords_of_any_characters_open(issued: Issued, password: str, *, legacy: bool) -> None:
    assert load(issued.pfx(password, legacy=legacy), password) == issued.bundle()


def test_the_first_password_that_fits_opens_it(issued: Issued) -> None:
    assert load(issued.pfx(), "wrong", None, "secret") == issued.bundle()


def test_root_strangers_and_duplicates_are_left_out_and_the_rest_is_put_in_order() -> None:
    root = authority("root")
    issued = root.intermediate("upper").intermediate("lower").issue("www.example.com")
    lower, upper = issued.chain
    others = [root.root, authority("stranger").root, upper, lower, upper, root.issue("other.example.com").certificate]
    opened = load(issued.pfx(others=others))
    assert isinstance(opened, CertificateBundle)
    assert opened.chain == (Link.of(lower), Link.of(upper))


def test_the_leaf_need_not_come_first(issued: Issued) -> None:
    bags = [certificate_bag(certificate) for certificate in (*issued.chain, issued.root, issued.certificate)]
    assert load(pfx(plain_safe(*bags, key_bag(issued.key)))) == issued.bundle()


def test_a_self_signed_certificate_opens() -> None:
    issued = self_signed("www.example.com")
    assert load(issued.pfx()) == issued.bundle()


def test_a_stray_key_beside_the_one_that_fits_does_not_matter(issued: Issued) -> None:
    file = pfx(plain_safe(key_bag(new_key()), key_bag(issued.key), certificate_bag(issued.certificate)))
    assert isinstance(load(file), CertificateBundle)


def test_the_library_agrees_on_what_is_in_a_file(issued: Issued) -> None:
    file = issued.pfx(others=[*issued.chain, issued.root])
    key, certificate, others = pkcs12.load_key_and_certificates(file, b"secret")
    assert load(file) == issued.bundle()
    assert certificate == issued.certificate
    assert {*issued.chain, issued.root} == set(others)
    assert key is not None


# Refusals, one for each code


def test_a_file_over_the_limit_is_too_large(issued: Issued) -> None:
    file = issued.pfx()
    (found,) = load_pfx(file, [b"secret"], max_bytes=len(file) - 1) or ()  # type: ignore[misc]
    assert found.code is VerdictCode.TOO_LARGE
    assert str(len(file)) in found.detail
    assert isinstance(load_pfx(file, [b"secret"], max_bytes=len(file)), CertificateBundle)


def test_a_file_over_the_limit_of_key_derivation_is_too_expensive(issued: Issued) -> None:
    file = issued.pfx(iterations=3_000_000 // 100)
    (found,) = load_pfx(file, [b"secret"], max_kdf_iterations=20_000)  # type: ignore[misc]
    assert found.code is VerdictCode.KDF_TOO_EXPENSIVE
    assert "32048" in found.detail
    assert "20000" in found.detail


def test_the_ordinary_limit_is_two_million_steps(issued: Issued) -> None:
    file = pfx(
        plain_safe(shrouded_key_bag(issued.key, "secret", claimed=4_000_002), certificate_bag(issued.certificate))
    )
    assert refusal(file).code is VerdictCode.KDF_TOO_EXPENSIVE


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("wrong", "with the password given: almost certainly the password is wrong"),
        (None, "with no password: almost certainly it has a password"),
        ("", "with no password: almost certainly it has a password"),
    ],
)
def test_a_file_whose_mac_does_not_fit_has_almost_certainly_another_password(
    issued: Issued, password: str | None, said: str
) -> None:
    found = refusal(issued.pfx(), password)
    assert found.code is VerdictCode.UNREADABLE_BUNDLE
    assert said in found.detail
    file = bytearray(issued.pfx())
    file[len(file) // 2] ^= 1
    assert refusal(bytes(file)) == refusal(issued.pfx(), "wrong")


def test_a_pfx_cut_short_is_unreadable(issued: Issued) -> None:
    file = issued.pfx()
    for size in range(0, len(file), 7):
        assert refusal(file[:size]).code is VerdictCode.UNREADABLE_BUNDLE


def test_a_pfx_without_key_or_certificate_says_which(issued: Issued) -> None:
    assert refusal(pfx(plain_safe(certificate_bag(issued.certificate)))).code is VerdictCode.NO_PRIVATE_KEY
    assert refusal(pfx(plain_safe(key_bag(issued.key)))).code is VerdictCode.NO_CERTIFICATE
    found = load(pfx())
    assert isinstance(found, tuple)
    assert [violation.code for violation in found] == [VerdictCode.NO_PRIVATE_KEY, VerdictCode.NO_CERTIFICATE]


def test_a_key_of_another_certificate_is_a_mismatch(issued: Issued) -> None:
    found = refusal(pfx(plain_safe(key_bag(new_key()), certificate_bag(issued.certificate))))
    assert found.code is VerdictCode.KEY_MISMATCH
    assert "CN=www.example.com" in found.detail


def test_two_certificates_with_their_keys_are_ambiguous(issued: Issued) -> None:
    other = authority().issue("other.example.com")
    pairs = [
        certificate_bag(issued.certificate),
        key_bag(issued.key),
        certificate_bag(other.certificate),
        key_bag(other.key),
    ]
    found = refusal(pfx(plain_safe(*pairs)))
    assert found.code is VerdictCode.AMBIGUOUS_LEAF
    assert "CN=www.example.com" in found.detail
    assert "CN=other.example.com" in found.detail
    assert other.certificate.not_valid_after_utc.strftime("%Y-%m-%d") in found.detail


def test_a_certificate_and_its_renewal_with_one_key_are_ambiguous(issued: Issued) -> None:
    renewal = authority().issue("www.example.com", key=issued.key)
    assert refusal(issued.pfx(others=[renewal.certificate])).code is VerdictCode.AMBIGUOUS_LEAF


# Keys and certificates that do harm


def rsa_key(n: int, p: int, q: int) -> bytes:
    numbers = sequence(*map(integer, (0, n, 65537, 3, p, q, 1, 1, 1)))
    return sequence(integer(0), sequence(oid(RSA), tlv(0x05)), octets(numbers))


def with_key(issued: Issued, key: bytes) -> bytes:
    return pfx(plain_safe(bag(KEY_BAG, key), certificate_bag(issued.certificate)))


def test_a_key_of_a_type_that_no_server_uses_is_weak(issued: Issued) -> None:
    exchange = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    found = refusal(with_key(issued, exchange))
    assert found.code is VerdictCode.WEAK_KEY
    assert "1.3.101.110" in found.detail


@pytest.mark.timeout(20)
def test_a_giant_key_is_refused_without_checking_it(issued: Issued) -> None:
    found = refusal(with_key(issued, rsa_key(2**65_536 + 1, 2**32_768 + 1, 2**32_768 + 1)))
    assert found.code is VerdictCode.WEAK_KEY
    assert "8192 bits" in found.detail


def damaged_rsa(change: str) -> tuple[rsa.RSAPrivateKey, bytes]:
    key = new_key("rsa")
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    n, p, q = numbers.public_numbers.n, numbers.p, numbers.q
    return key, {"factors": rsa_key(n, p + 2, q), "exponent": rsa_key(n, p, q)}[change]


@pytest.mark.parametrize("change", ["factors", "exponent"])
def test_an_rsa_key_whose_numbers_do_not_fit_is_damaged(change: str) -> None:
    key, der = damaged_rsa(change)
    found = refusal(with_key(authority().issue("www.example.com", key=key), der))
    assert found.code is VerdictCode.UNREADABLE_BUNDLE
    assert "a private key in it is damaged" in found.detail


def test_a_key_that_is_no_key_is_damaged(issued: Issued) -> None:
    for der in (b"", sequence(integer(0), sequence(oid(RSA)), octets(b"no key"))):
        assert refusal(with_key(issued, der)).code is VerdictCode.UNREADABLE_BUNDLE


def broken(certificate: x509.Certificate, old: bytes, new: bytes) -> bytes:
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert old in der
    return bag(CERTIFICATE_BAG, sequence(oid(X509_CERTIFICATE), explicit(octets(der.replace(old, new)))))


def test_a_broken_certificate_is_told_as_such(issued: Issued) -> None:
    # The subjectAltName's OID, twice over: a duplicate extension. And a common name that is not UTF-8.
    for old, new in (
        (bytes.fromhex("0603551d25"), bytes.fromhex("0603551d11")),
        (b"www.example.com", b"www.ex\xffmple.com"),
    ):
        bags = [key_bag(issued.key), broken(issued.certificate, old, new)]
        for file in (pfx(plain_safe(*bags)), pfx(plain_safe(*bags, certificate_bag(issued.root)))):
            assert refusal(file).code is VerdictCode.MALFORMED_CERTIFICATE


def test_a_certificate_whose_key_is_of_an_unknown_kind_is_told_by_that(issued: Issued) -> None:
    strange = broken(issued.certificate, bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0263"))
    found = refusal(pfx(plain_safe(key_bag(issued.key), strange)))
    assert found.code is VerdictCode.WEAK_KEY
    assert "a key of the kind 1.2.840.10045.2.99" in found.detail


# Whatever the bytes are


def judged(file: bytes, passwords: Sequence[bytes | None]) -> None:
    found = load_pfx(file, passwords, max_kdf_iterations=20_000)
    assert isinstance(found, CertificateBundle) or all(violation.rejects for violation in found)


ORDINARY = authority().intermediate().issue("www.example.com").pfx(iterations=1)
PLAIN = authority().intermediate().issue("www.example.com").pfx(None)
BENIGN = pytest.mark.filterwarnings("ignore:Parsed a serial number:Warning")


@BENIGN
@given(st.binary(max_size=2000), st.lists(st.none() | st.binary(max_size=20), max_size=3))
@example(b"\x30\x80", [])
def test_random_bytes_are_judged_and_nothing_is_raised(file: bytes, passwords: list[bytes | None]) -> None:
    judged(file, passwords)


@BENIGN
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from([ORDINARY, PLAIN]),
    st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_pfx_with_changed_octets_is_judged_and_nothing_is_raised(file: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(file)
    for position, octet in changes:
        changed[position % len(changed)] = octet
    judged(bytes(changed), [b"secret"])
