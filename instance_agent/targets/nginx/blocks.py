"""Stock nginx: a server block for each host and port, tested before it counts, and one reload for each batch.

A reload closes every idle connection and takes the longer the more hosts there are (15 s at 10,000): reloads are kept
apart, so that what arrives meanwhile shares the next one.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install, Key
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.mode import prepare_folder
from instance_agent.targets.nginx.reload import Reload, bring_into_force, fresh_token, text_of
from instance_agent.targets.parts.access import grant
from instance_agent.targets.parts.pem_file import PEM_SUFFIX, is_tagged, not_ours
from instance_agent.targets.parts.tested_batch import put_in_force
from shared.bundle import bundle_id_of
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from instance_agent.targets.base import BindingChange, InstalledBinding
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.parts.file_batch import FileBatch

_BLOCK_SUFFIX = ".conf"


class NginxBlocks:
    """The mode for nginx as distributions build it."""

    name = "blocks"
    in_slices = False

    def __init__(self, parts: NginxParts) -> None:
        self.parts = parts

    def in_order(self, token: str) -> bool:
        """Whether the include is as it should be; what is not as it should be of a block is told by `served`."""
        defaults = {port: self._block((DEFAULT_HOST, port)).exists() for port in self.parts.settings.ports}
        return self._include(token, defaults) == text_of(self.parts.main)

    async def prepare(self) -> None:
        """Write the include and every block that is not as the template now has it, and reload where that is new.

        Raises:
            ConfigurationError: nginx does not take them.
            ServerUnavailableError: It does not run, or does not include them.
        """
        await bring_into_force(self.parts, await asyncio.to_thread(self._written))

    def served(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What is tagged in the folder and has its server block, which is told from one that was changed by hand."""
        found: dict[Key, InstalledBinding] = {}
        for key, binding in self.parts.pems.read(keys).items():
            block = self._block(key)
            if block.exists():
                found[key] = self._as_its_block_has_it(binding, block.read_bytes())
        return found

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write files and blocks, test them, reload once, and wait until a worker answers with the new ones.

        Raises:
            ApplyError: nginx does not take a change.
            ServerUnavailableError: nginx is not running, or its own configuration is broken.
        """
        parts = self.parts
        await parts.interval.wait()
        batch, paths = await asyncio.to_thread(self._batch, changes)
        blame = partial(_named_in, paths=paths)
        await put_in_force(batch, Reload(parts), blame=blame, interval=parts.interval)

    @property
    def _blocks(self) -> Path:
        return self.parts.settings.folder / config.BLOCKS_NAME

    def _block(self, key: Key) -> Path:
        pems = self.parts.pems
        return self._blocks / pems.path(*key).relative_to(pems.folder).with_suffix(_BLOCK_SUFFIX)

    def _as_its_block_has_it(self, binding: InstalledBinding, block: bytes) -> InstalledBinding:
        """The binding, or with a block that we would not write for it one that no bundle was asked to be."""
        try:
            if self._text(binding).encode() == block:
                return binding
        except ConfigurationError:
            pass  # of a template that was changed since, and fails for this host
        return replace(binding, bundle_id=bundle_id_of(binding.fingerprint_sha256, block))

    def _batch(self, changes: Sequence[BindingChange]) -> tuple[FileBatch, dict[str, Key]]:
        """The batch's files, and whose they are; runs in a thread."""
        parts, batch = self.parts, self.parts.folder.batch()
        self._refuse_strange(change.key for change in changes if isinstance(change, Install))
        parts.pems.enter(changes, batch)
        paths: dict[str, Key] = {}
        for change in changes:
            block = self._block(change.key)
            if isinstance(change, Install):
                try:
                    batch.write(block, self._text(change).encode())
                except ConfigurationError as error:
                    raise ApplyError(str(error), culprit=change.key) from error
                paths |= {str(parts.pems.path(*change.key)): change.key, str(block): change.key}
            elif parts.pems.owns(change.key):
                batch.delete(block)
        changed = {each.port: isinstance(each, Install) for each in changes if each.host == DEFAULT_HOST}
        defaults = {port: self._block((DEFAULT_HOST, port)).exists() for port in parts.settings.ports} | changed
        batch.write(parts.main, self._include(fresh_token(), defaults).encode())
        return batch, paths

    def _refuse_strange(self, keys: Iterable[Key]) -> None:
        for key in keys:
            block = self._block(key)
            if block.exists() and not is_tagged(block.read_bytes()) and not self.parts.pems.owns(key):
                raise ApplyError(not_ours(block), culprit=key)

    def _written(self) -> FileBatch | None:
        """What of the folder has to be written for this start; runs in a thread."""
        parts = self.parts
        prepare_folder(parts)
        ours = parts.pems.read()
        for key in ours:
            grant(parts.pems.path(*key), parts.access)  # the other mode lets the workers read
        wanted = {self._block(key): self._text(ours[key]).encode() for key in ours if self._may_serve(key)}
        blocks = self._blocks.glob(f"*/*{_BLOCK_SUFFIX}")
        batch = parts.folder.batch()
        changed = batch.match(wanted, {path for path in blocks if path in wanted or is_tagged(path.read_bytes())})
        include = text_of(parts.main)
        defaults = {port: self._block((DEFAULT_HOST, port)) in wanted for port in parts.settings.ports}
        if not changed and include == self._include(config.token_of(include), defaults):
            return None
        batch.write(parts.main, self._include(fresh_token(), defaults).encode())
        return batch

    def _may_serve(self, key: Key) -> bool:
        """Not the default of a port whose default server is somebody else's."""
        host, port = key
        return host != DEFAULT_HOST or port not in self.parts.room.taken

    def _text(self, binding: Install | InstalledBinding) -> str:
        parts = self.parts
        pem = parts.pems.path(binding.host, binding.port)
        return config.host_block(parts.settings, binding, pem=pem, template=parts.template)

    def _include(self, token: str, bound: Mapping[int, bool]) -> str:
        """Our include.

        Args:
            token: As in `config.blocks_include`.
            bound: Whether each PortNumber has a certificate for the default, whose block is then the default server.
        """
        parts = self.parts
        return config.blocks_include(
            parts.settings,
            token,
            fallback=parts.fallback,
            defaults={port for port in parts.settings.ports if port not in parts.room.taken and not bound[port]},
            hash_sizes=parts.room.hash_sizes,
        )


def _named_in(said: str, paths: dict[str, Key]) -> Key | None:
    """Whose file nginx named, if it is one of this batch."""
    named = re.findall(rf"/[^\"':]*?(?:{re.escape(PEM_SUFFIX)}|{re.escape(_BLOCK_SUFFIX)})", said)
    return next((paths[name] for name in named if name in paths), None)
