"""The files target's settings from the environment; nothing is opened here. docs/targets/files.md explains each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.parts.commands import argument_list
from instance_agent.targets.parts.endpoints import Endpoints
from shared.config import number, text
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
        group: Name of the group that may read what is written; empty for its owner alone.
        fallback: PEM for unknown names; None for a self-signed one in the folder.
        endpoints: Where a probe meets the server; an empty address is nowhere.
        reload_interval_s: Least time between two reloads.
    """

    folder: Path
    templates: Path | None
    check: tuple[str, ...]
    reload: tuple[str, ...]
    timeout_s: int
    group: str
    fallback: Path | None
    endpoints: Endpoints
    reload_interval_s: int

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
            group=text(env, "CERTCAST_FILES_GROUP"),
            fallback=_path(env, "FALLBACK"),
            endpoints=Endpoints.from_env(env, "FILES", address=""),
            reload_interval_s=number(env, "CERTCAST_RELOAD_MIN_INTERVAL_S", default=5, least=0, most=3600),
        )


def _path(env: Mapping[str, str], name: str) -> Path | None:
    path = text(env, f"CERTCAST_FILES_{name}")
    if path and not Path(path).is_absolute():
        raise ConfigurationError(f"CERTCAST_FILES_{name} must be an absolute path, not {path!r}")
    return Path(path) if path else None
