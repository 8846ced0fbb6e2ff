"""The form of table keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.state.keys import encode_key
from tests.contracts.edges import ODD_NAMES

NAMES = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(ODD_NAMES))


@given(NAMES)
def test_a_key_holds_nothing_that_a_table_a_url_or_a_filter_minds(name: str) -> None:
    assert not set(encode_key(name)) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*:=")


@given(NAMES, NAMES)
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (encode_key(one) == encode_key(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.example.com:443", "a.example.com:443"),
        ("*", "*"),
        ("*.x.com:8443", "*.x.com:8443"),
        ("a b/c", "a=20b=2Fc"),
    ],
)
def test_usual_names_stay_readable(name: str, key: str) -> None:
    assert encode_key(name) == key


def test_letters_beyond_ascii_are_encoded_though_they_are_letters() -> None:
    assert encode_key("é²٣") == "=C3=A9=C2=B2=D9=A3"
