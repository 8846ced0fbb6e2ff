"""What became of one version of an upload, as the tables or the blob's tags tell."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from shared.errors import AccessDeniedError, CertcastError, UnsupportedError
from shared.state.document import Document, upload_document
from shared.state.records import UploadStatus
from shared.state.tags import LIVE_TAG, REASON_TAG, STATUS_TAG, VERSION_TAG
from shared.state.telling import with_reasons
from shared.upload import SEALED_BUNDLE_KEY
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from operator_cli.storage import Storage
    from shared.ports import BlobVersion, UploadContainer
    from shared.state.presence import Instances
    from shared.state.records import UploadRecord
    from shared.state.tables import State

SUCCEEDED = frozenset({UploadStatus.LIVE, UploadStatus.SCHEDULED})
"""Nothing more is to be waited for: it is served, or will be on a day that is known."""
DECIDED = SUCCEEDED | {
    UploadStatus.REJECTED,
    UploadStatus.PARTIALLY_LIVE,
    UploadStatus.FAILED,
    UploadStatus.SUPERSEDED,
    UploadStatus.REMOVED,
}

UNNAMED_FOR = timedelta(seconds=5)
"""Until then nothing but the upload's row is read at each look while its proofs are waited for."""

_CODES = "|".join(code.value for code in (*VerdictCode, *WarningCode))
_IN_REASON = re.compile(rf"\b({_CODES}): (.*?)(?=\s*\b(?:{_CODES}): |\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far one version of an upload has come.

    Attributes:
        status: Where it is on its way.
        live: Instances that prove it.
        total: Instances that are waited for.
        document: As `status --json` describes an upload; what is not known is null.
    """

    status: UploadStatus
    live: int
    total: int
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One version of an upload, as it was sent.

    Attributes:
        name: Blob name.
        etag: What the service answered.
        content_sha256: Hex digest of the content.
    """

    name: str
    etag: str
    content_sha256: str


class Outcomes(Protocol):
    """Somewhere an outcome can be read."""

    async def outcome(self, sent: Sent) -> Outcome | None:
        """What became of that version; None until the Function has looked at it.

        Raises:
            AccessDeniedError: It may not be read there.
            CertcastError: That version is no longer the blob's content.
        """


class TableOutcomes:
    """The tables: they name the version that was judged."""

    def __init__(self, state: State, uploads: UploadContainer, now: Callable[[], datetime]) -> None:
        self._state = state
        self._uploads = uploads
        self._now = now

    async def outcome(self, sent: Sent) -> Outcome | None:
        """What became of that version; None until the Function has looked at it."""
        # Read before the row: certcast itself changes the ETag, but only after the row names the version.
        version = await self._uploads.version(sent.name)
        record = await self._state.uploads.get(sent.name)
        if record is not None and record.source_etag == sent.etag:
            now = self._now()
            [record] = await with_reasons(self._state, [record], now, instances=await self._instances(record, now))
            return outcome_of(record)
        _refuse_another(sent, version)
        return None if record is None or record.held_up_since is None else _noticed(record)

    async def _instances(self, record: UploadRecord, now: datetime) -> Instances | None:
        """The instances, to name those that are missing, once it takes longer than it should or has come to an end."""
        is_soon = record.fanned_out_at is None or now - record.fanned_out_at < UNNAMED_FOR
        if record.status not in DECIDED and is_soon:
            return None
        try:
            return {known.value.id: known async for known in self._state.instances.all()}
        except AccessDeniedError:
            return None


class TagOutcomes:
    """The blob's tags, all that is left to uploaders who may use the container alone."""

    def __init__(self, uploads: UploadContainer) -> None:
        self._uploads = uploads

    async def outcome(self, sent: Sent) -> Outcome | None:
        """What became of that version; None until the Function has looked at it."""
        version = await self._uploads.version(sent.name)
        try:
            tags = await self._uploads.tags(sent.name)
        except UnsupportedError:
            _refuse_another(sent, version)
            raise CertcastError(
                f"blob {sent.name} was uploaded, but this storage account has no blob tags to tell what became of it: "
                "use an identity that may read tables (Storage Table Data Reader), or --no-wait"
            ) from None
        except AccessDeniedError:
            raise AccessDeniedError(
                f"blob {sent.name} was uploaded, but its tags may not be read: the role Storage Blob Data Owner, or t "
                "among a SAS's permissions, allows it; --no-wait does not look"
            ) from None
        if tags is not None and tags.get(VERSION_TAG) == sent.etag and STATUS_TAG in tags:
            return outcome_of_tags(sent.name, tags)
        # Scrubbing the password gives another ETag before the tags are written.
        if version is None or not version.metadata.get(SEALED_BUNDLE_KEY, "").endswith(f"/{sent.content_sha256}"):
            _refuse_another(sent, version)
        return None


class AnyOutcomes:
    """The tables while they may be read, else the tags."""

    def __init__(self, storage: Storage) -> None:
        self._tags = TagOutcomes(storage.uploads)
        self._chosen: Outcomes = self._tags
        if storage.state is not None:
            self._chosen = TableOutcomes(storage.state, storage.uploads, storage.now)

    @property
    def by_tags(self) -> bool:
        """Whether the tags alone tell, which say nothing of a version until the Function is done with it."""
        return self._chosen is self._tags

    async def outcome(self, sent: Sent) -> Outcome | None:
        """What became of that version; None until the Function has looked at it."""
        try:
            return await self._chosen.outcome(sent)
        except AccessDeniedError:
            if self._chosen is self._tags:
                raise
            self._chosen = self._tags
            return await self._tags.outcome(sent)


def outcome_of(record: UploadRecord) -> Outcome:
    """The outcome that a row tells."""
    return Outcome(status=record.status, live=record.live, total=record.total, document=upload_document(record))


def _noticed(record: UploadRecord) -> Outcome:
    """The outcome so far of a version that the Function has looked at, and was kept from being done with."""
    return outcome_of(
        replace(record, status=UploadStatus.RECEIVED, violations=(), warnings=(), live=0, total=0, live_at=None)
    )


def outcome_of_tags(name: str, tags: Mapping[str, str]) -> Outcome:
    """The outcome that tags tell: they have no room for more than the beginning of a reason.

    Raises:
        CertcastError: They are not certcast's.
    """
    live, slash, total = tags.get(LIVE_TAG, "0/0").partition("/")
    status = next((status for status in UploadStatus if status.value == tags[STATUS_TAG]), None)
    if status is None or not (slash and live.isdecimal() and total.isdecimal()):
        raise CertcastError(
            f"the tags of blob {name} are not as this version of certcast writes them: they were changed meanwhile, so "
            "upload it again, or the Function is of a newer version, so update this command"
        )
    reason = tags.get(REASON_TAG, "")
    found = _IN_REASON.findall(reason)
    violations = [Violation(code=VerdictCode(code), detail=said) for code, said in found if code in set(VerdictCode)]
    warnings = [Caution(code=WarningCode(code), detail=said) for code, said in found if code in set(WarningCode)]
    if warnings and not violations:
        reason = _IN_REASON.sub("", reason).strip()
    document: Document = {
        "name": name,
        "status": status.value,
        "reason": "" if violations else reason,
        "violations": [violation.to_json() for violation in violations],
        "warnings": [warning.to_json() for warning in warnings],
        "hosts": None,
        "live": int(live),
        "expected": int(total),
        "seconds_to_live": None,
        "not_after": None,
    }
    return Outcome(status=status, live=int(live), total=int(total), document=document)


def _refuse_another(sent: Sent, found: BlobVersion | None) -> None:
    if found is None:
        raise CertcastError(f"blob {sent.name} was deleted before anything became of it")
    if found.etag != sent.etag:
        raise CertcastError(
            f"blob {sent.name} was uploaded or edited again meanwhile: `certcast status {sent.name}` "
            "tells what became of that"
        )
