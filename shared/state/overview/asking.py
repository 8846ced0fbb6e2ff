"""Choosing among uploads by what somebody asks for, over their entries in the status document."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.binding import ANY_ROLE
from shared.hostnames import covers, normalise_host
from shared.state.document import Document
from shared.state.overview.attention import BY_URGENCY, ends_within, has_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_URGENCY = {status.value: place for place, status in enumerate(BY_URGENCY)}

_LENGTH = re.compile(r"([0-9]{1,5})(d|h|m|s)\Z")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
_COUNT = re.compile(r"[0-9]{1,6}\Z")
_MAX_CHARS = 1_100
"""Of a text that is asked for; names of uploads have 1,024 at most."""


def length_of(text: str) -> timedelta | None:
    """A length of time such as `14d`, `12h`, `30m` or `45s`; None for anything else."""
    found = _LENGTH.match(text)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which uploads are asked for, and in what order; what is empty or None leaves all of them.

    Attributes:
        host: A host, for which a wildcard that covers it counts too; `.example.com` for all below it; a part of hosts
            where it has no dot.
        instance: An instance's id: what concerns it by its role; with `failed`, what it has not proved or serves no
            more.
        prefix: What names begin with.
        statuses: Words of `UploadStatus`, or of a newer version.
        failed: Those that are rejected, failed, partially live, or live on no instance.
        expiring: Those that are served, or are to be, and end within so long or have ended.
        sort: One of `SORTS`; what an upload has no value for comes last.
        descending: The other way round.
        limit: Entries at most.
        offset: Entries that are left out before these.
    """

    host: str | None = None
    instance: str | None = None
    prefix: str | None = None
    statuses: frozenset[str] = frozenset()
    failed: bool = False
    expiring: timedelta | None = None
    sort: str = "name"
    descending: bool = False
    limit: int | None = None
    offset: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked | str:
        """Read a query: `host`, `instance`, `prefix`, `status` (several with commas), `failed=true`, `expiring=14d`.

        `sort` is one of `SORTS`, with `-` before it for descending; `limit` and `offset` are whole numbers. Empty
        values are left out, as a form sends them, and other keys are not looked at.

        Returns:
            A sentence where something is wrong.
        """
        text = {key: value.strip() for key, value in query.items() if value.strip()}
        for key, (is_right, what) in _RIGHT.items():
            if key in text and not is_right(text[key]):
                return f"{key} must be {what}"
        order = text.get("sort", "name")
        return cls(
            host=text.get("host"),
            instance=text.get("instance"),
            prefix=text.get("prefix"),
            statuses=frozenset(word for word in re.split(r"[,\s]+", text.get("status", "")) if word),
            failed=text.get("failed") == "true",
            expiring=length_of(text.get("expiring", "")),
            sort=order.removeprefix("-"),
            descending=order.startswith("-"),
            limit=int(text["limit"]) if "limit" in text else None,
            offset=int(text.get("offset", 0)),
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether some uploads may be left out by what they are, and not by where they stand."""
        return replace(self, sort="name", descending=False, limit=None, offset=0) != Asked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The uploads that were asked for.

    Attributes:
        total: How many there are.
        shown: Those of them from `offset` on, `limit` at most.
    """

    total: int
    shown: list[Document]


def chosen(uploads: Sequence[Document], asked: Asked, *, now: datetime, instances: Sequence[Document]) -> Chosen:
    """Choose and sort.

    Args:
        uploads: Entries of the status document.
        asked: Which, and how.
        now: The time, by which certificates end.
        instances: The registered ones' entries, which tell an instance's role.
    """
    tests = list(_tests(asked, now, instances))
    found = [upload for upload in uploads if all(test(upload) for test in tests)] if tests else list(uploads)
    found.sort(key=lambda upload: str(upload["name"]))
    if (asked.sort, asked.descending) != ("name", False):
        found = _sorted(found, SORTS[asked.sort], descending=asked.descending)
    end = None if asked.limit is None else asked.offset + asked.limit
    return Chosen(total=len(found), shown=found[asked.offset : end])


def _tests(asked: Asked, now: datetime, instances: Sequence[Document]) -> Iterator[Callable[[Document], bool]]:
    if asked.statuses:
        yield lambda upload: upload["status"] in asked.statuses
    if (prefix := asked.prefix) is not None:
        yield lambda upload: str(upload["name"]).startswith(prefix)
    if asked.host is not None:
        yield on_host(asked.host)
    if asked.instance is not None:
        yield _missing_on(asked.instance) if asked.failed else _concerning(asked.instance, instances)
    elif asked.failed:
        yield has_failed
    if (within := asked.expiring) is not None:
        yield lambda upload: ends_within(upload, within, now=now)


def on_host(asked: str) -> Callable[[Mapping[str, Any]], bool]:
    """What tells whether something with `hosts` has this one, as `Asked.host` is read."""
    try:
        host = normalise_host(asked)
    except ValueError:
        host = asked.lower()
    if host.startswith("."):
        return lambda upload: any(each.endswith(host) for each in upload["hosts"] or ())
    if "." not in host:
        return lambda upload: any(host in each for each in upload["hosts"] or ())
    return lambda upload: any(covers(each, host) for each in upload["hosts"] or ())


def _missing_on(instance: str) -> Callable[[Document], bool]:
    def is_missing(upload: Document) -> bool:
        missing = upload.get("missing")  # None from a Function of an older version, whose reasons name the first three
        return bool(instance in str(upload.get("reason")) if missing is None else instance in missing)

    return is_missing


def _concerning(instance: str, instances: Sequence[Document]) -> Callable[[Document], bool]:
    roles = {ANY_ROLE, *(each["role"] for each in instances if each["id"] == instance)}
    is_known = len(roles) > 1 or any(each["id"] == instance for each in instances)
    missing = _missing_on(instance)
    return lambda upload: missing(upload) or (is_known and upload.get("role", ANY_ROLE) in roles)


def _part_served(upload: Document) -> float | None:
    return upload["live"] / upload["expected"] if upload["expected"] else None


def _changed(upload: Document) -> str | None:
    times = [upload.get(key) for key in ("uploaded_at", "live_at", "drifted_at")]
    return max((time for time in times if time), default=None)


SORTS: Mapping[str, Callable[[Document], Any]] = {
    "name": lambda upload: str(upload["name"]),
    "status": lambda upload: _URGENCY.get(upload["status"], -1),
    "host": lambda upload: min(upload["hosts"] or (), default=None),
    "live": _part_served,
    "expiry": lambda upload: upload.get("not_after"),
    "time": lambda upload: upload.get("seconds_to_live"),
    "changed": _changed,
}
"""What uploads are sorted by: of `status` the most urgent first, of `live` the part that serves it, of `time` the
seconds to live, of `changed` when it was last uploaded, proved or changed by something else."""


def _is_short(text: str) -> bool:
    return len(text) <= _MAX_CHARS


_SHORT = (_is_short, f"a text of {_MAX_CHARS} characters at most")
_RIGHT: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "host": _SHORT,
    "instance": _SHORT,
    "prefix": _SHORT,
    "status": _SHORT,
    "failed": (lambda text: text in {"true", "false"}, "true or false"),
    "expiring": (lambda text: length_of(text) is not None, "a length of time such as 14d, 12h or 30m"),
    "sort": (lambda text: text.removeprefix("-") in SORTS, f"one of {', '.join(SORTS)}, or that with - before it"),
    "limit": (lambda text: bool(_COUNT.match(text)) and int(text) > 0, "a whole number from 1 to 999999"),
    "offset": (lambda text: bool(_COUNT.match(text)), "a whole number from 0 to 999999"),
}


def _sorted(uploads: Iterable[Document], key: Callable[[Document], Any], *, descending: bool) -> list[Document]:
    valued = [(value, upload) for upload in uploads if (value := key(upload)) is not None]
    without = [upload for upload in uploads if key(upload) is None]
    valued.sort(key=lambda each: each[0], reverse=descending)
    return [upload for _, upload in valued] + without
