"""Reading an upload and reaching a verdict, from metadata, password and sealed bundle; what the row says of it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.bundle import CertificateBundle
from shared.errors import MissingError, SecretUnavailableError
from shared.state.records import UploadRecord, UploadStatus
from shared.upload import UploadMetadata, parse_metadata, password_reference
from shared.validation.judge import Judgement, judge_bundle, judge_pfx
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from shared.function.blob_event import Notice
    from shared.function.cloud import Cloud
    from shared.function.turn import Change
    from shared.ports import BlobContent


EVENT_BELONGS = timedelta(seconds=5)
"""An event's time is taken for the upload's, being finer, when it is this close to the blob's own."""


async def judge(
    cloud: Cloud,
    found: BlobContent,
    *,
    on_slow: Callable[[], Awaitable[None]] | None = None,  # noqa: ARG001
) -> tuple[UploadMetadata, Judgement]:
    """Judge one version of an upload.

    Raises:
        UnavailableError: The vault of a referred-to password, or the sealed bundle, could not be reached.
    """
    metadata, noted = parse_metadata(found.version.metadata)
    if metadata.password is None and metadata.sealed_bundle is not None:
        sealed = await _sealed(cloud, metadata.sealed_bundle, found.content)
        if sealed is not None:
            now = cloud.now()
            return metadata, judge_bundle(sealed, metadata, policy=cloud.policy, now=now, earlier=noted)
    passwords: list[bytes | None] = [None, b""]
    if metadata.password is not None:
        reference = password_reference(metadata.password)
        try:
            secret = metadata.password if reference is None else await cloud.secrets.resolve(reference)
        except SecretUnavailableError as error:
            unavailable = Violation(code=VerdictCode.PASSWORD_SECRET_UNAVAILABLE, detail=f"{error}.")
            return metadata, Judgement(
                violations=(*noted, unavailable),
                hosts=(),
                port=metadata.port,
                role=metadata.role,
                site=metadata.site,
                bundle=None,
            )
        passwords = [secret.encode()]
    # Key derivation takes up to seconds of CPU; other uploads go on meanwhile.
    return metadata, await asyncio.to_thread(
        judge_pfx, found.content, metadata, passwords, policy=cloud.policy, now=cloud.now(), earlier=noted
    )


def lacks_password(metadata: UploadMetadata, judgement: Judgement) -> bool:
    """Whether the upload may only be waiting for its metadata: it cannot be opened and has no password yet."""
    unreadable = any(v.code is VerdictCode.UNREADABLE_BUNDLE for v in judgement.violations)
    return unreadable and metadata.password is None


async def _sealed(cloud: Cloud, marker: str, content: bytes) -> CertificateBundle | None:
    """The bundle a scrubbed upload was sealed into, if its content is still the one that was sealed."""
    if marker.rpartition("/")[2] != hashlib.sha256(content).hexdigest():
        return None
    try:
        return CertificateBundle.from_pem(await cloud.bundles.open(marker))
    except MissingError:
        return None


def verdict_on(
    mine: UploadRecord,
    found: BlobContent,
    notice: Notice,
    metadata: UploadMetadata,
    judgement: Judgement,
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
            fingerprint_sha256=bundle.fingerprint_sha256,
            thumbprint_sha1=bundle.thumbprint_sha1,
            not_before=bundle.not_before,
            not_after=bundle.not_after,
            counted_from=max(counted_from, bundle.not_before),
        )

    return verdict


def _judged_version(mine: UploadRecord, found: BlobContent, metadata: UploadMetadata, judgement: Judgement) -> str:
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
