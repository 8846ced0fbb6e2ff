"""What an uploader reads on the blob: the names of certcast's tags, and an upload's status in them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.state.records import UploadRecord

STATUS_TAG = "certcast_status"
LIVE_TAG = "certcast_live"
REASON_TAG = "certcast_reason"
VERSION_TAG = "certcast_version"
"""The ETag of the version that the other tags are about: content uploaded since may not have been looked at yet."""

TAG_VALUE_CHARS = 256
"""Longest tag value (learn.microsoft.com, "Set Blob Tags")."""
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9 +\-./:=_]+")


def status_tags(record: UploadRecord) -> dict[str, str]:
    """Put a status into the characters that tag values may have (learn.microsoft.com, "Set Blob Tags")."""
    tags = {STATUS_TAG: record.status.value, LIVE_TAG: f"{record.live}/{record.total}"}
    reason = record.reason or "; ".join(f"{v.code.value}: {v.detail}" for v in record.violations)
    if record.source_etag:
        tags[VERSION_TAG] = _tag_value(record.source_etag)
    if reason:
        tags[REASON_TAG] = _tag_value(reason)
    return tags


def tags_token(record: UploadRecord) -> str:
    """Name the tags that a status calls for, so that it is known which ones a blob was given."""
    return hashlib.sha256(json.dumps(status_tags(record)).encode()).hexdigest()[:16]


def untagged(before: UploadRecord, after: UploadRecord) -> UploadRecord:
    """An upload's changed row, which no tags tell of where its status calls for others than before."""
    return after if status_tags(before) == status_tags(after) else replace(after, tagged="")


def _tag_value(text: str) -> str:
    return " ".join(_NOT_IN_TAGS.sub(" ", text).split())[:TAG_VALUE_CHARS].strip()
