"""The status API's answer to what became of uploads."""

from __future__ import annotations

from datetime import date
from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.codec import instant_text
from shared.function.paging import Asked, page
from shared.function.status_api import Answer
from shared.state.history import history_document
from shared.state.recalling import Wanted, recalled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.function.cloud import Cloud
    from shared.state.document import Document
    from shared.state.history import HistoryEntry

PARAMETERS = ("since", "until", "host", "name", "kind", "limit", "after")


async def history(cloud: Cloud, query: Mapping[str, str | None]) -> Answer:
    """A page of the entries that are asked for, newest first.

    Args:
        cloud: What is read.
        query: `since`, `until`, `host`, `name` and `kind` as for `Wanted.of`; `limit` and `after` as for the uploads.
    """
    now = cloud.now()
    asked, wanted = Asked.of(query.get("limit"), query.get("after")), Wanted.of(query, now=now)
    if isinstance(asked, str):
        return _refused(asked)
    if isinstance(wanted, str):
        return _refused(wanted)
    if asked.after is not None and not _is_day(asked.after[0]):
        return _refused("after must be the next of the page before")
    is_wanted = wanted.test()

    def described(entry: HistoryEntry) -> Document | None:
        return history_document(entry) if is_wanted(entry) else None

    entries = recalled(cloud.state, wanted, after=asked.after, page=asked.rows)
    found, then = await page(entries, described, lambda entry: entry.place, limit=asked.limit)
    return Answer(status=HTTPStatus.OK, document={"as_of": instant_text(now), "entries": found, "next": then})


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _refused(reason: str) -> Answer:
    return Answer(status=HTTPStatus.BAD_REQUEST, document={"error": reason})
