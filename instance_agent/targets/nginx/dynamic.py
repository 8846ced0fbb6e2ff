"""nginx with its Lua module: certificates are read from our files at the handshake, and no reload is ever needed.

One server block serves every host. What chooses the file is dynamic.lua, which is copied into the folder; all
that is told to nginx after a batch is that files have changed. A port whose default server is somebody else's is the
exception: nginx gives us there what it finds by name, so that a host which comes or goes takes a reload.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import Install, ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.mode import prepare_folder
from instance_agent.targets.nginx.reload import Reload, bring_into_force, forget_socket, fresh_token, text_of
from instance_agent.targets.parts.access import grant
from instance_agent.targets.parts.pem_file import is_tagged
from instance_agent.targets.parts.tested_batch import put_in_force
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from instance_agent.targets.base import BindingChange, InstalledBinding, Key
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.parts.file_batch import FileBatch

SNIPPET = Path(__file__).with_name("dynamic.lua")


class NginxDynamic:
    """The mode for nginx with Lua."""

    name = "dynamic"

    def __init__(self, parts: NginxParts) -> None:
        self.parts = parts

    @property
    def in_slices(self) -> bool:
        """Where nothing takes a reload."""
        return not self.parts.room.taken

    def in_order(self, token: str) -> bool:
        """Whether snippet and include are as they should be."""
        return self._is_snippet_there() and self._include(token, self.parts.pems.read()) == text_of(self.parts.main)

    async def prepare(self) -> None:
        """Write snippet and include, and have a running nginx load them where they are new.

        Raises:
            ConfigurationError: nginx does not take them.
            ServerUnavailableError: It does not run, or does not include them.
        """
        await bring_into_force(self.parts, await asyncio.to_thread(self._written))
        await self.read_again()

    def served(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What is tagged in the folder: nginx looks for the file at each name's next handshake."""
        return self.parts.pems.read(keys)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Replace the files, then have nginx read them again; it is seen to be there before anything is written.

        Raises:
            ApplyError: A certificate cannot be served.
            ServerUnavailableError: nginx is not running, or has to be reloaded and cannot be.
        """
        parts = self.parts
        batch = parts.folder.batch()
        await asyncio.to_thread(parts.pems.enter, changes, batch, parts.access)
        if any(change.port in parts.room.taken for change in changes):
            await parts.interval.wait()
            if await asyncio.to_thread(self._rename, changes, batch):
                await put_in_force(batch, Reload(parts), interval=parts.interval)
                return
        try:
            await parts.control.ask("GET")
            await asyncio.to_thread(self._commit, batch, changes)
            await parts.control.ask("POST")
        except ServerUnavailableError:
            await asyncio.to_thread(batch.undo)
            await asyncio.to_thread(forget_socket, parts.nginx, parts.control)
            await self.read_again()
            raise
        finally:
            await asyncio.to_thread(batch.close)

    async def read_again(self) -> None:
        """Have a running nginx forget what it has read; one that is down will start from the files as they are."""
        with suppress(ServerUnavailableError):
            await self.parts.control.ask("POST")

    def _commit(self, batch: FileBatch, changes: Sequence[BindingChange]) -> None:
        with self.parts.pems.changing([change.key for change in changes]):
            batch.commit()

    def _rename(self, changes: Sequence[BindingChange], batch: FileBatch) -> bool:
        """Have nginx know the names that come and go on a port whose default server is another; whether any do."""
        parts = self.parts
        keys = set(parts.pems.read())
        after = keys - {change.key for change in changes} | {each.key for each in changes if isinstance(each, Install)}
        taken = parts.room.taken
        if {key for key in keys ^ after if key[1] in taken}:
            batch.write(parts.main, self._include(fresh_token(), after).encode(), parts.access)
            return True
        return False

    def _is_snippet_there(self) -> bool:
        try:
            return self._snippet.read_bytes() == SNIPPET.read_bytes()
        except FileNotFoundError:
            return False

    def _written(self) -> FileBatch | None:
        """What of the folder has to be written for this start; runs in a thread."""
        parts = self.parts
        prepare_folder(parts)
        ours = parts.pems.read()
        for key in ours:
            grant(parts.pems.path(*key), parts.access)  # the workers may be another group's since
        for block in (parts.settings.folder / config.BLOCKS_NAME).glob("*/*.conf"):
            if is_tagged(block.read_bytes()):
                block.unlink()  # of the other mode, and no longer read
        include = text_of(parts.main)
        if self._is_snippet_there() and self._include(config.token_of(include), ours) == include:
            grant(self._snippet, parts.access)
            return None
        batch = parts.folder.batch()
        batch.write(self._snippet, SNIPPET.read_bytes(), parts.access)
        batch.write(parts.main, self._include(fresh_token(), ours).encode(), parts.access)
        return batch

    @property
    def _snippet(self) -> Path:
        return self.parts.settings.folder / config.LUA_NAME

    def _include(self, token: str, bound: Iterable[Key]) -> str:
        parts = self.parts
        named: dict[int, set[str]] = {port: set() for port in parts.room.taken}
        for host, port in bound:
            if port in named and host != DEFAULT_HOST:
                named[port].add(host)
        return config.dynamic_include(
            parts.settings,
            token,
            fallback=parts.fallback,
            template=parts.template,
            named=named,
            hash_sizes=parts.room.hash_sizes,
        )
