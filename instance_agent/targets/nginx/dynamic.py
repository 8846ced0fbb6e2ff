"""nginx with its Lua module: certificates are read from our files at the handshake, and no reload is ever needed.

One server block serves every host. What chooses the file is dynamic.lua, which is copied into the folder; all
that is told to nginx after a batch is that files have changed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.mode import prepare_folder
from instance_agent.targets.nginx.reload import bring_into_force, forget_socket, fresh_token, include_on_disk
from instance_agent.targets.parts.access import grant
from instance_agent.targets.parts.pem_file import is_tagged

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from instance_agent.targets.base import BindingChange, InstalledBinding, Key
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
        await self._read_again()  # an agent that was killed may have written files and not told nginx

    def served(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What is tagged in the folder: nginx looks for the file at each name's next handshake."""
        return self._parts.pems.read(keys)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Replace the files, then have nginx read them again; it is seen to be there before anything is written.

        Raises:
            ApplyError: A certificate cannot be served.
            ServerUnavailableError: nginx is not running.
        """
        parts = self._parts
        batch = parts.folder.batch()
        await asyncio.to_thread(parts.pems.enter, changes, batch, parts.access)
        try:
            await parts.control.ask("GET")
            await asyncio.to_thread(self._commit, batch, changes)
            await parts.control.ask("POST")
        except ServerUnavailableError:
            await asyncio.to_thread(batch.undo)
            await asyncio.to_thread(forget_socket, parts)
            await self._read_again()
            raise
        finally:
            await asyncio.to_thread(batch.close)

    async def _read_again(self) -> None:
        """Have a running nginx forget what it has read; one that is down will start from the files as they are."""
        with suppress(ServerUnavailableError):
            await self._parts.control.ask("POST")

    def _commit(self, batch: FileBatch, changes: Sequence[BindingChange]) -> None:
        with self._parts.pems.changing([change.key for change in changes]):
            batch.commit()

    def _written(self) -> FileBatch | None:
        """What of the folder has to be written for this start; runs in a thread."""
        parts = self._parts
        prepare_folder(parts)
        for key in parts.pems.read():
            grant(parts.pems.path(*key), parts.access)  # the workers may be another group's since
        for block in (parts.settings.folder / config.BLOCKS_NAME).glob("*/*.conf"):
            if is_tagged(block.read_bytes()):
                block.unlink()  # of the other mode, and no longer read
        include = include_on_disk(parts)
        snippet = SNIPPET.read_bytes()
        lua = parts.settings.folder / config.LUA_NAME
        if lua.exists() and lua.read_bytes() == snippet and self._include(config.token_of(include)) == include:
            grant(lua, parts.access)
            return None
        batch = parts.folder.batch()
        batch.write(lua, snippet, parts.access)
        batch.write(parts.main, self._include(fresh_token()).encode(), parts.access)
        return batch

    def _include(self, token: str) -> str:
        parts = self._parts
        return config.dynamic_include(parts.settings, token, fallback=parts.fallback, template=parts.template)
