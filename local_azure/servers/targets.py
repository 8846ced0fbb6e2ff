"""What the instances of the local cloud can install on, and whether it is installed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_azure.servers.caddy import CaddyServer
from local_azure.servers.haproxy import HAProxyServer
from local_azure.servers.nginx import NginxServer
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from local_azure.servers.base import WebServer

EMBEDDED = "embedded"
"""The target that is a listener of the agent's own, and needs no server."""

SERVERS: Mapping[str, type[WebServer]] = {
    server.program: server for server in (NginxServer, HAProxyServer, CaddyServer)
}
TARGETS = (EMBEDDED, *SERVERS)


def check_targets(targets: Iterable[str], folder: Path | None) -> None:
    """Check that every server can be started here, before anything is.

    Args:
        targets: Names out of `TARGETS`.
        folder: The local cloud's data folder, when one was chosen.

    Raises:
        ConfigurationError: One is unknown, not installed, or cannot work in the folder; one line, with the cure.
    """
    for target in targets:
        if target not in TARGETS:
            raise ConfigurationError(f"there is no target {target!r}: choose {', '.join(TARGETS)}")
        if target == EMBEDDED:
            continue
        SERVERS[target].find()
        if folder is not None and not SERVERS[target].folders.match(str(folder.resolve())):
            raise ConfigurationError(
                f"{target} cannot be configured with files in {folder.resolve()}, because of characters in that path: "
                "choose another data folder"
            )
