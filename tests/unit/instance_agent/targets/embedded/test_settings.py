"""The embedded target's settings: what is taken, what is refused and how that is said."""

from pathlib import Path

import pytest

from instance_agent.selection import make_target
from instance_agent.targets.embedded.settings import EmbeddedSettings
from instance_agent.targets.parts.endpoints import Endpoints
from shared.errors import ConfigurationError
from tests.rigs.certificates import self_signed

PREFIX = "CERTCAST_EMBEDDED_"


def read(**settings: str) -> EmbeddedSettings:
    return EmbeddedSettings.from_env({f"{PREFIX}{name}": value for name, value in settings.items()})


def test_without_any_it_is_a_listener_on_loopback() -> None:
    assert read() == EmbeddedSettings()
    assert (read().endpoints.at(443), read().fallback) == (("127.0.0.1", 443), None)


def test_each_is_taken(tmp_path: Path) -> None:
    fallback = self_signed("platform.example").bundle()
    (tmp_path / "fallback.pem").write_bytes(fallback.to_pem())
    assert read(
        ADDRESS="::", PORT_OFFSET="8000", CONNECTIONS="20", FALLBACK=str(tmp_path / "fallback.pem")
    ) == EmbeddedSettings(
        endpoints=Endpoints(server="EMBEDDED", address="::", port_offset=8000), max_connections=20, fallback=fallback
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("CONNECTIONS", "0"), ("CONNECTIONS", "many"), ("PORT_OFFSET", "-1"), ("PORT_OFFSET", "65001")],
)
def test_a_number_out_of_bounds_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"CERTCAST_EMBEDDED_{name}"):
        read(**{name: value})


def test_a_fallback_that_is_not_there_or_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"CERTCAST_EMBEDDED_FALLBACK: .*gone\.pem cannot be read"):
        read(FALLBACK=str(tmp_path / "gone.pem"))
    (tmp_path / "text.pem").write_text("text")
    with pytest.raises(ConfigurationError, match=r"CERTCAST_EMBEDDED_FALLBACK: .*text\.pem must hold a PEM"):
        read(FALLBACK=str(tmp_path / "text.pem"))


def test_the_target_is_made_of_them() -> None:
    assert make_target("embedded", {"CERTCAST_EMBEDDED_PORT_OFFSET": "8000"}).endpoint(443) == ("127.0.0.1", 8443)
