"""The caddy target's settings from the environment; nothing is opened here. docs/targets/caddy.md explains each."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from instance_agent.targets.caddy.admin import DEFAULT_ADMIN, Admin
from instance_agent.targets.parts.endpoints import Endpoints
from shared.binding import MAX_PORT
from shared.config import text
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LISTEN = "127.0.0.1:8485"

_PASSWORD = re.compile(r"[A-Za-z0-9_-]{16,}\Z")  # as it stands in a URL
_LISTEN = re.compile(r"\[?([0-9a-fA-F.:]+?)\]?:(\d{1,5})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaddySettings:
    """What a Caddy target needs to know.

    Attributes:
        listen: Loopback address and port at which Caddy asks.
        password: What Caddy must know to be answered.
        folder: Where what is bound is kept for the agent's next start.
        fallback: PEM served for an unknown or missing SNI; one of our own when None.
        endpoints: Where the agent meets Caddy's listeners.
        admin: Caddy's admin API.
    """

    listen: tuple[str, int]
    password: str = field(repr=False)
    folder: Path
    fallback: Path | None
    endpoints: Endpoints
    admin: Admin

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ConfigurationError: One is missing or wrong.
        """
        password = text(env, "CERTCAST_CADDY_PASSWORD")
        if not _PASSWORD.match(password):
            raise ConfigurationError(
                "CERTCAST_CADDY_PASSWORD must be 16 or more of A-Z a-z 0-9 _ -, the same as in Caddy's configuration: "
                "`openssl rand -hex 24` makes one"
            )
        fallback = text(env, "CERTCAST_CADDY_FALLBACK")
        return cls(
            listen=_listen(text(env, "CERTCAST_CADDY_LISTEN", DEFAULT_LISTEN)),
            password=password,
            folder=Path(text(env, "CERTCAST_CADDY_FOLDER", "/var/lib/certcast/caddy")),
            fallback=Path(fallback) if fallback else None,
            endpoints=Endpoints.from_env(env, "CADDY"),
            admin=_admin(text(env, "CERTCAST_CADDY_ADMIN", DEFAULT_ADMIN)),
        )


def _admin(value: str) -> Admin:
    try:
        return Admin(address=value)
    except ValueError:
        raise ConfigurationError(
            f"CERTCAST_CADDY_ADMIN must be the address of Caddy's admin API as Caddy writes it, {DEFAULT_ADMIN} or "
            f"unix//run/caddy/admin.sock, not {value!r}"
        ) from None


def _listen(value: str) -> tuple[str, int]:
    found = _LISTEN.match(value)
    try:
        is_loopback = found is not None and ipaddress.ip_address(found[1]).is_loopback
    except ValueError:
        is_loopback = False
    if found is None or not is_loopback or not 0 < int(found[2]) <= MAX_PORT:
        raise ConfigurationError(
            f"CERTCAST_CADDY_LISTEN must be a loopback address and a port, such as {DEFAULT_LISTEN}, not {value!r}: "
            "the answers are private keys and travel unencrypted"
        )
    return found[1], int(found[2])
