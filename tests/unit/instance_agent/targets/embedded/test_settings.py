"""The embedded target's settings: what is taken, what is refused and how that is said."""

from __future__ import annotations

import sys

import pytest

from instance_agent.selection import make_target
from instance_agent.targets.embedded.settings import EmbeddedSettings, can_share_ports
from shared.errors import ConfigurationError

PREFIX = "CERTCAST_EMBEDDED_"


def read(**settings: str) -> EmbeddedSettings:
    return EmbeddedSettings.from_env({f"{PREFIX}{name}": value for name, value in settings.items()})


def test_without_any_it_is_one_process_with_a_page_on_loopback() -> None:
    assert read() == EmbeddedSettings()
    assert (read().workers, read().upstream, read().address) == (1, None, "127.0.0.1")


@pytest.mark.parametrize("value", ["0", "65", "-1", "two", "1.5"])
def test_a_number_of_workers_out_of_bounds_is_named(value: str) -> None:
    with pytest.raises(ConfigurationError, match="CERTCAST_EMBEDDED_WORKERS"):
        read(WORKERS=value)


def test_several_workers_are_linuxs() -> None:
    assert can_share_ports() == (sys.platform == "linux")


def test_elsewhere_several_workers_are_refused_with_the_value_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert read(WORKERS="1").workers == 1
    with pytest.raises(ConfigurationError, match=r"only Linux .*set it to 1"):
        read(WORKERS="2")


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", None),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://app/", "http://app"),
        ("https://app.internal:8443", "https://app.internal:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_upstream_is_a_scheme_a_host_and_a_port(text: str, taken: str | None) -> None:
    assert read(UPSTREAM=text).upstream == taken


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1:8080", "ftp://app", "http://", "http://app/path", "http://app?x=y", "http://app?", "http://app#x"),
        *("http://user:hidden@app", "http://app:0", "http://app:99999", "http://app:x", "http://a b", "unix:/run/app"),
    ],
)
def test_an_upstream_of_another_form_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="CERTCAST_EMBEDDED_UPSTREAM must be http://HOST:PORT") as caught:
        read(UPSTREAM=text)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("CONNECTIONS", "0"), ("IDLE_S", "0"), ("CONTEXTS", "0"), ("PORT_OFFSET", "-1")]
)
def test_other_numbers_have_bounds_too(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"CERTCAST_EMBEDDED_{name}"):
        read(**{name: value})


def test_the_target_is_made_of_them() -> None:
    target = make_target("embedded", {"CERTCAST_EMBEDDED_PORT_OFFSET": "8000"})
    assert target.endpoint(443) == ("127.0.0.1", 8443)
