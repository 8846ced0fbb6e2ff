"""Reading an upload and reaching a verdict, from metadata, password and sealed bundle; what the row says of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import (
    AccessDeniedError,
    BrokenBundleError,
    CertcastError,
    MissingError,
    SecretUnavailableError,
    UnavailableError,
)
from shared.phrasing import logger, shown
from shared.state.records import UploadRecord, UploadStatus
from shared.upload import (
    KEY_VAULT_SCHEME,
    SEALED_BUNDLE_KEY,
    UploadMetadata,
    parse_metadata,
    password_reference,
    scheme_of,
)
from shared.validation.judged import Judged
from shared.validation.metadata_keys import misnamed_password, unknown_keys
from shared.validation.tasks import Task
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from shared.function.blob_event import Notice
    from shared.function.cloud import Cloud
    from shared.function.turn import Change
    from shared.ports import BlobContent, BlobVersion
    from shared.verdict import Caution

log = logger(__name__)

LONGEST_GAP = timedelta(hours=1)
_JUDGES = "a process that judges it"
EVENT_BELONGS = timedelta(seconds=5)
"""An event's time is taken for the upload's, being finer, when it is this close to the blob's own."""


async def judge(
    cloud: Cloud,
    found: BlobContent,
    *,
    on_slow: Callable[[], Awaitable[None]] | None = None,
    asks: Callable[[str], None] = lambda _: None,
) -> tuple[UploadMetadata, Judged]:
    """Judge one version of an upload.

    Args:
        cloud: Where its password and its sealed bundle are, and by what it is judged.
        found: The version.
        on_slow: Awaited before it waits for its turn among those that take long to judge.
        asks: Told what is waited for next.

    Raises:
        BusyError: Too many of those wait already.
        UnavailableError: The vault of a referred-to password, the sealed bundle, or a process to judge in is not there.
    """
    metadata, noted = parse_metadata(found.version.metadata)
    warnings, now = warnings_on(found.version), cloud.now()
    marker = _own_marker(metadata, found.content)
    if marker is not None:
        asks("the container bundles")
        sealed = await _sealed(cloud, found.version.name, marker)
        if sealed is not None:
            task = Task(sealed=sealed, sealed_as=marker, metadata=metadata, now=now, earlier=noted, warnings=warnings)
            asks(_JUDGES)
            answer = await cloud.judges.judge(task, on_slow=on_slow)
            if answer.judged is not None:
                return metadata, answer.judged
            # Judged as new content: an upload that another bundle was laid under is not served from that.
            log.error("upload %s: %s", found.version.name, answer.broken)
    passwords: list[bytes | None] = [None, b""]
    if metadata.password is not None:
        reference = password_reference(metadata.password)
        asks(f"the vault of {shown(reference)}" if reference else _JUDGES)
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
                default=metadata.default,
                bundle=None,
                warnings=warnings,
            )
        passwords = [secret.encode()]
    asked = replace(metadata, password=None)
    task = Task.of_pfx(found.content, asked, passwords, now=now, earlier=noted, warnings=warnings)
    asks(_JUDGES)
    answer = await cloud.judges.judge(task, on_slow=on_slow)
    if answer.judged is None:
        raise UnavailableError(f"upload {found.version.name} was not judged; it is judged again")
    return metadata, _explained(answer.judged, metadata, found, marker)


def warnings_on(version: BlobVersion) -> tuple[Caution, ...]:
    """What is to be said of an upload's metadata; a vault's certificates have tags for all kinds of purposes."""
    return unknown_keys(version.metadata, others=scheme_of(version.name) != KEY_VAULT_SCHEME)


def _explained(judged: Judged, metadata: UploadMetadata, found: BlobContent, marker: str | None) -> Judged:
    """A verdict on what does not open and has no password, with the likeliest reason in the first place."""
    if not lacks_password(metadata, judged):
        return judged
    if marker is not None:
        without = (v for v in judged.violations if v.code is not VerdictCode.UNREADABLE_BUNDLE)
        return replace(judged, violations=(_SCRUBBED_ELSEWHERE, *without))
    misnamed = misnamed_password(found.version.metadata)
    return judged if misnamed is None else replace(judged, violations=(misnamed, *judged.violations))


_SCRUBBED_ELSEWHERE = Violation(
    code=VerdictCode.UNREADABLE_BUNDLE,
    detail=(
        "The password of this upload, or of the one that it is a copy of, was removed by certcast: upload the original "
        "file with its CertificatePassword, or add that to the metadata. The sealed bundle that the metadata names "
        f"({SEALED_BUNDLE_KEY}) is not here, or is sealed under another key: it is another installation's, or was "
        "deleted."
    ),
)


def lacks_password(metadata: UploadMetadata, judgement: Judged) -> bool:
    """Whether an upload has no password, and one might open it: what is no PFX waits for none."""
    return judgement.wants_password and metadata.password is None


def waits_for_password(found: BlobContent, metadata: UploadMetadata, judgement: Judged) -> bool:
    """Whether the upload may only be waiting for its metadata; the copy of one whose password was removed is not."""
    return lacks_password(metadata, judgement) and _own_marker(metadata, found.content) is None


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


def _own_marker(metadata: UploadMetadata, content: bytes) -> str | None:
    """The bundle that a scrubbed upload names, if its content is still the one that was sealed."""
    marker = metadata.sealed_bundle
    if metadata.password is not None or marker is None:
        return None
    return marker if marker.endswith(f"/{hashlib.sha256(content).hexdigest()}") else None


async def _sealed(cloud: Cloud, name: str, marker: str) -> str | None:
    """The bundle that a scrubbed upload was sealed into; None where it is not here, or not one of this installation."""
    try:
        return (await cloud.bundles.open(marker)).decode("ascii", "replace")
    except MissingError:
        return None
    except BrokenBundleError as error:
        log.error("upload %s: %s", name, error)
    except CertcastError as error:
        known = None if error.retriable else await cloud.state.uploads.get(name)
        if error.retriable or isinstance(error, AccessDeniedError) or (known is not None and known.bundle_id == marker):
            raise  # it was sealed here: what keeps it from being opened can be put right
        log.warning("upload %s: judged by its content, as %s", name, error)
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
    is_found_again = notice.at is None and mine.status is UploadStatus.RECEIVED and metadata.sealed_bundle is not None
    counted_from = noticed_at if is_found_again else _counted_from(mine, found, uploaded_at)
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
            default=judgement.default,
            uploaded_at=uploaded_at,
            counted_from=counted_from,
            noticed_at=noticed_at,
            judged_at=judged_at,
            held_up="",
            held_up_since=None,
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
    if found.version.etag == mine.etag and mine.source_etag:
        return mine.source_etag  # looked at once more, as it was left
    ours = not mine.etag and metadata.password is None and metadata.sealed_bundle == mine.bundle_id
    asked = (judgement.hosts, judgement.port, judgement.role, judgement.site, judgement.default)
    same = asked == (mine.hosts, mine.port, mine.role, mine.site, mine.default)
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
