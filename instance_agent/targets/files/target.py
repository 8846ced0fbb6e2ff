"""The files target: PEM files and what templates make of them, for any server that can be told to reload.

Which server that is stays unknown: a check command says whether it would take the files, a reload command has it take
them. Worked examples are in docs/targets/files.md.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import (
    ApplyError,
    Install,
    InstalledBinding,
    Key,
    NothingHeld,
    ServerUnavailableError,
)
from instance_agent.targets.files.commands import ServerCommands, access_of_group
from instance_agent.targets.files.templates import FileTemplates, Rendered, rendered
from instance_agent.targets.parts.access import PRIVATE, grant, make_folder
from instance_agent.targets.parts.bindings import answering, installs_of
from instance_agent.targets.parts.own_folder import OwnFolder, trouble_with
from instance_agent.targets.parts.pem_file import name_refusal
from instance_agent.targets.parts.pem_folder import PemFolder
from instance_agent.targets.parts.templates import site_refusal
from instance_agent.targets.parts.tested_batch import Interval, broken_without_us, put_in_force
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.files.settings import FilesSettings
    from instance_agent.targets.parts.file_batch import FileBatch

log = logger(__name__)


class FilesTarget(NothingHeld):
    """Keeps `live/` (PEM files), `rendered/` (templates' results) and `fallback.pem` in a folder of its own."""

    kind: ClassVar[str] = "files"
    in_slices: ClassVar[bool] = False

    def __init__(self, settings: FilesSettings) -> None:
        """Look at nothing yet.

        Args:
            settings: From `FilesSettings.from_env`.
        """
        self._settings = settings
        self._pems = PemFolder(settings.folder / "live")
        self._rendered = settings.folder / "rendered"
        self._folder = OwnFolder(settings.folder, "FILES")
        self._commands = ServerCommands(settings)
        self._interval = Interval(settings.reload_interval_s if settings.reload else 0)
        self._access = PRIVATE
        self._templates = FileTemplates(None, self._rendered, fallback=self._folder.fallback_path(settings.fallback))

    @property
    def place(self) -> str:
        """By the folder, which its configuration names."""
        return f"the server of the folder {self._settings.folder.absolute()}"

    def held(self) -> AbstractContextManager[None]:
        """By a lock in the folder.

        Raises:
            ConfigurationError: Another agent has it, or it is not ours.
        """
        return self._folder.held(self.place)

    async def start(self) -> None:
        """Read the templates and bring every file up to date with them.

        Raises:
            ConfigurationError: A template, a program or the folder cannot be used, or the check refuses what the
                templates make and nothing else.
            ServerUnavailableError: The check refuses the server's configuration as it is, or the disk is full.
        """
        settings = self._settings
        for name, command in (("CHECK", settings.check), ("RELOAD", settings.reload)):
            if command and shutil.which(command[0]) is None:
                raise ConfigurationError(f"CERTCAST_FILES_{name}: there is no program {command[0]}")
        self._templates = await asyncio.to_thread(
            FileTemplates, settings.templates, self._rendered, fallback=self._folder.fallback_path(settings.fallback)
        )
        self._access = access_of_group(settings.group)
        batch = await asyncio.to_thread(self._refreshed)
        if batch is not None:
            await self._put_in_force(batch)

    async def version(self) -> str:
        """The server is unknown."""
        return ""

    def forget(self) -> None:
        """Read every file in `live/` when next asked. What the templates make is written with each change anyway."""
        self._pems.forget()

    async def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """What is tagged as ours in `live/`.

        Raises:
            ServerUnavailableError: It cannot be read.
        """
        with self._folder.trouble():
            return frozenset((await asyncio.to_thread(self._pems.read, keys)).values())

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write files, check them, reload once; what fails puts everything back.

        Raises:
            ApplyError: The check or the reload refuses these files, and takes those before them.
            ServerUnavailableError: It refuses those too.
        """
        installs_of(changes, self.refusal)
        await self._interval.wait()
        with self._folder.trouble():
            batch, paths = await asyncio.to_thread(self._batch, changes)
            blame = partial(_named_in, paths=paths)
            await put_in_force(batch, self._commands, blame=blame, interval=self._interval)

    def endpoint(self, port: int) -> tuple[str, int] | None:
        """Where `CERTCAST_FILES_ADDRESS` says the server is; None where nothing is set."""
        return self._settings.endpoints.at(port) if self._settings.endpoints.address else None

    def refusal(self, change: Install) -> str | None:
        """Names that cannot be a file's or a configuration's, ports that are none, a default that no template uses."""
        if change.host == DEFAULT_HOST and not self._templates.take_default:
            return (
                f"{change.phrased} reaches no server: no template in {self._settings.templates}/all uses `fallbacks`, "
                "as the one for Apache in docs/targets/files.md does; change it, or leave Default out"
            )
        name = name_refusal(*change.key, suffix=self._templates.longest_suffix)
        return name or site_refusal(change) or self._settings.endpoints.refusal(change)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Which other binding of ours answered; the rest is the server's own configuration."""
        others = [binding for binding in await self.current() if binding.key != (host, port)]
        if (answered := answering(others, seen_fingerprint_sha256)) is not None:
            return answered
        if host == DEFAULT_HOST:
            return (
                "the server's own configuration has another certificate for clients without a name and for unknown "
                f"ones: have it use {self._pems.path(host, port)}"
            )
        if not self._settings.reload:
            return "the server may not have read the new files yet: set CERTCAST_FILES_RELOAD if it needs telling"
        return f"the server's own configuration has another certificate for {host}, or does not use certcast's files"

    async def _put_in_force(self, batch: FileBatch) -> None:
        """What the templates make, at a start: a server that is down now reads it when it comes up."""
        await asyncio.to_thread(batch.commit, on_trial=True)
        try:
            refused = await self._commands.check()
            if refused is not None:
                await asyncio.to_thread(batch.undo)
                if (still := await self._commands.check()) is not None:
                    raise ServerUnavailableError(broken_without_us(still))
                raise ConfigurationError(f"the server does not take what the templates make: {refused}")
            await asyncio.to_thread(batch.proved)
            self._interval.begin()
            if (trouble := await self._commands.activate()) is not None:
                log.warning("%s; what the templates make is in force from the server's next start", trouble)
        finally:
            await asyncio.to_thread(batch.close)

    def _batch(self, changes: Sequence[BindingChange]) -> tuple[FileBatch, dict[str, Key]]:
        """The batch's files, and whose they are; runs in a thread."""
        batch = self._folder.batch()
        contents = self._pems.enter(changes, batch, self._access)
        ours: dict[Key, Install | InstalledBinding] = {**self._pems.read()}
        paths: dict[str, Key] = {}
        for change in changes:
            if isinstance(change, Install):
                ours[change.key] = change
                made = self._rendered_for(change, contents[change.key])
                paths |= dict.fromkeys(map(str, (self._pems.path(*change.key), *made)), change.key)
                for path, content in made.items():
                    batch.write(path, content, self._access)
            elif ours.pop(change.key, None) is not None:
                for path in self._templates.paths(*change.key):
                    batch.delete(path)
        for path, content in self._templates.all(map(self._values, ours.values())).items():
            batch.write(path, content, self._access)
        return batch, paths

    def _rendered_for(self, change: Install, pem: bytes) -> dict[Path, bytes]:
        try:
            return self._templates.each(self._values(change), pem)
        except ConfigurationError as error:
            raise ApplyError(str(error), culprit=change.key) from error

    def _values(self, binding: Install | InstalledBinding) -> Rendered:
        listen_port = self._settings.endpoints.listened_on(binding.port)
        return rendered(binding, pem=self._pems.path(*binding.key), listen_port=listen_port)

    def _refreshed(self) -> FileBatch | None:
        """Folder, fallback, and what of `rendered/` is not as the templates have it; runs in a thread."""
        try:
            self._prepare_folder()
            return self._behind()
        except OSError as error:
            cure = (
                "set CERTCAST_FILES_FOLDER, CERTCAST_FILES_FALLBACK and CERTCAST_FILES_GROUP to what the agent may use"
            )
            raise trouble_with(error, cure) from None

    def _behind(self) -> FileBatch | None:
        ours = self._pems.read()
        wanted = self._templates.all(map(self._values, ours.values()))
        for binding in ours.values():
            path = self._pems.path(*binding.key)
            grant(path, self._access)
            wanted |= self._templates.each(self._values(binding), path.read_bytes())
        there = {path for path in self._rendered.rglob("*") if path.is_file()}
        batch = self._folder.batch()
        for path in there & set(wanted):
            grant(path, self._access)
        return batch if batch.match(wanted, there, self._access) else None

    def _prepare_folder(self) -> None:
        self._folder.take_over(self._access)
        for folder in (self._pems.folder, self._rendered):
            make_folder(folder, self._access)
        self._folder.clear()
        self._folder.fallback(self._settings.fallback, self._access)


def _named_in(said: str, paths: dict[str, Key]) -> Key | None:
    """Whose file the server named, if it is one of this batch."""
    words = re.split(r"[\s\"'`(),;]+", said)
    return next((paths[word] for each in words if (word := each.rstrip(":.")) in paths), None)
