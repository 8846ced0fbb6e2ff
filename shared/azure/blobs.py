"""The container `certificates` through azure-storage-blob."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core.exceptions import HttpResponseError

from shared.azure.errors import UNCHANGED, azure_errors, error_code
from shared.azure.patience import ONCE, sending
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConflictError,
    HeldError,
    MissingError,
    RefusedForNowError,
    UnsupportedError,
)
from shared.phrasing import shown
from shared.ports import BlobContent, BlobVersion
from shared.upload import keeps_its_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from azure.storage.blob import BlobProperties
    from azure.storage.blob.aio import BlobClient, ContainerClient

T = TypeVar("T")

UPLOADS_CONTAINER = "certificates"

_READ_TRIES = 5
_ONCE_MORE: dict[str, Any] = {"retry_total": 1}
"""Others wait for what is done about tags, and the sweep tries again: once more is enough."""
_FORGED = {"AuthenticationFailed", "AuthorizationFailure"}
"""Of a signature that is wrong; the second one is the emulator's."""
_HEADER = re.compile(r"[\t -~]*\Z")
"""learn.microsoft.com, "Setting and retrieving properties and metadata for Blob service resources"."""


class AzureUploads:
    """The container that uploaders write to, as `shared.ports.UploadContainer`."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    def _blob(self, name: str) -> BlobClient:
        """The client of this blob and of no other thing, whatever the name."""
        if not keeps_its_place(name):
            raise MissingError(f"no blob is named '{shown(name)}': none has a folder . or .., a \\ or a control")
        return self._container.get_blob_client(name)

    async def version(self, name: str) -> BlobVersion | None:
        doing = f"reading the properties of blob {name}"
        try:
            found = await _unless_missing(doing, lambda: self._blob(name).get_blob_properties())
        except HeldError:
            # Of a blob under a key of its uploader's own, only the listing tells its version.
            with azure_errors(doing):
                found = await anext(self._container.list_blobs(name_starts_with=name, results_per_page=1), None)
            found = found if found is not None and found.name == name else None
        return None if found is None else _version(name, found)

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        found = await _unless_missing(f"reading blob {name}", lambda: first_bytes(self._blob(name), most=max_bytes))
        return None if found is None else BlobContent(version=_version(name, found[0]), content=found[1])

    async def write(self, name: str, content: bytes, metadata: Mapping[str, str]) -> str:
        # Where an answer is lost, the blob is written again, and the last version is the one returned.
        with _carried(f"uploading blob {name}", metadata):
            answer = await self._blob(name).upload_blob(content, metadata=dict(metadata), overwrite=True)
        return unquoted(str(answer["etag"]))

    async def set_metadata(self, name: str, metadata: Mapping[str, str], *, etag: str) -> str:
        # Where an answer is lost, this is a conflict with itself. It is not read back: the same metadata may by now be
        # on other content, which would then be taken for done with. Who meets a conflict looks again.
        with _carried(f"writing the metadata of blob {name}", metadata):
            answer = await self._blob(name).set_blob_metadata(
                dict(metadata), etag=f'"{etag}"', match_condition=UNCHANGED
            )
        return unquoted(str(answer["etag"]))

    async def set_tags(self, name: str, tags: Mapping[str, str], *, found: Mapping[str, str] | None = None) -> bool:
        # Where an answer is lost, this is a conflict with itself: who reads again finds that the tags are there.
        as_found = _as_found(found or {}) or None
        written = await self._of_tags(
            name, "writing", lambda blob: blob.set_blob_tags(dict(tags), if_tags_match_condition=as_found, **_ONCE_MORE)
        )
        return written is not None

    async def tags(self, name: str) -> dict[str, str] | None:
        return await self._of_tags(name, "reading", lambda blob: blob.get_blob_tags(**_ONCE_MORE))

    async def _of_tags(self, name: str, verb: str, request: Callable[[BlobClient], Awaitable[T]]) -> T | None:
        """What a request about tags brings; None where the blob is gone."""
        doing = f"{verb} the tags of blob {name}"
        try:
            return await _unless_missing(doing, lambda: _if_there_are_tags(request(self._blob(name)), doing))
        except AccessDeniedError as error:
            # Of the roles for blobs only the owner's has this right, so that it is often the one thing not granted.
            raise RefusedForNowError(
                f"{error}; tags are read and written with the role Storage Blob Data Owner on the container"
            ) from None

    async def delete(self, name: str) -> bool:
        with sending() as request:
            try:
                with azure_errors(f"deleting blob {name}"):
                    await self._blob(name).delete_blob(delete_snapshots="include", **ONCE)
            except MissingError:
                return request.again  # gone by the first try, whose answer was lost
        return True

    async def each(self) -> AsyncIterator[BlobVersion]:
        with azure_errors(f"listing container {self._container.container_name}"):
            async for properties in self._container.list_blobs(include=["metadata"]):
                yield _version(str(properties.name), properties)


async def first_bytes(blob: BlobClient, *, most: int) -> tuple[BlobProperties, bytes]:
    """Read the first bytes of a blob, and the properties of the very version they are of, in one request.

    An empty blob takes two: it has no range to ask for.

    Args:
        blob: The blob.
        most: How many bytes are wanted; the properties' `size` tells whether there are more.

    Raises:
        ConflictError: It is emptied and filled again and again.
        AzureError: As the SDK has it.
    """
    for _ in range(_READ_TRIES):
        try:
            stream = await blob.download_blob(offset=0, length=most)
        except HttpResponseError as error:
            if error.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            properties = await blob.get_blob_properties()
            if properties.size == 0:
                return properties, b""
        else:
            properties = stream.properties
            properties.size = int(str(properties.content_range).rpartition("/")[2])  # the SDK tells what it read
            return properties, await stream.readall()
    raise ConflictError(f"blob {blob.blob_name} is being overwritten again and again; try again later")


@contextmanager
def _carried(doing: str, metadata: Mapping[str, str]) -> Iterator[None]:
    """Say which entry of metadata cannot be written, where it is that: other programs may have put it there."""
    odd = next((key for key, value in metadata.items() if not _HEADER.match(key + value)), "")
    with azure_errors(doing):
        try:
            yield
        except (ValueError, HttpResponseError) as error:
            # The SDK refuses controls; what it signs in another encoding than it sends, the service takes for forged.
            if not odd or (isinstance(error, HttpResponseError) and error_code(error) not in _FORGED):
                raise
            raise CertcastError(
                f"{doing}: the metadata {shown(odd)} has characters outside ASCII, or controls, which cannot be sent: "
                "write it in ASCII"
            ) from None


async def _unless_missing(doing: str, request: Callable[[], Awaitable[T]]) -> T | None:
    """The answer; None where the blob is gone."""
    with suppress(MissingError), azure_errors(doing):
        return await request()
    return None


def _as_found(tags: Mapping[str, str]) -> str:
    """The condition that a blob still has these tags; empty for none.

    learn.microsoft.com, "Manage and find Azure Blob data with blob index tags": neither names nor values have quotes.
    """
    return " AND ".join(f"\"{key}\"='{value}'" for key, value in tags.items())


async def _if_there_are_tags(request: Awaitable[T], doing: str) -> T:
    """What a request about tags brings; an account without tags may not know that there is such a request."""
    try:
        return await request
    except HttpResponseError as error:
        if error_code(error) != "InvalidQueryParameterValue":
            raise
    raise UnsupportedError(f"{doing}: this storage account has no tags (InvalidQueryParameterValue)")


def _version(name: str, properties: BlobProperties) -> BlobVersion:
    return BlobVersion(
        name=name,
        etag=unquoted(str(properties.etag)),
        size=int(properties.size),
        last_modified=properties.last_modified,
        created=properties.creation_time,
        metadata=dict(properties.metadata or {}),
    )


def unquoted(etag: str) -> str:
    """The ETag as certcast has it: without the quotes of the HTTP header."""
    return etag.strip('"')
