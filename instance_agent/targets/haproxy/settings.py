"""The haproxy target's settings from the environment; nothing is opened here. docs/targets/haproxy.md explains each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from instance_agent.targets.parts.commands import argument_list
from instance_agent.targets.parts.endpoints import Endpoints
from shared.config import text
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+@-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxySettings:
    """Where HAProxy is met and what it shares with the agent.

    Attributes:
        socket: HAProxy's stats socket with `level admin`.
        folder: Where our crt-lists and PEM files lie.
        reload: Program and arguments that reload HAProxy, for chains larger than its buffer; empty for never.
        endpoints: Where the agent meets HAProxy's listeners.
    """

    socket: Path
    folder: Path
    reload: tuple[str, ...]
    endpoints: Endpoints

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read them.

        Raises:
            ConfigurationError: One is wrong; the text names it and the cure.
        """
        return cls(
            socket=_path(env, "CERTCAST_HAPROXY_SOCKET", "/run/haproxy/admin.sock"),
            folder=_path(env, "CERTCAST_HAPROXY_FOLDER", "/etc/haproxy/certcast"),
            reload=argument_list(env, "CERTCAST_HAPROXY_RELOAD"),
            endpoints=Endpoints.from_env(env, "HAPROXY"),
        )


def _path(env: Mapping[str, str], name: str, default: str) -> Path:
    path = text(env, name, default)
    if not _PLAIN_PATH.match(path):  # HAProxy's commands could not carry it
        raise ConfigurationError(f"{name} must be an absolute path of letters, digits and / . _ - + @, not {path}")
    return Path(path)
