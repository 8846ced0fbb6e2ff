"""Taking the password out of an accepted upload's metadata, which Azure keeps for every reader of the container.

Done when the upload is installed; where that is refused (a role assignment may take half an hour to come into force)
or was cut short, by the sweeps that follow, for as long as it takes. Until then the status says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.errors import CertcastError, ConflictError, MissingError, UnavailableError
from shared.function.recheck import ask_for_a_look, send_recheck
from shared.phrasing import logger
from shared.state.records import SETTLEABLE, UploadRecord, UploadStatus
from shared.telemetry.names import Stage
from shared.telemetry.spans import spanned
from shared.upload import BLOB_SCHEME, carries_password, scheme_of, scrubbed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.function.cloud import Cloud
    from shared.ports import BlobVersion

log = logger(__name__)

ANSWERED_S = 10.0
"""How long an upload's end may wait for its metadata to be written; what takes longer is the sweep's."""

_ACCEPTED = (SETTLEABLE | {UploadStatus.SCHEDULED}) - {UploadStatus.REMOVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrubbed:
    """What became of the password in an upload's metadata.

    Attributes:
        etag: The blob's version after that; empty where it was changed meanwhile.
        left: Why the password is still there; empty where it is not.
    """

    etag: str
    left: str = ""


async def scrub(cloud: Cloud, record: UploadRecord, version: BlobVersion) -> Scrubbed:
    """Put the sealed bundle's id in the password's place, unless there is nothing to do, or others were quicker."""
    if not is_to_be_scrubbed(cloud, record, version):
        return Scrubbed(etag=version.etag)
    clean = scrubbed(version.metadata, record.bundle_id)
    try:
        etag = await _written(cloud, record.name, clean, version)
    except (ConflictError, MissingError):
        # Edited metadata raises no event, so a look is asked for.
        log.info("upload %s: changed while it was installed; the newer version is looked at next", record.name)
        await ask_for_a_look(record, send_recheck(cloud, record.name, attempt=0, traceparent=record.traceparent))
        return Scrubbed(etag="")
    except CertcastError as error:
        if record.password_left != str(error):
            log.error(
                "upload %s: its password is still in the metadata, the sweeps try to remove it: %s",
                record.name,
                error,
            )
        cloud.scrub_trouble.met(record.name, error, cloud.now())
        return Scrubbed(etag=version.etag, left=str(error))
    cloud.scrub_trouble.is_over(record.name)
    return Scrubbed(etag=etag)


@spanned(Stage.SCRUB)
async def _written(cloud: Cloud, name: str, metadata: Mapping[str, str], version: BlobVersion) -> str:
    try:
        async with asyncio.timeout(ANSWERED_S):
            return await cloud.uploads.set_metadata(name, metadata, etag=version.etag)
    except TimeoutError:
        # It may be written all the same: its version is another one then, and is looked at.
        raise UnavailableError(f"writing the metadata of blob {name}: no answer in {ANSWERED_S:g} s") from None


def is_to_be_scrubbed(cloud: Cloud, record: UploadRecord, version: BlobVersion) -> bool:
    """Whether this version carries a password that is of no use any more: it was accepted, its bundle is sealed."""
    accepted = record.status in _ACCEPTED and record.bundle_id != ""
    is_blob = scheme_of(record.name) == BLOB_SCHEME
    return cloud.scrub_password and is_blob and accepted and carries_password(version.metadata)


def may_be_scrubbed(record: UploadRecord | None, etag: str) -> bool:
    """Whether an upload whose version with this ETag carries a password was accepted, by its row."""
    return record is not None and record.etag == etag and record.status in _ACCEPTED and record.bundle_id != ""


async def scrub_again(cloud: Cloud, name: str) -> bool:
    """Take out the password of an upload that is done with and carries it still; whether it is out now."""
    if not cloud.scrub_trouble.is_over_for(name, cloud.now()):
        return False
    record, version = await cloud.state.uploads.get(name), await cloud.uploads.version(name)
    if record is None or version is None or record.etag != version.etag:
        return False  # it is looked at, being another version
    if not is_to_be_scrubbed(cloud, record, version):
        return False
    done = await scrub(cloud, record, version)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.etag != version.etag:
            return None
        return replace(current, etag=done.etag or current.etag, password_left=done.left)

    await cloud.state.uploads.update(name, change)
    if done.etag and not done.left:
        log.info("upload %s: its password is out of the metadata now", name)
    return done.etag != "" and not done.left
