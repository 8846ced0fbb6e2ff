"""The status API's answers, as plain values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bounded import gather_bounded
from shared.errors import CertcastError
from shared.function.redeploy import redeploy
from shared.state.document import installation_document, is_gone, status_document, upload_document
from shared.upload import MAX_NAME_CHARS

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.state.records import UploadRecord

_HEALTH_ROW = "healthz"
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


async def certificates(cloud: Cloud, *, removed: str | None = None) -> Answer:
    """Every upload; removed ones only while an instance still serves them, unless asked for.

    Args:
        cloud: What is read.
        removed: The query's `removed`: `true` or `false`, the default.
    """
    if removed not in {None, "true", "false"}:
        return Answer(status=HTTPStatus.BAD_REQUEST, document={"error": "removed must be true or false"})
    records = [known.value async for known in cloud.state.uploads.all()]
    document = status_document(records, [], now=cloud.now(), removed=removed == "true")
    return Answer(status=HTTPStatus.OK, document={"uploads": document["uploads"]})


async def certificate(cloud: Cloud, name: str) -> Answer:
    """One upload with what every instance reported about its bindings."""
    record = await _named(cloud, name)
    if record is None:
        return _unknown(name)
    reports = await gather_bounded(cloud.state.reports_on(key.host, key.port) for key in record.claims)
    installations = [installation_document(report) for found in reports for report in found]
    return Answer(status=HTTPStatus.OK, document=upload_document(record) | {"installations": installations})


async def instances(cloud: Cloud) -> Answer:
    """Every registered instance."""
    found = [known async for known in cloud.state.instances.all()]
    document = status_document([], found, now=cloud.now())
    return Answer(status=HTTPStatus.OK, document={"instances": document["instances"]})


async def redeploy_certificate(cloud: Cloud, name: str) -> Answer:
    """Install an upload once more everywhere."""
    record = await _named(cloud, name)
    if record is None or is_gone(record):
        return _unknown(name)
    keys = await redeploy(cloud, record.name)
    if not keys:
        reason = (
            f"upload {record.name} is {record.status.value} and serves no host, so there is nothing to install again"
        )
        return Answer(status=HTTPStatus.CONFLICT, document={"error": reason})
    bindings = [key.host_port for key in keys]
    return Answer(status=HTTPStatus.ACCEPTED, document={"name": record.name, "bindings": bindings})


async def health(cloud: Cloud) -> Answer:
    """Whether the Function can do its work: read its settings and reach its tables."""
    try:
        await cloud.state.uploads.get(_HEALTH_ROW)
    except CertcastError as error:
        return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, document={"status": "failing", "reason": str(error)})
    return Answer(status=HTTPStatus.OK, document={"status": "ok"})


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


def _unknown(name: str) -> Answer:
    return Answer(status=HTTPStatus.NOT_FOUND, document={"error": f"there is no upload named {name}"})
