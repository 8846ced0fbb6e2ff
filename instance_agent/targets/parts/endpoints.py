"""Where the agent meets a server's listeners, and why a PortNumber can have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from shared.binding import MAX_PORT
from shared.config import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from instance_agent.targets.base import Install

MAX_PORT_OFFSET = 65_000

_EVERY_ADDRESS = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """A server's listeners: PortNumber p is served at an address, at port p + an offset.

    Attributes:
        server: The server's part in the names of its settings, such as `CADDY`.
        address: What the server listens on, in brackets or not; empty, `*`, `0.0.0.0` and `::` mean every address.
        port_offset: PortNumber p is served at p + this.
    """

    server: str
    address: str = "127.0.0.1"
    port_offset: int = 0

    @classmethod
    def from_env(cls, env: Mapping[str, str], server: str, *, address: str = "127.0.0.1") -> Self:
        """Read `CERTCAST_<server>_ADDRESS` and `CERTCAST_<server>_PORT_OFFSET`.

        Raises:
            ConfigurationError: The offset is none.
        """
        offset = number(env, f"CERTCAST_{server}_PORT_OFFSET", default=0, least=0, most=MAX_PORT_OFFSET)
        named = env.get(f"CERTCAST_{server}_ADDRESS", "").strip()
        return cls(server=server, address=named or address, port_offset=offset)

    def at(self, port: int) -> tuple[str, int]:
        """The address and port at which a PortNumber is met, over loopback where every address is listened on."""
        address = self.address.strip("[]")
        return _EVERY_ADDRESS.get(address, address), self.listened_on(port)

    def listened_on(self, port: int) -> int:
        """The port that the server listens on for a PortNumber."""
        return port + self.port_offset

    def refusal(self, change: Install) -> str | None:
        """Why a PortNumber can have no listener: the offset carries it to where there is no port."""
        if 0 < self.listened_on(change.port) <= MAX_PORT:
            return None
        return (
            f"{change.phrased} would be served at port {self.listened_on(change.port)}, and ports are 1 to "
            f"{MAX_PORT}: CERTCAST_{self.server}_PORT_OFFSET is {self.port_offset}"
        )
