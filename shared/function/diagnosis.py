"""What the status API answers about the Function itself: to anybody which part fails, with a key why and what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from shared import VERSION
from shared.codec import instant_text
from shared.function.status_api import Answer
from shared.state.findings import Checked, Seen, document_of, finding_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.errors import CertcastError
    from shared.function.cloud import Cloud

SETTINGS = "settings"
"""The part that fails where a setting keeps the rest from being opened."""


async def health(cloud: Cloud) -> Answer:
    """Whether the Function can do its work."""
    return health_of(await cloud.health.failing())


def health_of(failing: Sequence[str]) -> Answer:
    """The answer that anybody gets: the names of the parts that fail, and nothing about them."""
    if not failing:
        return Answer(status=HTTPStatus.OK, document={"status": "ok"})
    document = {"status": "failing", "parts": dict.fromkeys(failing, "failing")}
    return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, document=document)


async def diagnosis(cloud: Cloud) -> Answer:
    """What is wrong and what to do about it, for those who have a function key."""
    return _diagnosed(await cloud.health.diagnosis(), cloud.now())


def not_opened(error: CertcastError, now: datetime) -> Answer:
    """The same where a setting keeps everything from being opened, so that nothing else could be looked at."""
    return _diagnosed([Checked(name=SETTINGS, seen=Seen(findings=(finding_of(error, SETTINGS),)))], now)


def _diagnosed(checked: Sequence[Checked], now: datetime) -> Answer:
    return Answer(
        status=HTTPStatus.OK, document={"as_of": instant_text(now), "version": VERSION, **document_of(checked)}
    )
