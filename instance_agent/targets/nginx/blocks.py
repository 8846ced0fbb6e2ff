"""Stock nginx: a server block for each host and port, tested before it counts, and one reload for each batch.

A reload closes every idle connection and takes the longer the more hosts there are (15 s at 10,000): reloads are kept
apart, so that what arrives meanwhile shares the next one.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install, Key, ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.mode import prepare_folder
from instance_agent.targets.nginx.reload import Reload, bring_into_force, forget_socket, fresh_token, include_on_disk
from instance_agent.targets.parts.access import grant
from instance_agent.targets.parts.pem_file import PEM_SUFFIX, is_tagged, not_ours
from instance_agent.targets.parts.tested_batch import Interval, put_in_force
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from instance_agent.targets.base import BindingChange, InstalledBinding
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.parts.file_batch import FileBatch

_BLOCK_SUFFIX = ".conf"


class NginxBlocks:
    """The mode for nginx as distributions build it."""

    name = "blocks"

    def __init__(self, parts: NginxParts) -> None:
        self._parts = parts
        self._interval = Interval(parts.settings.reload_interval_s)

    async def prepare(self) -> None:
        """Write the include and every block that is not as the template now has it, and reload where that is new.

        Raises:
            ConfigurationError: nginx does not take them.
        """
        await bring_into_force(self._parts, await asyncio.to_thread(self._written))

    def served(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What is tagged in the folder and has its server block."""
        if keys is not None:
            found = self._parts.pems.read(keys)
            return {key: binding for key, binding in found.items() if self._block(key).exists()}
        blocks = {path.relative_to(self._blocks).with_suffix("") for path in self._blocks.glob(f"*/*{_BLOCK_SUFFIX}")}
        pems = self._parts.pems
        return {
            key: binding
            for key, binding in pems.read().items()
            if pems.path(*key).relative_to(pems.folder).with_suffix("") in blocks
        }

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write files and blocks, test them, reload once, and wait until a worker answers with the new ones.

        Raises:
            ApplyError: nginx does not take a change.
            ServerUnavailableError: nginx is not running, or its own configuration is broken.
        """
        await self._interval.wait()
        batch, paths = await asyncio.to_thread(self._batch, changes)
        if self._parts.nginx.master() is None:
            await asyncio.to_thread(forget_socket, self._parts)
            raise ServerUnavailableError("nginx is not running: start it")
        blame = partial(_named_in, paths=paths)
        await put_in_force(batch, Reload(self._parts), blame=blame, interval=self._interval)

    @property
    def _blocks(self) -> Path:
        return self._parts.settings.folder / config.BLOCKS_NAME

    def _block(self, key: Key) -> Path:
        pems = self._parts.pems
        return self._blocks / pems.path(*key).relative_to(pems.folder).with_suffix(_BLOCK_SUFFIX)

    def _batch(self, changes: Sequence[BindingChange]) -> tuple[FileBatch, dict[str, Key]]:
        """The batch's files, and whose they are; runs in a thread."""
        parts, batch = self._parts, self._parts.folder.batch()
        parts.pems.enter(changes, batch)
        paths: dict[str, Key] = {}
        for change in changes:
            if isinstance(change, Install):
                block = self._block(change.key)
                if block.exists() and not is_tagged(block.read_bytes()):
                    raise ApplyError(not_ours(block), culprit=change.key)
                try:
                    batch.write(block, self._text(change).encode())
                except ConfigurationError as error:
                    raise ApplyError(str(error), culprit=change.key) from error
                paths |= {str(parts.pems.path(*change.key)): change.key, str(block): change.key}
            elif parts.pems.at(change.key) is not None:
                batch.delete(self._block(change.key))
        batch.write(parts.main, self._include(fresh_token()).encode())
        return batch, paths

    def _written(self) -> FileBatch | None:
        """What of the folder has to be written for this start; runs in a thread."""
        parts = self._parts
        prepare_folder(parts)
        ours = parts.pems.read()
        for key in ours:
            grant(parts.pems.path(*key), parts.access)  # the other mode lets the workers read
        wanted = {self._block(key): self._text(binding).encode() for key, binding in ours.items()}
        blocks = self._blocks.glob(f"*/*{_BLOCK_SUFFIX}")
        batch = parts.folder.batch()
        changed = batch.match(wanted, {path for path in blocks if path in wanted or is_tagged(path.read_bytes())})
        include = include_on_disk(parts)
        if not changed and include == self._include(config.token_of(include)):
            return None
        batch.write(parts.main, self._include(fresh_token()).encode())
        return batch

    def _text(self, binding: Install | InstalledBinding) -> str:
        parts = self._parts
        pem = parts.pems.path(binding.host, binding.port)
        return config.host_block(parts.settings, binding, pem=pem, template=parts.template)

    def _include(self, token: str) -> str:
        parts = self._parts
        sizes = any(
            parts.loaded.sets(f"server_names_hash_{each}_size", outside=parts.main) for each in ("max", "bucket")
        )
        return config.blocks_include(parts.settings, token, fallback=parts.fallback, hash_sizes=not sizes)


def _named_in(said: str, paths: dict[str, Key]) -> Key | None:
    """Whose file nginx named, if it is one of this batch."""
    named = re.findall(rf"/[^\"':]*?(?:{re.escape(PEM_SUFFIX)}|{re.escape(_BLOCK_SUFFIX)})", said)
    return next((paths[name] for name in named if name in paths), None)
