"""What an uploader reads on the blob: the names of certcast's tags, and an upload's status in them, beside others'."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.state.records import UploadRecord

OUR_TAGS = "certcast_"
"""How the names of certcast's own tags begin."""
STATUS_TAG = "certcast_status"
LIVE_TAG = "certcast_live"
REASON_TAG = "certcast_reason"
VERSION_TAG = "certcast_version"
"""The ETag of the version that the other tags are about: content uploaded since may not have been looked at yet."""

MAX_TAGS = 10
TAG_VALUE_CHARS = 256
"""Of one blob; longest tag value (learn.microsoft.com, "Set Blob Tags")."""
_BY_NEED = (STATUS_TAG, VERSION_TAG, REASON_TAG, LIVE_TAG)
"""Which of ours go first where others leave too little room: a status, of what, and what to do about it."""
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9 +\-./:=_]+")


def status_tags(record: UploadRecord) -> dict[str, str]:
    """Put a status into the characters that tag values may have (learn.microsoft.com, "Set Blob Tags")."""
    tags = {STATUS_TAG: record.status.value, LIVE_TAG: f"{record.live}/{record.total}"}
    found = (*(() if record.reason else record.violations), *record.warnings)
    reason = "; ".join(filter(None, [record.reason, *(f"{each.code.value}: {each.detail}" for each in found)]))
    if record.source_etag:
        tags[VERSION_TAG] = _tag_value(record.source_etag)
    if reason:
        tags[REASON_TAG] = _tag_value(reason)
    return tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A blob's tags with certcast's among them.

    Attributes:
        tags: All that the blob is to have.
        left_out: Those of certcast's that there is no room for.
    """

    tags: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def merged(found: Mapping[str, str], ours: Mapping[str, str]) -> Merged:
    """Put certcast's tags among those that a blob has: others' stay as they are, certcast's earlier ones go.

    Args:
        found: The blob's tags.
        ours: What `status_tags` calls for.
    """
    others = {key: value for key, value in found.items() if not key.startswith(OUR_TAGS)}
    by_need = [key for key in _BY_NEED if key in ours]
    room = max(0, MAX_TAGS - len(others))
    return Merged(tags=others | {key: ours[key] for key in by_need[:room]}, left_out=tuple(by_need[room:]))


def tags_token(record: UploadRecord) -> str:
    """Name the tags that a status calls for, so that it is known which ones a blob was given."""
    return hashlib.sha256(json.dumps(status_tags(record)).encode()).hexdigest()[:16]


def untagged(before: UploadRecord, after: UploadRecord) -> UploadRecord:
    """An upload's changed row, which no tags tell of where its status calls for others than before."""
    return after if status_tags(before) == status_tags(after) else replace(after, tagged="")


def _tag_value(text: str) -> str:
    return " ".join(_NOT_IN_TAGS.sub(" ", text).split())[:TAG_VALUE_CHARS].strip()
