"""How the agent meets listeners that are not met as usual, from the environment; nothing is opened here."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self

from instance_agent.installing.probe import ProbeError
from shared.binding import MAX_PORT
from shared.config import text
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADDRESS_SETTING = "CERTCAST_PROBE_ADDRESS"
_PROXY_SETTING = "CERTCAST_PROBE_PROXY_PROTOCOL"

# An address, or one in brackets; behind either, by how much its port differs from the usual listener's.
_MOVED = re.compile(r"(?P<address>[0-9.]+|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\])(?::(?P<offset>[+-][0-9]{1,5}))?\Z")


class ProxyProtocol(StrEnum):
    """Which header of the PROXY protocol the probe sends ahead of its handshake."""

    AUTO = "auto"
    OFF = "off"
    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """The probe's settings, the same for all targets.

    Attributes:
        proxy_protocol: `CERTCAST_PROBE_PROXY_PROTOCOL`.
        address: IP address to look at in place of the target's listener; None for that one.
        port_offset: Its port is the listener's + this.
    """

    proxy_protocol: ProxyProtocol = ProxyProtocol.AUTO
    address: str | None = None
    port_offset: int = 0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read them.

        Raises:
            ConfigurationError: One is wrong; the text names it.
        """
        named = text(env, _PROXY_SETTING, ProxyProtocol.AUTO).lower()
        if named not in set(ProxyProtocol):
            raise ConfigurationError(f"{_PROXY_SETTING} must be {', '.join(ProxyProtocol)}, not {named!r}")
        address, port_offset = _moved(text(env, _ADDRESS_SETTING))
        return cls(proxy_protocol=ProxyProtocol(named), address=address, port_offset=port_offset)

    def looked_at(self, listener: tuple[str, int]) -> tuple[str, int]:
        """The address and port to look at for a target's listener.

        Raises:
            ProbeError: The setting leads to where there is no port.
        """
        if self.address is None:
            return listener
        port = listener[1] + self.port_offset
        if not 0 < port <= MAX_PORT:
            raise ProbeError(f"{_ADDRESS_SETTING} leads from {listener[1]} to {port}, which is no port", reached=False)
        return self.address, port


def _moved(value: str) -> tuple[str | None, int]:
    """The address and offset that the setting gives."""
    if not value:
        return None, 0
    if (parts := _MOVED.match(value)) is not None:
        with contextlib.suppress(ValueError):
            return str(ip_address(parts["address"].strip("[]"))), int(parts["offset"] or 0)
    raise ConfigurationError(
        f"{_ADDRESS_SETTING} must be an IP address, as 10.0.0.4 or fd00::4, or one with a difference of ports, as "
        f"10.0.0.4:+1000 or [fd00::4]:-80, not {value!r}"
    )
