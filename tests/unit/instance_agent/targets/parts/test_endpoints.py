"""Where a PortNumber is met, from the settings that every target has."""

import pytest

from instance_agent.targets.parts.endpoints import Endpoints
from shared.errors import ConfigurationError
from tests.fakes.target import binding


def test_without_settings_a_port_is_met_over_loopback_where_it_is() -> None:
    assert Endpoints.from_env({}, "X").at(443) == ("127.0.0.1", 443)
    assert Endpoints.from_env({}, "X", address="").address == ""


def test_the_settings_of_a_server_are_its_own() -> None:
    env = {"CERTCAST_X_ADDRESS": " 192.0.2.7 ", "CERTCAST_X_PORT_OFFSET": "8000", "CERTCAST_Y_PORT_OFFSET": "1"}
    assert Endpoints.from_env(env, "X").at(443) == ("192.0.2.7", 8443)


@pytest.mark.parametrize(
    ("address", "met"),
    [
        ("", "127.0.0.1"),
        ("*", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - text
        ("::", "::1"),
        ("[::]", "::1"),
        ("[::1]", "::1"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_listener_on_every_address_is_met_over_loopback(address: str, met: str) -> None:
    assert Endpoints(server="X", address=address).at(443) == (met, 443)


@pytest.mark.parametrize("offset", ["-1", "65001", "many"])
def test_an_offset_that_cannot_be_meant_is_named(offset: str) -> None:
    with pytest.raises(ConfigurationError, match="CERTCAST_X_PORT_OFFSET"):
        Endpoints.from_env({"CERTCAST_X_PORT_OFFSET": offset}, "X")


@pytest.mark.parametrize(("port", "refused"), [(1, False), (57_535, False), (57_536, True), (65_535, True)])
def test_a_port_carried_beyond_the_last_is_refused_with_the_setting(port: int, *, refused: bool) -> None:
    reason = Endpoints(server="X", port_offset=8000).refusal(binding("a.example.com", port=port))
    assert ("CERTCAST_X_PORT_OFFSET is 8000" in (reason or "")) is refused
