"""A folder of `*.pfx` files, each with `<name>.json` beside it, as a certificate source on one machine."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import UnavailableError
from shared.ports import BlobContent, BlobVersion
from shared.upload import FOLDER_SCHEME, is_certificate_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def upload_name(path: Path) -> str:
    """Name a file as an upload: `folder://<file name>`."""
    return f"{FOLDER_SCHEME}://{path.name}"


class FolderCertificates:
    """The PFX files of one folder, not of its subfolders, as `shared.ports.CertificateSource`.

    Args:
        folder: Where they are. `<name>.json` holds the metadata as one object of texts (`{"HostHeader": "..."}`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def version(self, name: str) -> BlobVersion | None:
        found = await asyncio.to_thread(self._read, name, 0)
        return None if found is None else found.version

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        return await asyncio.to_thread(self._read, name, max_bytes)

    async def each(self) -> AsyncIterator[BlobVersion]:
        for path in await asyncio.to_thread(self._files):
            version = await self.version(upload_name(path))
            if version is not None:
                yield version

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if is_certificate_name(path.name))
        except OSError as error:
            raise UnavailableError(f"folder {self._folder} cannot be read: {error.strerror}") from None

    def _read(self, name: str, max_bytes: int) -> BlobContent | None:
        file_name = name.removeprefix(f"{FOLDER_SCHEME}://")
        # Only a plain file name reaches the file system: the name may come from a message.
        if file_name != Path(file_name).name or "\0" in file_name or not is_certificate_name(file_name):
            return None
        path = self._folder / file_name
        try:
            content = path.read_bytes()
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            beside = self._metadata(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"{path} cannot be read: {error.strerror}") from None
        metadata = json.dumps(beside, sort_keys=True).encode()
        version = BlobVersion(
            name=name,
            etag=hashlib.sha256(hashlib.sha256(content).digest() + metadata).hexdigest()[:32],
            size=len(content),
            last_modified=modified,
            created=modified,
            metadata=beside,
        )
        return BlobContent(version=version, content=content[:max_bytes])

    @staticmethod
    def _metadata(path: Path) -> dict[str, str]:
        try:
            document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            return {"PortNumber": f"unreadable: {path.stem}.json is not JSON"}
        if not isinstance(document, dict):
            return {"PortNumber": f"unreadable: {path.stem}.json is not a JSON object"}
        return {str(key): str(value) for key, value in document.items()}
