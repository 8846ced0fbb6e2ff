"""Which registered instances run, were stopped, or went silent: by the service's clock, as of one moment."""

from __future__ import annotations

from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.state.records import SILENT_AFTER, InstanceRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.state.rows import Versioned

    Instances = Mapping[str, Versioned[InstanceRecord]]

_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))


class Presence(StrEnum):
    """Whether an agent is there, as its row tells."""

    RUNNING = "running"
    STOPPED = "stopped"
    SILENT = "silent"


def presence_of(known: Versioned[InstanceRecord], now: datetime) -> Presence:
    """Whether an instance runs, was stopped on purpose, or has missed three heartbeats."""
    if known.value.stopped:
        return Presence.STOPPED
    return Presence.RUNNING if now - known.written_at < SILENT_AFTER else Presence.SILENT


def presence_text(known: Versioned[InstanceRecord], now: datetime) -> str:
    """The same with its time: "silent since 14:03:10 UTC", "stopped 3 min ago", "last seen 40 s ago"."""
    match presence_of(known, now):
        case Presence.STOPPED:
            return f"stopped {ago(known.written_at, now)}"
        case Presence.SILENT:
            return f"silent since {since(known.written_at, now)}"
        case Presence.RUNNING:
            return f"last seen {ago(known.written_at, now)}"


def ago(instant: datetime, now: datetime) -> str:
    """How long before `now` an instant was, in one unit: "3 s ago"."""
    return f"{lasting(now - instant)} ago"


def lasting(length: timedelta) -> str:
    """A length of time in one unit, as much of it as is over: "3 s", "2 min"; nothing for what has not begun."""
    passed = max(timedelta(), length)
    for unit, size in _UNITS:
        if passed >= size:
            return f"{passed // size} {unit}"
    return f"{int(passed.total_seconds())} s"


def since(instant: datetime, now: datetime) -> str:
    """An instant as the time of its day, with its day where that is another than now's."""
    at = instant.astimezone(UTC)
    day = "" if at.date() == now.astimezone(UTC).date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S} UTC"
