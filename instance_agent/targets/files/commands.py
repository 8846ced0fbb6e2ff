"""What the files target asks of its machine: the check and reload commands, and the group that reads the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.parts.access import PRIVATE, Access
from instance_agent.targets.parts.commands import run
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from instance_agent.targets.files.settings import FilesSettings


class ServerCommands:
    """The check and the reload command."""

    def __init__(self, settings: FilesSettings) -> None:
        self._settings = settings

    async def check(self) -> str | None:
        """What the check command said against the files; None where it agrees or there is none."""
        return await self._run(self._settings.check)

    async def activate(self) -> str | None:
        """Reload once; why it failed, or None."""
        return await self._run(self._settings.reload)

    async def _run(self, command: tuple[str, ...]) -> str | None:
        return (await run(command, timeout_s=self._settings.timeout_s)).failure if command else None


def access_of_group(name: str) -> Access:
    """Who reads the files, where the settings name a group for it.

    Raises:
        ConfigurationError: There is no such group.
    """
    if not name:
        return PRIVATE
    try:
        import grp  # noqa: PLC0415 - Windows has none

        return Access(group=grp.getgrnam(name).gr_gid)
    except (ImportError, KeyError):
        raise ConfigurationError(f"CERTCAST_FILES_GROUP: there is no group {name}") from None
