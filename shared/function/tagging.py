"""An upload's status in its blob's tags, where the uploader sees it; nothing else waits for it or fails with it.

The uploader's own tags stay: writing replaces all that a blob has, so they are read first, and written back with ours
under the condition that they are as they were read.

Which tags were written is entered into the row, by a write under the ETag of the row that they are about: where the row
was changed meanwhile, that shows it, and they are written again. What changes a status takes that entry out, so that a
status that returns does not look told by tags from before. What the service refuses is said once, and written by the
sweep as soon as it may be; where there was no room, it looks for some, within the hour. An account that has no tags is
not asked again for an hour.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import CertcastError, ConflictError, UnavailableError, UnsupportedError
from shared.phrasing import logger
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import MAX_TAGS, merged, status_tags, tags_token
from shared.upload import BLOB_SCHEME, scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.function.in_process import TagTrouble

log = logger(__name__)

WITHOUT_TAGS_FOR = timedelta(hours=1)
WRITE_TRIES = 5
"""In a row, where others change the tags at the same time."""
ANSWERED_S = 5.0
"""How long an upload's own work may wait for its tags; what takes longer is the sweep's."""

_UNTAGGED = {UploadStatus.REMOVED, UploadStatus.RECEIVED}


def is_tagged(record: UploadRecord) -> bool:
    """Whether the blob was given the tags that this status calls for; true where it calls for none."""
    return scheme_of(record.name) != BLOB_SCHEME or record.status in _UNTAGGED or record.tagged == tags_token(record)


def is_untold(cloud: Cloud, record: UploadRecord) -> bool:
    """Whether tags are to be written that were not refused just now: those are the sweep's."""
    return not record.tags_refused and is_to_be_tagged(cloud, record)


def is_to_be_tagged(cloud: Cloud, record: UploadRecord) -> bool:
    """Whether the blob has yet to be given the tags that this status calls for, and may take them now."""
    trouble, name, now = cloud.tag_trouble, record.name, cloud.now()
    return trouble.is_over_for(name, now) and (not is_tagged(record) or _may_have_room(trouble, record, now))


def _may_have_room(trouble: TagTrouble, record: UploadRecord, now: datetime) -> bool:
    """Whether it is time to see if the uploader took tags away, where there was no room for all of ours."""
    return _lacks_some(record) and trouble.full.is_over_for(record.name, now)


def _lacks_some(record: UploadRecord) -> bool:
    return record.tags_refused != "" and record.tagged == tags_token(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """What came of writing a blob's tags.

    Attributes:
        token: Names the tags that it has now; empty where that is not known, None where none were written.
        refused: Why those that its status calls for could not be written; empty where they were.
    """

    token: str | None = None
    refused: str = ""

    def entered(self, record: UploadRecord) -> UploadRecord:
        """The upload's row with that in it; others may have written tags and row meanwhile."""
        return replace(record, tagged=record.tagged if self.token is None else self.token, tags_refused=self.refused)


async def tag(cloud: Cloud, record: UploadRecord) -> Tagged:
    """Write the status on the blob, unless it is there or cannot be written now."""
    trouble, name = cloud.tag_trouble, record.name
    if is_tagged(record) and not _may_have_room(trouble, record, cloud.now()):
        # Written without those that there was no room for, it says so until there is.
        return Tagged(refused=record.tags_refused if _lacks_some(record) else "")
    if trouble.has_none(cloud.now()):
        return Tagged(token=tags_token(record))
    if not trouble.is_over_for(name, cloud.now()):
        return Tagged(refused=trouble.refusal or record.tags_refused)
    try:
        async with asyncio.timeout(ANSWERED_S):
            left_out = await _written(cloud, name, status_tags(record))
    except TimeoutError:
        trouble.not_answered(cloud.now())
        late = UnavailableError(f"writing the tags of blob {name}: no answer in {ANSWERED_S:g} s")
        return _refused(trouble, record, late, cloud.now())
    except CertcastError as error:
        return _refused(trouble, record, error, cloud.now())
    trouble.is_over(name)
    return Tagged(token=tags_token(record), refused=_no_room(trouble, name, left_out, cloud.now()))


async def _written(cloud: Cloud, name: str, ours: Mapping[str, str]) -> tuple[str, ...]:
    """Put certcast's tags among those that the blob has; which of them there is no room for.

    Raises:
        ConflictError: They are changed again and again.
    """
    tries = 0
    while (found := await cloud.uploads.tags(name)) is not None:
        to_be = merged(found, ours)
        if to_be.tags == found:
            return to_be.left_out
        tries += 1
        try:
            await cloud.uploads.set_tags(name, to_be.tags, found=found)
        except ConflictError:
            if tries == WRITE_TRIES:
                raise
        else:
            return to_be.left_out
    return ()


def _no_room(trouble: TagTrouble, name: str, left_out: Sequence[str], now: datetime) -> str:
    """Note whether there was room, and say for what there was none."""
    if not left_out:
        trouble.full.is_over(name)
        return ""
    problem = (
        f"there is no room for {', '.join(left_out)}, as a blob has {MAX_TAGS} tags at most and the others of {name} "
        "are its uploader's; take some away to see more within the hour"
    )
    trouble.full.met(name, CertcastError(problem), now)
    return problem


def _refused(trouble: TagTrouble, record: UploadRecord, error: CertcastError, now: datetime) -> Tagged:
    """Note what was met with, and say it where it is new."""
    if isinstance(error, UnsupportedError):
        if trouble.unsupported_until is None:
            log.warning("tags: %s; what becomes of uploads is told by `certcast status` and by events", error)
        trouble.unsupported_until = now + WITHOUT_TAGS_FOR
        return Tagged(token=tags_token(record))
    if trouble.met(record.name, error, now):
        log.warning("upload %s: its tags do not show its status, the sweep tries again: %s", record.name, error)
    # Where an answer was lost, they may have been written.
    return Tagged(token="" if isinstance(error, UnavailableError) else None, refused=str(error))
