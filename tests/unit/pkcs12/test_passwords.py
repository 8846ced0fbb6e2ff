"""Passwords as programs and people spell them: which are tried, in how many steps, and what is said of them."""

import hmac
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pkcs12.asn1 import SEQUENCE
from shared.pkcs12.file import Pkcs12
from shared.pkcs12.kdf import MAC_PURPOSE, Pkcs12Derivation
from shared.pkcs12.opening import (
    Contents,
    MixedPasswordsError,
    OtherPasswordError,
    TooExpensiveError,
    open_file,
)
from shared.pkcs12.passwords import Password, oddities, respellings, spellings
from shared.pkcs12.pbe import WrongPasswordError
from tests.rigs.certificates import Issued, authority
from tests.rigs.handmade_pfx import (
    SHA256,
    certificate_bag,
    encrypted,
    encrypted_safe,
    integer,
    key_bag,
    octets,
    oid,
    pbmac1,
    pfx,
    plain_safe,
    safe_of,
    sequence,
    shrouded_key_bag,
    tlv,
)

GRUEN = "grün"


@pytest.fixture(scope="module")
def issued() -> Issued:
    return authority().issue("www.example.com")


def opened(file: bytes, password: str, limit: int = 2_000_000) -> Contents:
    return open_file(Pkcs12.parse(file), [password.encode()], max_cost=limit)


def with_old_mac(password: str, *safes: bytes, iterations: int = 100) -> bytes:
    """A file whose MAC is by PKCS#12's own derivation, from UTF-8 of which each octet is a character."""
    key = Pkcs12Derivation(digest="sha256", salt=b"salt", iterations=iterations, purpose=MAC_PURPOSE).derive(
        Password(utf8=b"", bmp=password.encode().decode("latin-1").encode("utf-16-be") + b"\0\0"), 32
    )
    value = octets(hmac.digest(key, sequence(*safes), "sha256"))
    algorithm = sequence(oid(SHA256), tlv(0x05))
    return pfx(*safes, mac=sequence(sequence(algorithm, value), octets(b"salt"), integer(iterations)))


def test_pbes2_beside_a_mac_of_openssl_1_0_takes_utf_8_and_each_octet_for_a_character(issued: Issued) -> None:
    file = with_old_mac(GRUEN, encrypted_safe(GRUEN, key_bag(issued.key), certificate_bag(issued.certificate)))
    contents = opened(file, GRUEN)
    assert contents.keys
    assert "OpenSSL before 1.1" in contents.spelling


def unpads_to_noise(file: bytes, password: str) -> bool:
    """Whether this password is wrong for the file's safe and goes unnoticed, as happens once in 256 times."""
    [layer] = Pkcs12.parse(file).encrypted
    try:
        return layer.encryption.decrypt(Password(utf8=password.encode(), bmp=b""), layer.data)[0] != SEQUENCE
    except WrongPasswordError:
        return False


def test_a_spelling_that_fits_the_mac_and_unpads_a_safe_by_chance_keeps_no_other_from_being_tried(
    issued: Issued,
) -> None:
    misread = GRUEN.encode().decode("latin-1")
    algorithms = (encrypted(sequence(key_bag(issued.key)), misread, iterations=1) for _ in range(20_000))
    files = (with_old_mac(GRUEN, safe_of(algorithm, tlv(0x80, data))) for algorithm, data in algorithms)
    file = next(file for file in files if unpads_to_noise(file, GRUEN))
    assert opened(file, GRUEN).keys


def test_two_passwords_are_told_as_such_where_the_one_of_the_mac_unpads_a_safe_by_chance() -> None:
    algorithm, noise = encrypted(b"noise", GRUEN)
    file = with_old_mac(GRUEN, safe_of(algorithm, tlv(0x80, noise)))
    with pytest.raises(MixedPasswordsError):
        opened(file, GRUEN)


def test_a_password_in_ascii_has_no_other_spelling_but_what_may_be_around_it() -> None:
    assert [form.cure == "" for form in respellings([b"secret"])] == [False] * 5


def test_without_a_password_nothing_else_is_tried() -> None:
    assert not list(respellings([None, b""]))


@given(st.text(max_size=30))
def test_no_form_is_tried_twice_and_there_are_few(text: str) -> None:
    given_ = text.encode("utf-8", "ignore")
    forms = [*spellings([given_]), *respellings([given_])]
    assert len(forms) == len(set(forms)) <= 26


@given(st.text(max_size=30))
def test_nothing_of_a_password_is_in_what_is_said_of_it(text: str) -> None:
    given_ = text.encode("utf-8", "ignore")
    plain = {form.said for form in respellings([b"secret"])} | {""}
    said = {form.said for form in respellings([given_])} | {oddities([given_])}
    unusual = [each for each in said - plain if not each.isascii()]
    assert not unusual


def test_other_spellings_are_tried_as_far_as_the_steps_go(issued: Issued) -> None:
    safes = [plain_safe(shrouded_key_bag(issued.key, GRUEN), certificate_bag(issued.certificate))]
    file = with_old_mac(GRUEN, *safes, iterations=1000)
    # The given spelling's MAC, the right one's, and 1,000 iterations of PBKDF2, which are worth 500.
    assert opened(file, GRUEN, limit=2500).keys
    with pytest.raises(WrongPasswordError):
        opened(file, GRUEN, limit=2499)
    with pytest.raises(TooExpensiveError):
        opened(file, GRUEN, limit=1499)


def test_a_named_password_costs_its_mac_alone(issued: Issued) -> None:
    file = issued.pfx("secret", iterations=1500)
    with pytest.raises(OtherPasswordError, match="without a line end after it"):
        opened(file, "secret\n", limit=2 * 2048 + 1500)
    with pytest.raises(WrongPasswordError) as refusal:
        opened(file, "secret\n", limit=2048 + 1500)
    assert not isinstance(refusal.value, OtherPasswordError)


def test_the_mac_is_derived_once_for_all_spellings_that_it_is_the_same_for(issued: Issued) -> None:
    safes = [encrypted_safe("other", key_bag(issued.key), certificate_bag(issued.certificate))]
    file = pfx(*safes, mac=pbmac1(safes, GRUEN, iterations=2000))
    with pytest.raises(MixedPasswordsError):
        opened(file, GRUEN)


@pytest.mark.parametrize("text", ["gru\u0308n", "\u212bngstr\u00f6m"])
def test_accents_apart_or_together_are_the_same_password(issued: Issued, text: str) -> None:
    for form in ("NFC", "NFD"):
        file = issued.pfx(unicodedata.normalize(form, text))
        assert opened(file, unicodedata.normalize("NFC", text)).keys
        assert opened(file, unicodedata.normalize("NFD", text)).keys


def test_a_key_under_another_password_is_left_where_there_is_one_that_opens(issued: Issued) -> None:
    stranger = authority().issue("other.example.com").key
    file = pfx(plain_safe(key_bag(issued.key), certificate_bag(issued.certificate), shrouded_key_bag(stranger, "")))
    contents = opened(file, "secret")
    assert len(contents.keys) == 1
    assert contents.unread == ("does not decrypt with the password",)
    assert len(opened(file, "").keys) == 2
