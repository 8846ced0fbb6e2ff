import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.hostnames import DEFAULT_HOST, covering, covers, hosts_for, normalise_host, wildcard_of
from tests.contracts.names import BOUND, NAMES, ODD_NAMES, Asked

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=2, max_size=5).map(".".join).filter(lambda host: not host.split(".")[-1].isdecimal())


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("www.example.com", "www.example.com"),
        ("  WWW.Example.COM. ", "www.example.com"),
        ("*.Example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("1and1.com", "1and1.com"),
        ("3com", "3com"),
        ("a--b.example.com", "a--b.example.com"),
        ("bücher.example.com", "xn--bcher-kva.example.com"),
        ("BÜCHER.example.com", "xn--bcher-kva.example.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("straße.de", "xn--strae-oqa.de"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("xn--i-7iq.ws", "xn--i-7iq.ws"),
        ("a." * 126 + "a", "a." * 126 + "a"),
        ("a" * 63 + ".com", "a" * 63 + ".com"),
    ],
)
def test_a_host_is_brought_to_one_form(written: str, normal: str) -> None:
    assert normalise_host(written) == normal


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "empty"),
        (" ", "empty"),
        (".", "empty"),
        ("*.", "empty"),
        ("\uff11\uff10.0.0.\u2460", "IP address"),
        ("https://www.example.com:8443/path?x", "write the host alone, 'www.example.com:8443'"),
        ("www.example.com/path", "write the host alone, 'www.example.com'"),
        ("www.example.com:8443", "and the port in PortNumber"),
        ("user@example.com", "user name"),
        ("10.0.0.1", "IP address"),
        ("10.1", "IP address"),
        ("2130706433", "IP address"),
        ("::1", "IP address"),
        ("[2001:db8::1]:443", "IP address"),
        ("fe80::1%eth0", "IP address"),
        ("*", "whole first label|all of the first label"),
        ("*.com", "two labels"),
        ("*.*.example.com", "where none may be"),
        ("www.*.example.com", "where none may be"),
        ("w*.example.com", "where none may be"),
        ("under_score.example.com", "RFC 1123"),
        ("-a.example.com", "RFC 1123"),
        ("a-.example.com", "RFC 1123"),
        ("a..example.com", "RFC 1123"),
        ("www example.com", "RFC 1123"),
        ("a" * 64 + ".com", "RFC 1123"),
        ("a." * 127 + "a", "at most 253"),
        ("*." + "a." * 125 + "aa", "at most 253"),
        ("☃\u200d.example.com", "international"),
        ("b%C3%BCcher.example", "another encoding: write xn--bcher-kva.example"),
        ("B%c3%bccher%2Eexample", "write xn--bcher-kva.example"),
        ("www%2Eexample.com", "write www.example.com"),
        ("%2A.example.com", r"write \*.example.com"),
        ("=?utf-8?q?b=C3=BCcher.example?=", "write xn--bcher-kva.example"),
        ("=?UTF-8?B?YsO8Y2hlci5leGFtcGxl?=", "write xn--bcher-kva.example"),
        ("b\u00c3\u00bccher.example", "write xn--bcher-kva.example"),
        ("stra\u00c3\u0178e.example", "write xn--strae-oqa.example"),
        ("%" * 200 + "25" * 200, "RFC 1123"),
        ("%25" * 2000, "RFC 1123"),
        ("b%FCcher.example", "RFC 1123"),
        ("=?no-such-charset?q?a?=", "RFC 1123"),
        ("=?utf-8?b?a?=", "RFC 1123"),
        ("a\u00adb\u202e.example.com", "international"),
    ],
)
def test_what_is_no_host_says_why_and_what_to_write(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        normalise_host(written)


def test_a_long_or_unprintable_text_is_cut_and_cleaned_in_the_reason() -> None:
    with pytest.raises(ValueError, match="RFC 1123") as refused:
        normalise_host("bad\x1b[31m_" + "x" * 5000)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 400


@given(st.text(max_size=80))
def test_any_text_is_normalised_for_good_or_refused(text: str) -> None:
    try:
        normal = normalise_host(text)
    except ValueError:
        return
    assert normal.isascii()
    assert normal == normal.lower()
    assert normalise_host(normal) == normal


@given(HOSTS)
def test_a_host_covers_itself_in_any_spelling(host: str) -> None:
    assert normalise_host(f" {host.upper()}. ") == host
    assert covers(host, host)
    assert covering(host, [host]) == host


@given(LABELS, HOSTS)
def test_a_wildcard_covers_exactly_one_label(label: str, parent: str) -> None:
    wildcard = f"*.{parent}"
    assert covers(wildcard, f"{label}.{parent}")
    assert wildcard_of(f"{label}.{parent}") == wildcard
    assert not covers(wildcard, parent)
    assert not covers(wildcard, f"{label}.{label}.{parent}")
    assert not covers(wildcard, f"*.{label}.{parent}")
    assert covers(wildcard, wildcard)
    assert not covers(f"{label}.{parent}", wildcard)


def test_no_wildcard_stands_for_a_whole_domain_of_one_label() -> None:
    assert wildcard_of("example.com") is None
    assert not covers("*.com", "example.com")
    assert wildcard_of("localhost") is None
    assert wildcard_of("*.example.com") is None
    assert wildcard_of(".example.com") is None


def test_the_equal_name_comes_before_the_wildcard() -> None:
    names = ["*.example.com", "www.example.com"]
    assert covering("www.example.com", names) == "www.example.com"
    assert covering("api.example.com", names) == "*.example.com"
    assert covering("example.com", names) is None
    assert covering("*.example.com", names) == "*.example.com"
    assert covering("example.com", []) is None


@pytest.mark.parametrize("asked", [*NAMES, *ODD_NAMES], ids=lambda asked: repr(asked.name))
def test_what_a_client_asks_for_is_answered_by_the_name_the_wildcard_of_its_parent_or_the_default(asked: Asked) -> None:
    hosts = hosts_for(asked.name.decode("utf-8", "replace"))
    assert next((host for host in hosts if host in BOUND), None) == asked.answer
    assert hosts[-1] == DEFAULT_HOST


def test_without_a_name_the_default_alone_answers() -> None:
    assert hosts_for(None) == hosts_for("") == hosts_for("*") == (DEFAULT_HOST,)


@given(HOSTS)
def test_a_host_is_asked_for_by_its_own_name_in_any_spelling(host: str) -> None:
    wildcard = wildcard_of(host)
    assert hosts_for(f"{host.upper()}.") == (host, *([wildcard] if wildcard else []), DEFAULT_HOST)


@example("0.0.0")
@given(st.text(max_size=300))
def test_what_answers_is_always_something_that_can_be_bound_or_the_name_itself(asked: str) -> None:
    name, *above = hosts_for(asked)
    for host in above[:-1]:
        assert host == normalise_host(host)
    assert name == DEFAULT_HOST or name == asked.lower().removesuffix(".")
