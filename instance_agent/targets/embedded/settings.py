"""The embedded target's settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.embedded.connections import HANDSHAKE_S, IDLE_S, MAX_CONNECTIONS
from shared.bundle import CertificateBundle
from shared.config import number
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """What the embedded target needs to know.

    Attributes:
        address: Address to listen on; `0.0.0.0` means every IPv4 one, `::` every IPv6 one.
        port_offset: PortNumber p is served at p + this.
        fallback: Served for an unknown or missing server name; self-signed when None.
        max_connections: Open at a time, on all ports together.
        handshake_s: How long a TLS handshake may take; only tests set it.
        idle_s: How long one request may take, with the wait for it; only tests set it.
    """

    address: str = "127.0.0.1"
    port_offset: int = 0
    fallback: CertificateBundle | None = field(default=None, repr=False)
    max_connections: int = MAX_CONNECTIONS
    handshake_s: float = HANDSHAKE_S
    idle_s: float = IDLE_S

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> EmbeddedSettings:
        """Read `CERTCAST_EMBEDDED_…`.

        Raises:
            ConfigurationError: One is wrong; the text names it and the cure.
        """
        return cls(
            address=env.get("CERTCAST_EMBEDDED_ADDRESS", "").strip() or "127.0.0.1",
            port_offset=number(env, "CERTCAST_EMBEDDED_PORT_OFFSET", default=0, least=0, most=65_000),
            fallback=_fallback(env.get("CERTCAST_EMBEDDED_FALLBACK", "").strip()),
            max_connections=number(
                env, "CERTCAST_EMBEDDED_CONNECTIONS", default=MAX_CONNECTIONS, least=1, most=1_000_000
            ),
        )


def _fallback(path: str) -> CertificateBundle | None:
    if not path:
        return None
    try:
        return CertificateBundle.from_pem(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"CERTCAST_EMBEDDED_FALLBACK: {path} cannot be read ({error.strerror})") from None
    except CertcastError:
        raise ConfigurationError(
            f"CERTCAST_EMBEDDED_FALLBACK: {path} must hold a PEM private key, its certificate and the intermediates"
        ) from None
