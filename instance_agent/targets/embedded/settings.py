"""The embedded target's settings from the environment; nothing is opened here but the fallback's file."""

from __future__ import annotations

import re
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from instance_agent.targets.embedded.http import DEFAULT_MAX_CONNECTIONS
from shared.bundle import CertificateBundle
from shared.config import number
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MAX_CONTEXTS = 5000
DEFAULT_IDLE_S = 60
MAX_WORKERS = 64

_HOST = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """What the embedded target needs to know.

    Attributes:
        address: Address to listen on; empty, `0.0.0.0` and `::` mean every one.
        port_offset: PortNumber p is served at p + this.
        fallback: Served for an unknown or missing SNI; self-signed when None.
        max_contexts: TLS contexts kept built, by each process that serves.
        max_connections: Open at a time, in each process that serves.
        workers: Processes that serve; 1 is the agent's own.
        upstream: Scheme, host and port that requests are passed to; None for the small page.
        idle_s: Longest silence of client or upstream in a request passed on.
    """

    address: str = "127.0.0.1"
    port_offset: int = 0
    fallback: CertificateBundle | None = field(default=None, repr=False)
    max_contexts: int = DEFAULT_MAX_CONTEXTS
    max_connections: int = DEFAULT_MAX_CONNECTIONS
    workers: int = 1
    upstream: str | None = None
    idle_s: float = DEFAULT_IDLE_S

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> EmbeddedSettings:
        """Read `CERTCAST_EMBEDDED_…`.

        Raises:
            ConfigurationError: One is wrong; the text names it and the cure.
        """
        workers = number(env, "CERTCAST_EMBEDDED_WORKERS", default=1, least=1, most=MAX_WORKERS)
        if workers > 1 and not can_share_ports():
            raise ConfigurationError(
                f"CERTCAST_EMBEDDED_WORKERS is {workers}, and only Linux spreads a port's connections over several "
                f"processes (SO_REUSEPORT): set it to 1"
            )
        return cls(
            address=env.get("CERTCAST_EMBEDDED_ADDRESS", "").strip() or "127.0.0.1",
            port_offset=number(env, "CERTCAST_EMBEDDED_PORT_OFFSET", default=0, least=0, most=65_000),
            fallback=_fallback(env.get("CERTCAST_EMBEDDED_FALLBACK", "").strip()),
            max_contexts=number(
                env, "CERTCAST_EMBEDDED_CONTEXTS", default=DEFAULT_MAX_CONTEXTS, least=1, most=1_000_000
            ),
            max_connections=number(
                env, "CERTCAST_EMBEDDED_CONNECTIONS", default=DEFAULT_MAX_CONNECTIONS, least=1, most=1_000_000
            ),
            workers=workers,
            upstream=upstream_of(env.get("CERTCAST_EMBEDDED_UPSTREAM", "").strip()),
            idle_s=number(env, "CERTCAST_EMBEDDED_IDLE_S", default=DEFAULT_IDLE_S, least=1, most=86_400),
        )


def can_share_ports() -> bool:
    """Whether several listeners on one port get a share of its connections each.

    BSD and macOS have the option too, and give everything to the last one; Windows has none.
    """
    return sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


def upstream_of(text: str) -> str | None:
    """Check `CERTCAST_EMBEDDED_UPSTREAM`: scheme, host and port alone; None where it is empty.

    Raises:
        ConfigurationError: It is something else.
    """
    if not text:
        return None
    # Not quoted: what is no plain address may hold a password.
    wrong = ConfigurationError(
        "CERTCAST_EMBEDDED_UPSTREAM must be http://HOST:PORT or https://HOST:PORT, without a path, query or password"
    )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or ""
    beside = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc or "?" in text
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or beside or port == 0:
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


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
