"""NCRONTAB expressions, as timer triggers use them: parsing, and when the next occurrence is. No clock is read here.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS_WITH_SECONDS = 6
_FIELDS_WITHOUT_SECONDS = 5
_LONGEST_GAP_DAYS = 366 * 8 + 1  # 29 February skips a century's year, such as 2100


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()
    """Names of the values, beginning with the first one; full names are known by their first three letters."""


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A parsed expression: the values each field allows. All fields must match, both kinds of day included."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence later than a moment, in that moment's time zone; None when there is none."""
        start = moment.replace(microsecond=0) + timedelta(seconds=1)
        day, earliest = start.date(), start.time()
        for _ in range(_LONGEST_GAP_DAYS):
            if day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays:
                found = self._time_from(earliest)
                if found is not None:
                    return datetime.combine(day, found, tzinfo=moment.tzinfo)
            day += timedelta(days=1)
            earliest = time.min
        return None

    def _time_from(self, earliest: time) -> time | None:
        for hour in self.hours:
            for minute in self.minutes:
                if (hour, minute) < (earliest.hour, earliest.minute):
                    continue
                for second in self.seconds:
                    if (hour, minute, second) >= (earliest.hour, earliest.minute, earliest.second):
                        return time(hour, minute, second)
        return None


def parse(expression: str) -> Schedule:
    """Parse an expression of six fields, or of five, which leave out the seconds.

    Raises:
        ValueError: It is not one; the text says which field and why.
    """
    parts = expression.split()
    if len(parts) == _FIELDS_WITHOUT_SECONDS:
        parts.insert(0, "0")
    if len(parts) != _FIELDS_WITH_SECONDS:
        raise ValueError(
            f"{expression!r} has {len(parts)} fields; an NCRONTAB expression has six:"
            " second, minute, hour, day, month, day of week"
        )
    values = [_values(part, field) for part, field in zip(parts, _FIELDS, strict=True)]
    return Schedule(
        seconds=values[0], minutes=values[1], hours=values[2], days=values[3], months=values[4], weekdays=values[5]
    )


def _values(text: str, field: _Field) -> tuple[int, ...]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        if slash and (not step_text.isdecimal() or int(step_text) == 0):
            raise ValueError(f"the {field.name} field {text!r} has a step that is not a positive number")
        step = int(step_text) if slash else 1
        if span == "*":
            first, last = field.first, field.last
        else:
            low, dash, high = span.partition("-")
            first = _value(low, field, text)
            # A start with a step and no end runs to the end: 5/15 is 5, 20, 35, 50.
            last = _value(high, field, text) if dash else (field.last if slash else first)
        if first > last:
            raise ValueError(f"the {field.name} field {text!r} has a range that ends before it begins")
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def _value(word: str, field: _Field, text: str) -> int:
    if word.isdecimal() and field.first <= int(word) <= field.last:
        return int(word)
    names = [name for name in field.words if word[:3].lower() == name]
    if names and word.isalpha():
        return field.first + field.words.index(names[0])
    raise ValueError(f"the {field.name} field {text!r} has {word!r}, which is not from {field.first} to {field.last}")
