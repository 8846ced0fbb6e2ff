"""The nginx target's settings from the environment; nothing is opened here. docs/targets/nginx.md explains each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instance_agent.targets.parts.commands import argument_list
from instance_agent.targets.parts.endpoints import Endpoints
from shared.binding import MAX_PORT
from shared.config import number, text
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode = Literal["auto", "dynamic", "blocks"]

# What stands between quotation marks in nginx's configuration and in Lua alike without meaning anything there.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9 ._/@+=,:~-]*\Z")
_ADDRESS = re.compile(r"[0-9.]+\Z|\[[0-9A-Fa-f:.]+\]\Z|\*\Z")
_OPTIONS = re.compile(r"[a-z0-9_=: ]*\Z")
_LONGEST_SOCKET = 107  # sun_path in unix(7), without its final zero


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxSettings:
    """Where nginx is and what it is to be given.

    Attributes:
        mode: `dynamic` needs nginx's Lua module; `auto` takes it where it is loaded, and `blocks` elsewhere.
        command: nginx with the arguments it is run with (`-c`, `-p`).
        folder: Our own folder, included in nginx's `http` block as `<folder>/*.conf`.
        socket: Unix socket on which nginx tells what it has loaded.
        template: Body of the server block; None for the built-in one.
        fallback: PEM for unknown names; None for a self-signed one in the folder.
        endpoints: What nginx listens on, the address as in its `listen` directive.
        ports: The values of PortNumber that nginx listens for.
        listen_options: Further options of `listen`, such as `http2`.
        reload_interval_s: Least time between two reloads.
        reload_timeout_s: Longest wait for a test or a reload.
    """

    mode: Mode
    command: tuple[str, ...]
    folder: Path
    socket: Path
    template: Path | None
    fallback: Path | None
    endpoints: Endpoints
    ports: tuple[int, ...]
    listen_options: str
    reload_interval_s: int
    reload_timeout_s: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> NginxSettings:
        """Read them.

        Raises:
            ConfigurationError: One is wrong; the text names it and the cure.
        """
        mode = text(env, "CERTCAST_NGINX_MODE", "auto")
        if mode not in {"auto", "dynamic", "blocks"}:
            raise ConfigurationError(f"CERTCAST_NGINX_MODE must be auto, dynamic or blocks, not {mode!r}")
        template = text(env, "CERTCAST_NGINX_TEMPLATE")
        settings = cls(
            mode=mode,  # type: ignore[arg-type]  # one of them, as was just seen
            command=argument_list(env, "CERTCAST_NGINX_COMMAND", default="nginx"),
            folder=_path(env, "FOLDER", "/etc/nginx/certcast"),
            socket=_path(env, "SOCKET", "/run/certcast-nginx/control.sock"),
            template=Path(template) if template else None,
            fallback=_path(env, "FALLBACK", "/") if text(env, "CERTCAST_NGINX_FALLBACK") else None,
            endpoints=Endpoints.from_env(env, "NGINX", address="*"),
            ports=_ports(env),
            listen_options=text(env, "CERTCAST_NGINX_LISTEN_OPTIONS"),
            reload_interval_s=number(env, "CERTCAST_RELOAD_MIN_INTERVAL_S", default=5, least=0, most=3600),
            reload_timeout_s=number(env, "CERTCAST_NGINX_TIMEOUT_S", default=120, least=1, most=3600),
        )
        if not _ADDRESS.match(settings.endpoints.address):
            raise ConfigurationError(
                "CERTCAST_NGINX_ADDRESS must be an IP address as nginx writes it (192.0.2.1, [::]) or *, not "
                f"{settings.endpoints.address!r}"
            )
        if not _OPTIONS.match(settings.listen_options):
            raise ConfigurationError(
                f"CERTCAST_NGINX_LISTEN_OPTIONS must be options of nginx's listen directive such as `http2`, "
                f"not {settings.listen_options!r}"
            )
        if len(str(settings.socket)) > _LONGEST_SOCKET:
            raise ConfigurationError(
                f"CERTCAST_NGINX_SOCKET has more than {_LONGEST_SOCKET} characters: {settings.socket}"
            )
        if settings.endpoints.listened_on(max(settings.ports)) > MAX_PORT:
            raise ConfigurationError("CERTCAST_NGINX_PORT_OFFSET carries CERTCAST_NGINX_PORTS beyond the last port")
        return settings


def _path(env: Mapping[str, str], name: str, default: str) -> Path:
    path = text(env, f"CERTCAST_NGINX_{name}", default)
    if not _PLAIN_PATH.match(path):
        raise ConfigurationError(
            f"CERTCAST_NGINX_{name} must be an absolute path of letters, digits, spaces and . _ / @ + = , : ~ -, "
            f"not {path!r}: it becomes part of nginx's configuration"
        )
    return Path(path)


def _ports(env: Mapping[str, str]) -> tuple[int, ...]:
    words = text(env, "CERTCAST_NGINX_PORTS", "443").replace(",", " ").split()
    ports = sorted({int(word) for word in words if word.isdecimal() and 0 < int(word) <= MAX_PORT})
    if len(ports) != len(words):
        raise ConfigurationError(
            f"CERTCAST_NGINX_PORTS must be different ports such as `443, 8443`, not {' '.join(words)!r}"
        )
    return tuple(ports)
