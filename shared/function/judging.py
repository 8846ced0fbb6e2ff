"""Reading an upload and reaching a verdict, from metadata, password and sealed bundle; what the row says of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import MissingError, SecretUnavailableError, UnavailableError
from shared.phrasing import logger
from shared.state.records import UploadRecord, UploadStatus
from shared.upload import UploadMetadata, parse_metadata, password_reference
from shared.validation.judged import Judged
from shared.validation.tasks import Task
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from shared.function.blob_event import Notice
    from shared.function.cloud import Cloud
    from shared.function.turn import Change
    from shared.ports import BlobContent
log = logger(__name__)

LONGEST_GAP = timedelta(hours=1)
EVENT_BELONGS = timedelta(seconds=5)
"""An event's time is taken for the upload's, being finer, when it is this close to the blob's own."""


async def judge(
    cloud: Cloud, found: BlobContent, *, on_slow: Callable[[], Awaitable[None]] | None = None
) -> tuple[UploadMetadata, Judged]:
    """Judge one version of an upload.

    Args:
        cloud: Where its password and its sealed bundle are, and by what it is judged.
        found: The version.
        on_slow: Awaited before it waits for its turn among those that take long to judge.

    Raises:
        BusyError: Too many of those wait already.
        UnavailableError: The vault of a referred-to password, the sealed bundle, or a process to judge in is not there.
    """
    metadata, noted = parse_metadata(found.version.metadata)
    now = cloud.now()
    if metadata.password is None and metadata.sealed_bundle is not None:
        sealed = await _sealed(cloud, metadata.sealed_bundle, found.content)
        if sealed is not None:
            task = Task(sealed=sealed, sealed_as=metadata.sealed_bundle, metadata=metadata, now=now, earlier=noted)
            answer = await cloud.judges.judge(task, on_slow=on_slow)
            if answer.judged is not None:
                return metadata, answer.judged
            # Judged as new content: an upload that another bundle was laid under is not served from that.
            log.error("upload %s: %s", found.version.name, answer.broken)
    passwords: list[bytes | None] = [None, b""]
    if metadata.password is not None:
        reference = password_reference(metadata.password)
        try:
            secret = metadata.password if reference is None else await cloud.secrets.resolve(reference)
        except SecretUnavailableError as error:
            detail = f"{error}. It is tried again by itself, within the hour at the latest."
            unavailable = Violation(code=VerdictCode.PASSWORD_SECRET_UNAVAILABLE, detail=detail)
            return metadata, Judged(
                violations=(*noted, unavailable),
                hosts=(),
                port=metadata.port,
                role=metadata.role,
                site=metadata.site,
                bundle=None,
            )
        passwords = [secret.encode()]
    asked = replace(metadata, password=None)
    answer = await cloud.judges.judge(
        Task.of_pfx(found.content, asked, passwords, now=now, earlier=noted), on_slow=on_slow
    )
    if answer.judged is None:
        raise UnavailableError(f"upload {found.version.name} was not judged; it is judged again")
    return metadata, answer.judged


def lacks_password(metadata: UploadMetadata, judgement: Judged) -> bool:
    """Whether the upload may only be waiting for its metadata: it cannot be opened and has no password yet."""
    unreadable = any(v.code is VerdictCode.UNREADABLE_BUNDLE for v in judgement.violations)
    return unreadable and metadata.password is None


def is_to_be_judged_again(record: UploadRecord, now: datetime) -> bool:
    """Whether it is time to try again to get the password that an upload refers to, after it could not be had.

    A role assignment takes up to half an hour to come into force, and a person some time to make a secret. The gaps
    grow with the time that it could not be had, to an hour.
    """
    unavailable = any(v.code is VerdictCode.PASSWORD_SECRET_UNAVAILABLE for v in record.violations)
    if record.status is not UploadStatus.REJECTED or not unavailable or record.judged_at is None:
        return False
    waited = record.judged_at - (record.uploaded_at or record.judged_at)
    return now - record.judged_at >= min(waited / 4, LONGEST_GAP)


async def _sealed(cloud: Cloud, marker: str, content: bytes) -> str | None:
    """The bundle a scrubbed upload was sealed into, if its content is still the one that was sealed."""
    if not marker.endswith(f"/{hashlib.sha256(content).hexdigest()}"):
        return None
    try:
        return (await cloud.bundles.open(marker)).decode("ascii", "replace")
    except MissingError:
        return None


def verdict_on(
    mine: UploadRecord,
    found: BlobContent,
    notice: Notice,
    metadata: UploadMetadata,
    judgement: Judged,
    *,
    noticed_at: datetime,
    judged_at: datetime,
) -> Change:
    """What puts into an upload's row, which others write too, the verdict and the certificate if there is one."""
    uploaded_at = _upload_time(mine, found, notice)
    counted_from = _counted_from(mine, found, uploaded_at)
    source_etag = _judged_version(mine, found, metadata, judgement)
    bundle = judgement.bundle

    def verdict(record: UploadRecord) -> UploadRecord:
        judged = replace(
            record,
            source_etag=source_etag,
            violations=judgement.violations,
            warnings=judgement.warnings,
            hosts=judgement.hosts,
            port=judgement.port,
            role=judgement.role,
            site=judgement.site,
            uploaded_at=uploaded_at,
            counted_from=counted_from,
            noticed_at=noticed_at,
            judged_at=judged_at,
        )
        if bundle is None:
            return judged
        return replace(
            judged,
            subject=bundle.subject,
            issuer=bundle.issuer,
            dns_names=bundle.dns_names,
            chain=bundle.chain,
            fingerprint_sha256=bundle.fingerprint_sha256,
            thumbprint_sha1=bundle.thumbprint_sha1,
            not_before=bundle.not_before,
            not_after=bundle.not_after,
            counted_from=max(counted_from, bundle.not_before),
        )

    return verdict


def _judged_version(mine: UploadRecord, found: BlobContent, metadata: UploadMetadata, judgement: Judged) -> str:
    """The version the verdict is about: of a scrubbed upload the one before, which is the one its uploader knows."""
    ours = not mine.etag and metadata.password is None and metadata.sealed_bundle == mine.bundle_id
    asked = (judgement.hosts, judgement.port, judgement.role, judgement.site)
    same = asked == (mine.hosts, mine.port, mine.role, mine.site)
    return mine.source_etag if ours and same and _is_known(mine, found) else found.version.etag


def _upload_time(mine: UploadRecord, found: BlobContent, notice: Notice) -> datetime:
    """When this content was uploaded: editing metadata is not uploading, and must not win an election."""
    if _is_known(mine, found) and mine.uploaded_at is not None:
        return mine.uploaded_at
    modified = found.version.last_modified
    if notice.at is not None and notice.etag == found.version.etag and abs(notice.at - modified) < EVENT_BELONGS:
        return notice.at
    return modified


def _counted_from(mine: UploadRecord, found: BlobContent, uploaded_at: datetime) -> datetime:
    """What `seconds_to_live` counts from: the upload, or the edit of the metadata of what had been done with."""
    if not _is_known(mine, found):
        return uploaded_at
    return found.version.last_modified if mine.etag else mine.counted_from or uploaded_at


def _is_known(mine: UploadRecord, found: BlobContent) -> bool:
    """Whether the content is that which was accepted last."""
    same = mine.bundle_id.endswith(f"/{hashlib.sha256(found.content).hexdigest()}")
    return same and mine.status is not UploadStatus.REMOVED
