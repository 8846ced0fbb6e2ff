import contextlib

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from shared.validation.subjects import mismatches
from tests.rigs.certificates import name

FULL = name("CN=www.store2.com,OU=Web,O=Ä & Ö\\, Söhne,L=Köln,ST=NRW,C=DE,1.2.840.113549.1.9.1=me@store2.com")


@pytest.mark.parametrize(
    "expected",
    [
        "CN=www.store2.com",
        "www.store2.com",
        "  WWW.Store2.com ",
        "cn = WWW.STORE2.COM",
        "C=de, ST=nrw , CN=www.store2.com",
        "C=DE;L=köln;CN=www.store2.com",
        'O="ä & ö,  söhne",CN=www.store2.com',
        "O=Ä & Ö\\, Söhne",
        "O=\\C3\\84 & \\c3\\96\\2C Söhne\\ ",
        "E=me@store2.com",
        "emailAddress=me@store2.com",
        "S=NRW",
        "OID.2.5.4.3=www.store2.com+OU=web",
        "2.5.4.3=www.store2.com,",
        "CN=#0c0e7777772e73746f7265322e636f6d",
    ],
)
def test_what_names_the_same_matches_however_it_is_written(expected: str) -> None:
    assert mismatches(expected, FULL) == ()


def test_quotes_are_doubled_inside_quotes_on_windows() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'The "Shop", Ltd')])
    assert mismatches('O="The ""Shop"", Ltd"', subject) == ()
    assert mismatches('O="The \\"Shop\\", Ltd"', subject) == ()
    assert mismatches('O=The \\"Shop\\"\\, Ltd', subject) == ()


def test_attributes_that_are_missing_or_other_are_named() -> None:
    assert mismatches("CN=www.store3.com, O=Store , C=DE", FULL) == ("CN=www.store3.com", "O=Store")
    assert mismatches("www.store3.com", FULL) == ("CN=www.store3.com",)
    assert mismatches("OU=www.store2.com", FULL) == ("OU=www.store2.com",)
    assert mismatches("CN=anything", x509.Name([])) == ("CN=anything",)


def test_an_attribute_that_is_no_text_is_compared_too() -> None:
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"ab", x509.name._ASN1Type.BitString)
    assert mismatches("2.5.4.45=ab", x509.Name([bits])) == ()


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("CN=a,b", "no value"),
        ("CN=a,,O=b", "no value"),
        ("XY=a", "not known"),
        ("=a", "not known"),
        ('O="a', "no partner"),
        ("O=a\\", "no partner"),
    ],
)
def test_what_is_no_distinguished_name_is_refused_with_the_reason(expected: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mismatches(expected, FULL)


@given(st.text(alphabet=st.sampled_from('aCNO="\\,;+# \x00é0'), max_size=40) | st.text(max_size=40))
def test_any_text_is_compared_or_refused(expected: str) -> None:
    with contextlib.suppress(ValueError):
        mismatches(expected, FULL)


TEXT = st.text(
    alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_categories=["C"]), min_size=1, max_size=60
)


@given(TEXT.filter(str.strip), TEXT.filter(str.strip))
def test_a_subject_matches_its_own_rfc_4514_form(organization: str, unit: str) -> None:
    attributes = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
    subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in attributes])
    assert mismatches(subject.rfc4514_string(), subject) == ()
