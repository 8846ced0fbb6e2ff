"""How the probe's settings are read."""

import pytest

from instance_agent.installing.probe_settings import ProbeSettings, ProxyProtocol
from shared.errors import ConfigurationError

LISTENER = ("127.0.0.1", 443)


def test_unset_the_targets_listener_is_looked_at_and_the_protocol_found_out() -> None:
    settings = ProbeSettings.from_env({"CERTCAST_PROBE_ADDRESS": " "})
    assert settings.looked_at(LISTENER) == LISTENER
    assert settings.proxy_protocol is ProxyProtocol.AUTO


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.0.0.4", ("10.0.0.4", 443)),
        ("fd00::4", ("fd00::4", 443)),
        ("[fd00::4]", ("fd00::4", 443)),
        ("10.0.0.4:+1000", ("10.0.0.4", 1443)),
        ("[fd00::4]:-80", ("fd00::4", 363)),
    ],
)
def test_an_address_and_a_difference_of_ports(value: str, expected: tuple[str, int]) -> None:
    assert ProbeSettings.from_env({"CERTCAST_PROBE_ADDRESS": value}).looked_at(LISTENER) == expected


@pytest.mark.parametrize("value", ["balancer.internal", "10.0.0.4:443", "10.0.0", "1.2.3.400", "[::1", ":+5", "::1:+x"])
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="CERTCAST_PROBE_ADDRESS must be an IP address"):
        ProbeSettings.from_env({"CERTCAST_PROBE_ADDRESS": value})


@pytest.mark.parametrize("way", ProxyProtocol)
def test_the_protocol_is_named_in_any_case(way: ProxyProtocol) -> None:
    assert ProbeSettings.from_env({"CERTCAST_PROBE_PROXY_PROTOCOL": way.upper()}).proxy_protocol is way


def test_another_protocol_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"CERTCAST_PROBE_PROXY_PROTOCOL must be auto, off, v1, v2, not 'v3'"):
        ProbeSettings.from_env({"CERTCAST_PROBE_PROXY_PROTOCOL": "v3"})
