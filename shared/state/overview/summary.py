"""How many uploads are served, and what keeps the others from it, in numbers and in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.phrasing import listed, shown
from shared.state.overview.attention import (
    BY_URGENCY,
    ENDS_SOON,
    ends_within,
    instant,
    is_silent,
    runs,
    waits_long,
)
from shared.state.presence import lasting
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from shared.state.document import Document

DRIFT_COUNTS_FOR = timedelta(days=1)
_UNWANTED = frozenset({UploadStatus.SCHEDULED, UploadStatus.SUPERSEDED, UploadStatus.REMOVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One look at all uploads and instances.

    Attributes:
        uploads: How many there are.
        wanted: Those of them that are to be served now: not the scheduled, superseded and removed ones.
        served: Those that are live on an instance.
        by_status: How many have each status.
        on: The least and the most instances that a served one is proved by.
        ending: Those that are served, or are to be, and end within 14 days.
        ended: Those that have ended.
        waiting: Those that have waited for more than a minute.
        drifted: Those of which something else than certcast was seen to have changed what is served, within a day.
        instances: How many instances are registered.
        running: How many of them run.
        silent, troubled, failing: The ids of instances that are silent; whose web server cannot be used; that run and
            do not serve all that they should. One may be both of the last two.
        starting: Those of others that run and are not through yet with what they are to serve.
        silent_for: For how long the silent ones have been so at least: "2 min".
    """

    uploads: int
    wanted: int
    served: int
    by_status: Mapping[str, int]
    on: tuple[int, int]
    ending: int
    ended: int
    waiting: int
    drifted: int
    instances: int
    running: int
    silent: tuple[str, ...]
    troubled: tuple[str, ...]
    failing: tuple[str, ...]
    starting: tuple[str, ...]
    silent_for: str

    @classmethod
    def of(cls, uploads: Sequence[Document], instances: Sequence[Document], *, now: datetime) -> Summary:
        """Count entries of the status document, as of a moment."""
        by_status = Counter(str(upload["status"]) for upload in uploads)
        served = [upload["live"] for upload in uploads if upload["status"] == UploadStatus.LIVE and upload["live"]]
        ended = sum(ends_within(upload, timedelta(), now=now) for upload in uploads)
        running = [each for each in instances if runs(each)]
        silent = [each for each in instances if is_silent(each)]
        seen = [at for each in silent if (at := instant(each["last_seen"])) is not None]
        return cls(
            uploads=len(uploads),
            wanted=len(uploads) - sum(by_status[status] for status in _UNWANTED),
            served=len(served),
            by_status=dict(by_status),
            on=(min(served, default=0), max(served, default=0)),
            ending=sum(ends_within(upload, ENDS_SOON, now=now) for upload in uploads) - ended,
            ended=ended,
            waiting=sum(waits_long(upload, now=now) for upload in uploads),
            drifted=sum(_has_drifted(upload, now) for upload in uploads),
            instances=len(instances),
            running=len(running),
            silent=_ids(silent),
            troubled=_ids([each for each in running if each.get("trouble")]),
            failing=_ids([each for each in running if each["failing"]]),
            starting=_ids([each for each in running if _is_starting(each)]),
            silent_for=lasting(now - max(seen)) if seen else "",
        )

    @property
    def all_served(self) -> bool:
        """Whether every upload that is to be served is live on the instances it counts, and none of them has ended."""
        return self.served == self.wanted and not self.ended

    @property
    def line(self) -> str:
        """What needs saying: "497 of 500 live on 12/12; 2 rejected, 1 partially live; 3 end within 14 days"."""
        return "; ".join([self._served(), *self._clauses()])

    @property
    def document(self) -> Document:
        """As JSON, as it is written."""
        names: dict[str, Any] = {key: list(getattr(self, key)) for key in ("silent", "troubled", "failing", "starting")}
        counts = ("uploads", "wanted", "served", "by_status", "ending", "ended", "waiting", "drifted")
        first = {"line": self.line, "all_served": self.all_served} | {key: getattr(self, key) for key in counts}
        return first | {"instances": self.instances, "running": self.running} | names

    def _served(self) -> str:
        if not self.uploads:
            return "no uploads"
        if not self.wanted:
            return "nothing to be served now"
        least, most = self.on
        on = "" if not most else f" on {most}/{most}" if least == most else f" on {least}/{least} to {most}/{most}"
        return f"{self.served} of {self.wanted} live{on}"

    def _clauses(self) -> Iterator[str]:
        known = [status.value for status in BY_URGENCY if status is not UploadStatus.LIVE]
        newer = sorted(self.by_status.keys() - {status.value for status in BY_URGENCY})
        counts = [(self.by_status.get(word, 0), shown(word).replace("_", " ")) for word in (*known, *newer)]
        stranded = self.by_status.get(UploadStatus.LIVE, 0) - self.served
        counts.insert(0, (stranded, "live on no instance that runs"))
        if said := ", ".join(f"{count} {words}" for count, words in counts if count):
            yield said
        for count, one, many in (
            (self.ended, "has ended", "have ended"),
            (self.ending, f"ends within {ENDS_SOON.days} days", f"end within {ENDS_SOON.days} days"),
            (self.waiting, "has waited for more than a minute", "have waited for more than a minute"),
            (self.drifted, "was changed by something else within a day", "were changed by something else within a day"),
        ):
            if count:
                yield f"{count} {one if count == 1 else many}"
        yield from self._of_instances()

    def _of_instances(self) -> Iterator[str]:
        if not self.running:
            yield "no instance runs" if self.instances else "no instance is registered"
        if self.silent:
            least = "" if len(self.silent) == 1 else " or longer"
            yield f"{_named(self.silent)} silent{f' for {self.silent_for}{least}' if self.silent_for else ''}"
        if self.troubled:
            yield f"{_named(self.troubled)} in trouble"
        if self.failing:
            yield f"{_named(self.failing)} failing"
        if self.starting:
            yield f"{_named(self.starting)} not ready yet"


def _is_starting(instance: Document) -> bool:
    return not (instance.get("ready", True) or instance.get("trouble") or instance["failing"])


def _has_drifted(upload: Document, now: datetime) -> bool:
    at = instant(upload.get("drifted_at"))
    return at is not None and now - at < DRIFT_COUNTS_FOR


def _ids(instances: Sequence[Document]) -> tuple[str, ...]:
    return tuple(str(each["id"]) for each in instances)


def _named(names: Sequence[str]) -> str:
    return f"instance{'s' * (len(names) > 1)} {listed([shown(name) for name in names])}"
