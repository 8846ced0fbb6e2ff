"""Watches a folder of PFX files, and has the Function look at each that changes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import awatch

from shared.errors import CertcastError, ConfigurationError
from shared.messages import RECHECK_QUEUE, RecheckUpload, encode, new_traceparent
from shared.phrasing import logger
from shared.sources.folder import upload_name
from shared.upload import is_certificate_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.ports import Queues

log = logger("certcast.folder")

_SUFFIXES = (".pfx", ".p12", ".PFX", ".P12")
_QUIET_MS = 200
"""Changes are taken together until none came for this long: a file that is being copied changes many times."""


class FolderWatch:
    """Watches one folder, from `start` to `stop`.

    Args:
        folder: The folder; its subfolders do not count.
        queues: Where the messages to the Function go.
    """

    def __init__(self, folder: Path, queues: Queues) -> None:
        self._folder = folder
        self._queues = queues
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have every file looked at that is there, and from now on those that change.

        Raises:
            ConfigurationError: There is no such folder.
        """
        if not await asyncio.to_thread(self._folder.is_dir):
            raise ConfigurationError(f"{self._folder} is no folder: make it, or name another one with --folder")
        self._watching = asyncio.create_task(self._watch(), name=f"watching {self._folder}")
        await self._tell(await asyncio.to_thread(lambda: list(self._folder.iterdir())))

    async def stop(self) -> None:
        """Stop watching."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        async for changes in awatch(self._folder, recursive=False, step=_QUIET_MS):
            await self._tell(Path(path) for _, path in changes)

    async def _tell(self, paths: Iterable[Path]) -> None:
        names = sorted({upload_name(file) for path in paths for file in certificate_files(path)})
        for name in names:
            message = RecheckUpload(name=name, traceparent=new_traceparent())
            try:
                await self._queues.send(RECHECK_QUEUE, encode(message))
            except CertcastError as error:
                log.warning("%s changed, and the next sweep will find it: %s", name, error)
            else:
                log.info("%s changed", name)


def certificate_files(path: Path) -> list[Path]:
    """The PFX files that a changed file is about: itself, or those that a JSON file lies beside."""
    if is_certificate_name(path.name):
        return [path]
    if path.suffix.lower() != ".json":
        return []
    return [beside for suffix in _SUFFIXES if (beside := path.with_suffix(suffix)).exists()]
