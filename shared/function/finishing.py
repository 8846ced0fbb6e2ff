"""The end of a look at an upload: it is told what became of it, and the version is marked as done with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import together
from shared.errors import CertcastError, ConflictError, MissingError
from shared.function.announcing import is_tagged, tell, tell_all
from shared.function.recheck import send_recheck
from shared.phrasing import logger
from shared.upload import BLOB_SCHEME, UploadMetadata, password_reference, scheme_of, scrubbed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shared.function.cloud import Cloud
    from shared.function.turn import Turn
    from shared.ports import BlobContent
    from shared.state.records import UploadRecord

log = logger(__name__)


async def finish(cloud: Cloud, turn: Turn, etag: Awaitable[str]) -> UploadRecord:
    """Tell what the upload's row says, then mark the version as done with.

    Args:
        cloud: Where it is told.
        turn: The look's turn at the upload.
        etag: The version that is done with; empty where it is not.
    """
    done, told = await together(etag, tell(cloud, turn.record))
    record = await turn.write(lambda current: replace(told(current), etag=done))
    if not is_tagged(record):
        await tell_all(cloud, turn.held)
    return record


async def complete(cloud: Cloud, turn: Turn, found: BlobContent, metadata: UploadMetadata) -> UploadRecord:
    """Take the password out of the upload's metadata, and finish under the ETag that this leaves."""
    return await finish(cloud, turn, _scrub(cloud, turn.record, found, metadata))


async def _scrub(cloud: Cloud, record: UploadRecord, found: BlobContent, metadata: UploadMetadata) -> str:
    """Take the password out of the metadata; the blob's ETag after that, empty where it was changed meanwhile."""
    has_password = metadata.password is not None and password_reference(metadata.password) is None
    if not (cloud.scrub_password and has_password and scheme_of(record.name) == BLOB_SCHEME):
        return found.version.etag
    clean = scrubbed(found.version.metadata, record.bundle_id)
    try:
        return await cloud.uploads.set_metadata(record.name, clean, etag=found.version.etag)
    except (ConflictError, MissingError):
        # Edited metadata raises no event, so a look is asked for.
        log.info("upload %s: changed while it was installed; the newer version is looked at next", record.name)
        await send_recheck(cloud, record.name, attempt=0, traceparent=record.traceparent)
        return ""
    except CertcastError as error:
        if error.retriable:
            raise
        log.error("upload %s: its password could not be removed from the metadata: %s", record.name, error)
        return found.version.etag
