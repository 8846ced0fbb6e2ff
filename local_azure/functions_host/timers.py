"""Timer triggers: each function runs at the times of its schedule, one run at a time, and in UTC.

A run that fell due while the host was down is not made up for: the cloud's host keeps the last run in storage, this one
keeps nothing. https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from azure.functions.meta import Datum

if TYPE_CHECKING:
    from local_azure.functions_host.calls import Invoker
    from local_azure.functions_host.index import Function
    from local_azure.functions_host.ncrontab import Schedule

_LONGEST_SLEEP_S = 3600.0


class TimerListener:
    """Runs one function on its schedule."""

    def __init__(self, function: Function, schedule: Schedule, invoker: Invoker) -> None:
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
        while (due := self._schedule.next_after(datetime.now(UTC))) is not None:
            # In steps, so that a clock that was set, or a machine that slept, is noticed.
            while (wait_s := (due - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110 - it waits for a clock
                await asyncio.sleep(min(wait_s, _LONGEST_SLEEP_S))
            await self._invoke()

    async def _invoke(self) -> None:
        began = datetime.now(UTC)
        await self._invoker.invoke(self._function, timer_datum(self._schedule, last=self._last, now=began))
        self._last = began


def timer_datum(schedule: Schedule | None, *, last: datetime | None, now: datetime) -> Datum:
    """A timer trigger's value as the host hands it over; without a schedule for a run that was asked for by hand."""
    following = schedule.next_after(now) if schedule else None
    status = {
        "Last": (last or datetime.min.replace(tzinfo=UTC)).isoformat(),
        "Next": following.isoformat() if following else "",
        "LastUpdated": (last or datetime.min.replace(tzinfo=UTC)).isoformat(),
    }
    info = {"IsPastDue": False, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": status}
    return Datum(json.dumps(info), "json")
