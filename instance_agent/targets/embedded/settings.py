"""The embedded target's settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.parts.endpoints import Endpoints
from shared.bundle import CertificateBundle
from shared.config import number
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONNECTIONS = 500
HANDSHAKE_S = 15
IDLE_S = 60

_ON_LOOPBACK = Endpoints(server="EMBEDDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """What the embedded target needs to know.

    Attributes:
        endpoints: Where to listen; `0.0.0.0` means every IPv4 address, `::` every IPv6 one.
        fallback: Served for an unknown or missing server name; self-signed when None.
        max_connections: Open at a time, on all ports together.
        handshake_s: How long a TLS handshake may take; only tests set it.
        idle_s: How long one request may take, with the wait for it; only tests set it.
    """

    endpoints: Endpoints = _ON_LOOPBACK
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
            endpoints=Endpoints.from_env(env, "EMBEDDED"),
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
