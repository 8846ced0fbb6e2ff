"""nginx with its Lua module: certificates are read from our files at the handshake, and no reload is ever needed.

One server block serves every host. What chooses the file is dynamic.lua, which is copied into the folder; all
that is told to nginx after a batch is that files have changed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.mode import checked, prepare_folder
from instance_agent.targets.nginx.reload import bring_into_force, forget_socket, fresh_token, token_on_disk
from instance_agent.targets.parts.file_batch import grant
from instance_agent.targets.parts.pem_folder import TAG

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from instance_agent.targets.base import BindingChange, InstalledBinding
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.parts.file_batch import FileBatch

SNIPPET = Path(__file__).with_name("dynamic.lua")


class NginxDynamic:
    """The mode for nginx with Lua."""

    name = "dynamic"

    def __init__(self, parts: NginxParts) -> None:
        self._parts = parts

    async def prepare(self) -> None:
        """Write snippet and include, and have a running nginx load them where they are new.

        Raises:
            ConfigurationError: nginx does not take them.
        """
        await bring_into_force(self._parts, await asyncio.to_thread(self._written))
        await self._read_again()  # an agent that was killed may have written files and told nobody

    def served(self, keys: Collection[tuple[str, int]] | None = None) -> dict[tuple[str, int], InstalledBinding]:
        """What is tagged in the folder: nginx looks for the file at each name's next handshake."""
        return self._parts.pems.read(keys)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Replace the files, then have nginx read them again; it is seen to be there before anything is written.

        Raises:
            ApplyError: A certificate cannot be served.
            ServerUnavailableError: nginx is not running.
        """
        parts = self._parts
        batch = await asyncio.to_thread(self._batch, changes)
        try:
            async with parts.control.line():
                pass  # nginx is there; it would not wait for the question while thousands of files are written
            await asyncio.to_thread(self._commit, batch, changes)
            async with parts.control.line() as line:
                await line.ask("POST")
        except ServerUnavailableError:
            await asyncio.to_thread(batch.undo)
            await asyncio.to_thread(forget_socket, parts)
            await self._read_again()
            raise
        finally:
            await asyncio.to_thread(batch.close)

    async def _read_again(self) -> None:
        """Have a running nginx forget what it has read."""
        try:
            async with self._parts.control.line() as line:
                await line.ask("POST")
        except ServerUnavailableError:
            return  # it is down, and will start from the files as they are

    def _commit(self, batch: FileBatch, changes: Sequence[BindingChange]) -> None:
        with self._parts.pems.changing([change.key for change in changes]):
            batch.commit()

    def _batch(self, changes: Sequence[BindingChange]) -> FileBatch:
        """The batch's files; runs in a thread."""
        parts = self._parts
        ready = checked(parts, changes)
        batch = parts.batch()
        for change, pem in ready:
            batch.write(parts.pems.path(*change.key), pem, parts.access)
        for key in {change.key for change in changes} - {change.key for change, _ in ready}:
            if parts.pems.at(key) is not None:
                batch.delete(parts.pems.path(*key))
        return batch

    def _written(self) -> FileBatch | None:
        """What of the folder has to be written for this start; runs in a thread."""
        parts = self._parts
        prepare_folder(parts)
        for key in parts.pems.read():
            grant(parts.pems.path(*key), parts.access)  # the workers may be another group's since
        for block in (parts.settings.folder / config.BLOCKS_NAME).glob("*/*.conf"):
            if block.read_text(encoding="utf-8", errors="replace").startswith(TAG):
                block.unlink()  # of the other mode, and read by nobody now
        token = token_on_disk(parts) or fresh_token()
        snippet = SNIPPET.read_bytes()
        lua = parts.settings.folder / config.LUA_NAME
        if lua.exists() and lua.read_bytes() == snippet and self._include(token) == _text(parts.main):
            grant(lua, parts.access)
            return None
        batch = parts.batch()
        batch.write(lua, snippet, parts.access)
        batch.write(parts.main, self._include(fresh_token()).encode(), parts.access)
        return batch

    def _include(self, token: str) -> str:
        parts = self._parts
        return config.dynamic_include(parts.settings, token, fallback=parts.fallback, template=parts.template)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
