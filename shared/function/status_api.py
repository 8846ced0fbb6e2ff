"""The status API's answers, as plain values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.codec import instant_text
from shared.function.fanout import read_fleet
from shared.function.paging import MAX_LIMIT, MAX_ROWS_READ, Asked, page
from shared.function.redeploy import redeploy
from shared.state.document import installation_document, instance_document, is_gone, is_listed, upload_document
from shared.state.keys import installation_key, installation_partition, instance_key, upload_key
from shared.state.missing import Roll
from shared.state.reasons import depends_on_others, nothing_to_redeploy
from shared.state.recalling import past_of
from shared.state.telling import with_reasons
from shared.state.timeline import moment_document, timeline
from shared.upload import MAX_NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from shared.function.cloud import Cloud
    from shared.state.document import Document
    from shared.state.records import InstallationRecord, UploadRecord
    from shared.state.rows import Versioned

_WRITTEN_SLASH = re.compile("%2f", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: HTTP status code.
        document: JSON body.
    """

    status: int
    document: dict[str, Any]


async def certificates(
    cloud: Cloud, *, removed: str | None = None, limit: str | None = None, after: str | None = None
) -> Answer:
    """A page of the uploads; removed ones only while an instance still serves them, unless asked for.

    Args:
        cloud: What is read.
        removed: The query's `removed`: `true` or `false`, the default.
        limit: The query's `limit`: how many to answer at most.
        after: The query's `after`: the `next` of the page before.
    """
    if removed not in {None, "true", "false"}:
        return _refused("removed must be true or false")
    asked = Asked.of(limit, after)
    if isinstance(asked, str):
        return _refused(asked)

    dependent: dict[str, UploadRecord] = {}
    known_instances, now = (await read_fleet(cloud)).known, cloud.now()
    roll = Roll(known_instances, now)

    def described(known: Versioned[UploadRecord]) -> Document | None:
        record = roll.as_seen(known.value)
        if removed != "true" and not is_listed(record):
            return None
        if depends_on_others(known.value):
            dependent[known.value.name] = known.value
        return upload_document(record)

    rows = cloud.state.uploads.all(after=asked.after, page=asked.rows)
    found, then = await page(rows, described, lambda known: upload_key(known.value.name), limit=asked.limit)
    records = await with_reasons(
        cloud.state, [*dependent.values()], now, instances=known_instances, most_rows=MAX_ROWS_READ
    )
    told = {record.name: upload_document(record) for record in records}
    uploads = [told.get(document["name"], document) for document in found]
    return Answer(status=HTTPStatus.OK, document={"as_of": instant_text(now), "uploads": uploads, "next": then})


async def certificate(cloud: Cloud, name: str) -> Answer:
    """One upload with what every instance reported about its bindings, and its way in time."""
    record = await _named(cloud, name)
    if record is None:
        return _unknown(name)
    reports: list[InstallationRecord] = []

    def described(known: Versioned[InstallationRecord]) -> Document:
        reports.append(known.value)
        return installation_document(known.value)

    installations, then = await page(
        _reports_on(cloud, record),
        described,
        lambda known: installation_key((known.value.host, known.value.port, known.value.instance)),
        limit=MAX_LIMIT,
    )
    moments = timeline(record, reports, await past_of(cloud.state, record, cloud.now()))
    more = {
        "installations": installations,
        "installations_complete": then is None,
        "timeline": [moment_document(moment) for moment in moments],
    }
    known = (await read_fleet(cloud)).known
    [record] = await with_reasons(cloud.state, [record], cloud.now(), instances=known, most_rows=MAX_ROWS_READ)
    return Answer(status=HTTPStatus.OK, document=upload_document(record) | more)


async def _reports_on(cloud: Cloud, record: UploadRecord) -> AsyncGenerator[Versioned[InstallationRecord], None]:
    for key in record.claims:
        async for known in cloud.state.installations.all(installation_partition(key.host, key.port)):
            yield known


async def instances(cloud: Cloud, *, limit: str | None = None, after: str | None = None) -> Answer:
    """A page of the registered instances; `limit` and `after` as for the uploads."""
    asked = Asked.of(limit, after)
    if isinstance(asked, str):
        return _refused(asked)
    now = cloud.now()
    rows = cloud.state.instances.all(after=asked.after, page=asked.rows)
    found, then = await page(
        rows,
        lambda known: instance_document(known, now=now),
        lambda known: instance_key(known.value.id),
        limit=asked.limit,
    )
    return Answer(status=HTTPStatus.OK, document={"as_of": instant_text(now), "instances": found, "next": then})


async def redeploy_certificate(cloud: Cloud, name: str) -> Answer:
    """Install an upload once more everywhere."""
    record = await _named(cloud, name)
    if record is None or is_gone(record):
        return _unknown(name)
    keys = await redeploy(cloud, record.name)
    if not keys:
        return Answer(status=HTTPStatus.CONFLICT, document={"error": nothing_to_redeploy(record)})
    bindings = [key.host_port for key in keys]
    return Answer(status=HTTPStatus.ACCEPTED, document={"name": record.name, "bindings": bindings})


@cache
def openapi() -> dict[str, Any]:
    """The description of this API."""
    document: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text(encoding="utf-8"))
    return document


async def _named(cloud: Cloud, name: str) -> UploadRecord | None:
    """The upload of a name from a path, in which the Functions host may have left slashes written as %2F.

    learn.microsoft.com, "Routing in ASP.NET Core", URL pattern matching: everything is decoded except %2F.
    """
    for candidate in dict.fromkeys((name, _WRITTEN_SLASH.sub("/", name))):
        if 0 < len(candidate) <= MAX_NAME_CHARS and (record := await cloud.state.uploads.get(candidate)) is not None:
            return record
    return None


def _refused(reason: str) -> Answer:
    return Answer(status=HTTPStatus.BAD_REQUEST, document={"error": reason})


def _unknown(name: str) -> Answer:
    return Answer(status=HTTPStatus.NOT_FOUND, document={"error": f"there is no upload named {name}"})
