"""The files target's settings from the environment; nothing is opened here. docs/targets/files.md explains each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.parts.commands import argument_list
from shared.config import number
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSettings:
    """What is written where, and which programs are run for it.

    Attributes:
        folder: Our own folder.
        templates: Folder of templates; None to write PEM files alone.
        check: Program and arguments that tell whether the server would take the files; empty for none.
        reload: Program and arguments that have the server take them; empty for a server that looks by itself.
        timeout_s: How long either may take.
        group: Name of the group that may read what is written; empty for nobody but its owner.
        fallback: PEM for unknown names; None for a self-signed one in the folder.
        address: Where a probe meets the server; empty for nowhere.
        port_offset: The server serves PortNumber p at p + this.
        reload_interval_s: Least time between two reloads.
    """

    folder: Path
    templates: Path | None = None
    check: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    timeout_s: int = 30
    group: str = ""
    fallback: Path | None = None
    address: str = ""
    port_offset: int = 0
    reload_interval_s: int = 5

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> FilesSettings:
        """Read them.

        Raises:
            ConfigurationError: One is wrong; the text names it and the cure.
        """
        return cls(
            folder=_path(env, "FOLDER") or Path("/etc/certcast/files"),
            templates=_path(env, "TEMPLATES"),
            check=argument_list(env, "CERTCAST_FILES_CHECK"),
            reload=argument_list(env, "CERTCAST_FILES_RELOAD"),
            timeout_s=number(env, "CERTCAST_FILES_TIMEOUT_S", default=30, least=1, most=3600),
            group=env.get("CERTCAST_FILES_GROUP", "").strip(),
            fallback=_path(env, "FALLBACK"),
            address=env.get("CERTCAST_FILES_ADDRESS", "").strip(),
            port_offset=number(env, "CERTCAST_FILES_PORT_OFFSET", default=0, least=0, most=65_000),
            reload_interval_s=number(env, "CERTCAST_RELOAD_MIN_INTERVAL_S", default=5, least=0, most=3600),
        )


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(f"CERTCAST_FILES_{name}", "").strip()
    if text and not Path(text).is_absolute():
        raise ConfigurationError(f"CERTCAST_FILES_{name} must be an absolute path, not {text!r}")
    return Path(text) if text else None
