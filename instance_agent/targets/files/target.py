"""The files target: PEM files and whatever templates make of them, for any server that can be told to reload.

Which server that is stays unknown: a check command says whether it would take the files, a reload command has it take
them. Settings are in `files_settings`, and worked examples in docs/targets/files.md.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, ServerUnavailableError
from instance_agent.targets.files.commands import ServerCommands, access_of_group
from instance_agent.targets.files.templates import FileTemplates, rendered
from instance_agent.targets.parts.fallback_file import fallback_file
from instance_agent.targets.parts.file_batch import PRIVATE, FileBatch, clear_staging, grant, make_folder
from instance_agent.targets.parts.own_folder import claim_folder
from instance_agent.targets.parts.pem_folder import PemFolder, name_refusal, tagged_pem
from instance_agent.targets.parts.templates import site_refusal
from instance_agent.targets.parts.tested_batch import carry_out
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.files.settings import FilesSettings

Key = tuple[str, int]

_LONGEST_NAME = 255
_MAX_PORT = 65535

log = logging.getLogger(__name__)


class FilesTarget:
    """Keeps `live/` (PEM files), `rendered/` (templates' results) and `fallback.pem` in a folder of its own."""

    kind: ClassVar[str] = "files"

    def __init__(self, settings: FilesSettings) -> None:
        """Look at nothing yet.

        Args:
            settings: From `FilesSettings.from_env`.
        """
        self._settings = settings
        self._pems = PemFolder(settings.folder / "live")
        self._rendered = settings.folder / "rendered"
        self._fallback = settings.fallback or settings.folder / "fallback.pem"
        self._staging = settings.folder / ".staging"
        self._activation = ServerCommands(settings)
        self._access = PRIVATE
        self._templates = FileTemplates(None, self._rendered)

    async def start(self) -> None:
        """Read the templates and bring every file up to date with them.

        Raises:
            ConfigurationError: A template, a program or the folder cannot be used, or the check refuses the files.
        """
        settings = self._settings
        for name, command in (("CHECK", settings.check), ("RELOAD", settings.reload)):
            if command and shutil.which(command[0]) is None:
                raise ConfigurationError(f"CERTCAST_FILES_{name}: there is no program {command[0]}")
        self._templates = await asyncio.to_thread(FileTemplates, settings.templates, self._rendered)
        self._access = access_of_group(settings.group)
        batch = await asyncio.to_thread(self._refreshed)
        if batch is not None:
            await self._put_in_force(batch)

    async def stop(self) -> None:
        """Nothing is held."""

    async def version(self) -> str:
        """The server is unknown."""
        return ""

    async def current(self, keys: Collection[tuple[str, int]] | None = None) -> frozenset[InstalledBinding]:
        """What is tagged as ours in `live/`.

        Raises:
            ServerUnavailableError: It cannot be read.
        """
        try:
            return frozenset((await asyncio.to_thread(self._pems.read, keys)).values())
        except OSError as error:
            raise ServerUnavailableError(f"{error.filename} cannot be read: {error.strerror}") from error

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write files, check them, reload once; what fails puts everything back.

        Raises:
            ApplyError: The check or the reload refuses these files, and takes those before them.
            ServerUnavailableError: It refuses those too.
        """
        try:
            batch, paths = await asyncio.to_thread(self._batch, changes)
            await self._activation.interval.wait()
            await carry_out(batch, self._activation, lambda said: _named_in(said, paths))
        except OSError as error:
            raise ServerUnavailableError(f"{error.filename} cannot be used: {error.strerror}") from error
        except ConfigurationError as error:
            raise ServerUnavailableError(str(error)) from error

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: a replaced file went with the batch."""

    def endpoint(self, port: int) -> tuple[str, int] | None:
        """Where `CERTCAST_FILES_ADDRESS` says the server is; None where nothing is set."""
        return (self._settings.address, port + self._settings.port_offset) if self._settings.address else None

    def refusal(self, change: Install) -> str | None:
        """Names that cannot be a file's or a configuration's."""
        if (reason := name_refusal(change) or site_refusal(change)) is not None:
            return reason
        if change.port + self._settings.port_offset > _MAX_PORT:
            return f"{change.host}:{change.port}: CERTCAST_FILES_PORT_OFFSET carries the port beyond the last one"
        if len(change.host) + self._templates.longest_suffix > _LONGEST_NAME:
            return f"{change.host} is too long for the name of a file on this machine"
        return None

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Which other binding of ours answered; the rest is the server's own configuration."""
        for binding in await self.current():
            if binding.fingerprint_sha256 == seen_fingerprint_sha256 and binding.key != (host, port):
                return f"the certificate installed for {binding.host}:{binding.port} answered"
        if not self._settings.reload:
            return "the server may not have read the new files yet: set CERTCAST_FILES_RELOAD if it needs telling"
        return f"the server's own configuration has another certificate for {host}, or does not use certcast's files"

    async def _put_in_force(self, batch: FileBatch) -> None:
        """What the templates make, at a start: a server that is down now reads it when it comes up."""
        await asyncio.to_thread(batch.commit, on_trial=True)
        try:
            refused = await self._activation.check()
            await asyncio.to_thread(batch.proved if refused is None else batch.undo)
            if refused is None and (trouble := await self._activation.activate()) is not None:
                log.warning("%s; what the templates make is in force from the server's next start", trouble)
        finally:
            await asyncio.to_thread(batch.close)
        if refused is not None:
            raise ConfigurationError(f"the server does not take what the templates make: {refused}")

    def _batch(self, changes: Sequence[BindingChange]) -> tuple[FileBatch, dict[str, Key]]:
        """The batch's files, and whose they are; runs in a thread."""
        installs = [change for change in changes if isinstance(change, Install)]
        for each in installs:
            if (reason := self.refusal(each)) is not None:
                raise ApplyError(reason, culprit=each.key)
        if (stranger := self._pems.foreign(installs)) is not None:
            path = self._pems.path(*stranger.key)
            raise ApplyError(f"{path} was not made by certcast: move it away", culprit=stranger.key)
        ours: dict[Key, Install | InstalledBinding] = {**self._pems.read()}
        batch = FileBatch(self._staging)
        paths: dict[str, Key] = {}
        for change in changes:
            if isinstance(change, Install):
                ours[change.key] = change
                for path, content in self._files_of(change).items():
                    paths[str(path)] = change.key
                    batch.write(path, content, self._access)
            elif ours.pop(change.key, None) is not None:
                for path in (self._pems.path(*change.key), *self._templates.paths(*change.key)):
                    batch.delete(path)
        for path, content in self._about_all(ours.values()).items():
            batch.write(path, content, self._access)
        return batch, paths

    def _files_of(self, change: Install) -> dict[Path, bytes]:
        content = tagged_pem(change)
        try:
            return {self._pems.path(*change.key): content, **self._each(change, content)}
        except ConfigurationError as error:
            raise ApplyError(str(error), culprit=change.key) from error

    def _each(self, binding: Install | InstalledBinding, pem: bytes) -> dict[Path, bytes]:
        values = rendered(
            binding, pem=self._pems.path(binding.host, binding.port), port_offset=self._settings.port_offset
        )
        made = self._templates.each(values, pem.decode("ascii"), fallback=self._fallback)
        return {path: text.encode() for path, text in made.items()}

    def _about_all(self, bindings: Iterable[Install | InstalledBinding]) -> dict[Path, bytes]:
        offset = self._settings.port_offset
        values = [rendered(each, pem=self._pems.path(*each.key), port_offset=offset) for each in bindings]
        return {path: text.encode() for path, text in self._templates.all(values, fallback=self._fallback).items()}

    def _refreshed(self) -> FileBatch | None:
        """Folder, fallback, and what of `rendered/` is not as the templates have it; runs in a thread."""
        self._prepare_folder()
        ours = self._pems.read()
        wanted: dict[Path, bytes] = self._about_all(ours.values())
        for binding in ours.values():
            path = self._pems.path(*binding.key)
            grant(path, self._access)
            wanted |= self._each(binding, path.read_bytes())
        there = {path for path in self._rendered.rglob("*") if path.is_file()}
        batch = FileBatch(self._staging)
        new = [path for path, content in wanted.items() if path not in there or path.read_bytes() != content]
        for path in new:
            batch.write(path, wanted[path], self._access)
        for path in there - set(wanted):
            batch.delete(path)
        for path in there & set(wanted):
            grant(path, self._access)
        return batch if new or there - set(wanted) else None

    def _prepare_folder(self) -> None:
        settings = self._settings
        try:
            claim_folder(settings.folder, self._access, setting="CERTCAST_FILES_FOLDER")
            for folder in (self._pems.folder, self._rendered):
                make_folder(folder, self._access)
            clear_staging(self._staging)
            fallback_file(
                settings.fallback,
                self._fallback,
                access=self._access,
                staging=self._staging,
                setting="CERTCAST_FILES_FALLBACK",
            )
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename} cannot be made or read ({error.strerror}): set CERTCAST_FILES_FOLDER, "
                "CERTCAST_FILES_FALLBACK and CERTCAST_FILES_GROUP to what the agent may use"
            ) from None


def _named_in(said: str, paths: dict[str, Key]) -> Key | None:
    """Whose file the server named, if it is one of this batch."""
    words = re.split(r"[\s\"'`(),;]+", said)
    return next((paths[word] for each in words if (word := each.rstrip(":.")) in paths), None)
