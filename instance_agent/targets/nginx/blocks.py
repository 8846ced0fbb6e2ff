"""Stock nginx: a server block for each host and port, tested before it counts, and one reload for each batch.

A reload closes every idle connection and takes the longer the more hosts there are (15 s at 10,000): reloads are kept
apart, so that what arrives meanwhile shares the next one.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.mode import checked, prepare_folder
from instance_agent.targets.nginx.reload import Reload, bring_into_force, forget_socket, fresh_token, token_on_disk
from instance_agent.targets.parts.file_batch import grant
from instance_agent.targets.parts.pem_folder import PEM_SUFFIX, TAG
from instance_agent.targets.parts.tested_batch import Interval, carry_out
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from instance_agent.targets.base import BindingChange, Install, InstalledBinding
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.parts.file_batch import FileBatch

_BLOCK_SUFFIX = ".conf"

Key = tuple[str, int]


class NginxBlocks:
    """The mode for nginx as distributions build it."""

    name = "blocks"

    def __init__(self, parts: NginxParts) -> None:
        self._parts = parts
        self._reload = _PacedReload(parts)

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
        await self._reload.interval.wait()
        batch, paths = await asyncio.to_thread(self._batch, changes)
        if self._parts.nginx.master() is None:
            await asyncio.to_thread(forget_socket, self._parts)
            raise ServerUnavailableError("nginx is not running: start it")
        await carry_out(batch, self._reload, lambda said: _named_in(said, paths))

    @property
    def _blocks(self) -> Path:
        return self._parts.settings.folder / config.BLOCKS_NAME

    def _block(self, key: Key) -> Path:
        pems = self._parts.pems
        return self._blocks / pems.path(*key).relative_to(pems.folder).with_suffix(_BLOCK_SUFFIX)

    def _batch(self, changes: Sequence[BindingChange]) -> tuple[FileBatch, dict[str, Key]]:
        """The batch's files, and whose they are; runs in a thread."""
        parts = self._parts
        ready = checked(parts, changes)
        batch = parts.batch()
        paths: dict[str, Key] = {}
        for change, pem in ready:
            path, block = parts.pems.path(*change.key), self._block(change.key)
            if block.exists() and not _is_ours(block):
                raise ApplyError(f"{block} was not made by certcast: move it away", culprit=change.key)
            batch.write(path, pem)
            try:
                text = self._text(change)
            except ConfigurationError as error:
                raise ApplyError(str(error), culprit=change.key) from error
            batch.write(block, text.encode())
            paths |= {str(path): change.key, str(block): change.key}
        for key in {change.key for change in changes} - {change.key for change, _ in ready}:
            if parts.pems.at(key) is not None:
                batch.delete(parts.pems.path(*key))
                batch.delete(self._block(key))
        batch.write(parts.main, self._include(fresh_token()).encode())
        return batch, paths

    def _written(self) -> FileBatch | None:
        """What of the folder has to be written for this start; runs in a thread."""
        parts = self._parts
        prepare_folder(parts)
        ours = parts.pems.read()
        for key in ours:
            grant(parts.pems.path(*key), parts.access)  # the other mode lets the workers read
        wanted = {self._block(key): self._text(binding) for key, binding in ours.items()}
        there = {
            path: path.read_text(encoding="utf-8", errors="replace")
            for path in self._blocks.glob(f"*/*{_BLOCK_SUFFIX}")
        }
        batch = parts.batch()
        new = [path for path, text in wanted.items() if there.get(path) != text]
        old = [path for path, text in there.items() if path not in wanted and text.startswith(TAG)]
        for path in new:
            batch.write(path, wanted[path].encode())
        for path in old:
            batch.delete(path)
        now = parts.main.read_text(encoding="utf-8") if parts.main.exists() else ""
        if not new and not old and now == self._include(token_on_disk(parts)):
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


class _PacedReload(Reload):
    """A reload that remembers when it was."""

    def __init__(self, parts: NginxParts) -> None:
        super().__init__(parts)
        self.interval = Interval(parts.settings.reload_interval_s)

    async def activate(self) -> str | None:
        self.interval.begin()
        return await super().activate()


def _is_ours(path: Path) -> bool:
    return path.read_text(encoding="utf-8", errors="replace").startswith(TAG)


def _named_in(said: str, paths: dict[str, Key]) -> Key | None:
    """Whose file nginx named, if it is one of this batch."""
    named = re.findall(rf"/[^\"':]*?(?:{re.escape(PEM_SUFFIX)}|{re.escape(_BLOCK_SUFFIX)})", said)
    return next((paths[name] for name in named if name in paths), None)
