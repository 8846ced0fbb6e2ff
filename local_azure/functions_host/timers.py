"""Timer triggers: each function runs at the times of its schedule, one run at a time, and in UTC.

A run that fell due while the host was down is not made up for: the cloud's host keeps the last run in storage, this one
keeps nothing. https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from azure.functions.meta import Datum
from croniter import CroniterBadDateError, croniter

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_azure.functions_host.calls import Invoker
    from local_azure.functions_host.index import Function

_LONGEST_SLEEP_S = 3600.0

_FIELDS = ("second", "minute", "hour", "day", "month", "day of week")
# NCRONTAB's, since croniter takes more: L, W, #, ? and R, 7 for Sunday, and ranges that end before they begin.
_ITEM = r"(?:\*|(?:\d+|[A-Za-z]{3,})(?:-(?:\d+|[A-Za-z]{3,}))?)(?:/\d+)?"
_LIST = re.compile(rf"{_ITEM}(?:,{_ITEM})*")
_RANGE = re.compile(r"(\d+)-(\d+)")
_SEVENTH_DAY = re.compile(r"(?<!/)7")
_FULL_NAME = re.compile(r"([A-Za-z]{3})[A-Za-z]+")


class TimerListener:
    """Runs one function on its schedule.

    Args:
        function: Which one.
        schedule: From `parse_schedule`.
        invoker: Calls it.
    """

    def __init__(self, function: Function, schedule: str, invoker: Invoker) -> None:
        self._function = function
        self._schedule = schedule
        self._invoker = invoker
        self._task: asyncio.Task[None] | None = None
        self._last: datetime | None = None

    def start(self) -> None:
        """Begin to wait for the next occurrence; a function with `run_on_startup` runs at once."""
        self._task = asyncio.create_task(self._run(), name=f"timer of {self._function.name}")

    async def stop(self) -> None:
        """Wait for no further occurrence; a run that is under way is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        if self._function.trigger.get("runOnStartup"):
            await self._invoke()
        while (due := next_after(self._schedule, datetime.now(UTC))) is not None:
            # In steps, so that a clock that was set, or a machine that slept, is noticed.
            while (wait_s := (due - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110 - it waits for a clock
                await asyncio.sleep(min(wait_s, _LONGEST_SLEEP_S))
            await self._invoke()

    async def _invoke(self) -> None:
        began = datetime.now(UTC)
        await self._invoker.invoke(self._function, timer_datum(self._schedule, last=self._last, now=began))
        self._last = began


def timer_datum(schedule: str | None, *, last: datetime | None, now: datetime) -> Datum:
    """A timer trigger's value as the host hands it over; without a schedule where the run was asked for by hand."""
    following = next_after(schedule, now) if schedule else None
    status = {
        "Last": (last or datetime.min.replace(tzinfo=UTC)).isoformat(),
        "Next": following.isoformat() if following else "",
        "LastUpdated": (last or datetime.min.replace(tzinfo=UTC)).isoformat(),
    }
    info = {"IsPastDue": False, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": status}
    return Datum(json.dumps(info), "json")


def parse_schedule(expression: str, purpose: str) -> str:
    """An NCRONTAB expression of six fields, or of five, which leave out the seconds, as `next_after` takes it.

    Args:
        expression: As it was written.
        purpose: Begins the text of an error.

    Raises:
        ConfigurationError: It is not one; the text says which field is wrong.
    """
    parts = _FULL_NAME.sub(r"\1", expression).split()
    if len(parts) == len(_FIELDS) - 1:
        parts.insert(0, "0")
    if trouble := _trouble(parts):
        raise ConfigurationError(
            f"{purpose}: the schedule {expression!r} has {trouble}, which is not NCRONTAB: write second, minute, hour,"
            " day, month and day of week, such as 0 */5 * * * *"
        )
    return " ".join(parts)


def _trouble(parts: Sequence[str]) -> str | None:
    if len(parts) != len(_FIELDS):
        return f"{len(parts)} fields"
    for number, (name, part) in enumerate(zip(_FIELDS, parts, strict=True)):
        alone = ["*"] * len(_FIELDS)
        alone[number] = part
        if (
            not _LIST.fullmatch(part)
            or any(int(low) > int(high) for low, high in _RANGE.findall(part))
            or (name == "day of week" and _SEVENTH_DAY.search(part))
            or not croniter.is_valid(" ".join(alone), second_at_beginning=True)
        ):
            return f"{part!r} as its {name}"
    return None


def next_after(schedule: str, moment: datetime) -> datetime | None:
    """The first occurrence later than a moment, in that moment's time zone; None when there is none."""
    try:
        # As in NCRONTAB, a day must be allowed both by its number and by its weekday.
        return croniter(schedule, moment, second_at_beginning=True, day_or=False).get_next(datetime)
    except CroniterBadDateError:
        return None
