"""What the pages show of entries of the status document: words, tones and numbers, ready for the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.binding import phrased
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import shown
from shared.state.overview import instance_needs_somebody
from shared.state.overview.attention import ENDS_SOON
from shared.state.presence import ago
from shared.state.reasons import KEPT

if TYPE_CHECKING:
    from shared.state.document import Document

REASON_CHARS = 220
"""Of a reason, in the table; the upload's own page shows all of it."""
LISTED_HOSTS = 3
"""Of one upload, in the table."""

_TONES = {
    "live": "good",
    "removed": "idle",
    "superseded": "idle",
    "scheduled": "idle",
    "rejected": "bad",
    "failed": "bad",
    "probe_mismatch": "bad",
    "refused": "bad",
    "expiring": "warn",
    "partially_live": "warn",
    "waiting_for_metadata": "warn",
    "drift_repaired": "warn",
    "installed": "good",
    "uploaded": "idle",
    "noticed": "idle",
    "judged": "idle",
    "told": "idle",
}
_INSTALLED = frozenset({"accepted", "live", "partially_live", "failed"})
"""Of an upload that stands so there is something to install again."""
_DAY = timedelta(days=1)
_LONG_S = 120
"""Seconds that are rather told as minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When a certificate ends.

    Attributes:
        at: As ISO 8601.
        left: Until then; negative where it has passed.
    """

    at: str
    left: timedelta

    @property
    def text(self) -> str:
        """In words."""
        if self.left < timedelta():
            return "ended"
        days = self.left // _DAY
        return f"{self.left // timedelta(hours=1)} h" if not days else "1 day" if days == 1 else f"{days:,} days"

    @property
    def tone(self) -> str:
        """How that is."""
        return "bad" if self.left < timedelta() else "warn" if self.left <= ENDS_SOON else "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upload in the table.

    Attributes:
        name: Its name, as it is.
        status: The word.
        hosts: The first hosts, with ports where these are unusual.
        more_hosts: How many more there are.
        live, expected: Instances.
        ending: When its certificate ends; None where it has none.
        took: From upload to live everywhere, in words; empty where it is not.
        reason: Why it is where it is.
        cautions: How many warnings there are.
    """

    name: str
    status: str
    hosts: Sequence[str]
    more_hosts: int
    live: int
    expected: int
    ending: Ending | None
    took: str
    reason: str
    cautions: int


def row_of(upload: Document, now: datetime) -> Row:
    """An upload's row."""
    hosts = hosts_of(upload)
    return Row(
        name=upload["name"],
        status=upload["status"],
        hosts=hosts[:LISTED_HOSTS],
        more_hosts=max(0, len(hosts) - LISTED_HOSTS),
        live=upload["live"],
        expected=upload["expected"],
        ending=ending_of(upload, now),
        took=took(upload["seconds_to_live"]),
        reason=shown(reason_of(upload), REASON_CHARS),
        cautions=len(upload["warnings"]),
    )


def words(word: str) -> str:
    """A word of ours as people read it: without underscores."""
    return word.replace("_", " ")


def tone_of(word: str) -> str:
    """How it is with an upload of that status, a report of that outcome, or an entry of that kind."""
    return _TONES.get(word, "busy")


def hosts_of(upload: Document) -> list[str]:
    """What it is served for; the port is named where it is not 443."""
    named = [host if upload["port"] == 443 else phrased(host, upload["port"]) for host in upload["hosts"]]  # noqa: PLR2004
    return [*named, phrased(DEFAULT_HOST, upload["port"])] if upload["default"] else named


def ending_of(upload: Document, now: datetime) -> Ending | None:
    """When its certificate ends."""
    end = upload["not_after"]
    return None if end is None else Ending(at=end, left=datetime.fromisoformat(end) - now)


def took(seconds: float | None) -> str:
    """How long something took: "1.2 s", "3 min", "2 h"."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _LONG_S else span(seconds)


def span(seconds: float) -> str:
    """A length of time in one unit: "3 min"."""
    start = datetime.min.replace(tzinfo=UTC)
    return ago(start, start + timedelta(seconds=seconds)).removesuffix(" ago")


def reason_of(upload: Document) -> str:
    """Why an upload is where it is: its violations, or what the instances reported; of a bad renewal, both."""
    violations = "; ".join(violation["detail"] for violation in upload["violations"])
    waiting = upload["waiting_for"]
    if upload["reason"] and upload["status"] in KEPT:
        return "; ".join(filter(None, [violations, upload["reason"]]))
    said: str = upload["reason"] or violations
    return said or (f"waits for {waiting['what']}" if waiting else "")


def state_of(instance: Document) -> tuple[str, str]:
    """How an instance is, in a word, and that word's tone."""
    if instance["stopped"]:
        return "stopped", "idle"
    if not instance["alive"]:
        return "silent", "bad"
    if instance["trouble"]:
        return "trouble", "bad"
    return ("ready", "good") if instance["ready"] else ("starting", "busy")


def by_need(instances: Sequence[Document]) -> list[Document]:
    """The instances, those first that need somebody."""
    return sorted(instances, key=lambda each: (not instance_needs_somebody(each), each["id"]))


def worst_first(installations: Sequence[Document]) -> list[Document]:
    """Reports, those first of what is not served; then by instance and host."""
    fine = {"live", "removed"}
    return sorted(installations, key=lambda each: (each["outcome"] in fine, each["instance"], each["host"]))


def by_code(findings: Sequence[Document]) -> Mapping[str, list[str]]:
    """What was found, by its code, in the order in which it was told: many of one code need one cure."""
    found: dict[str, list[str]] = {}
    for each in findings:
        found.setdefault(each["code"], []).append(each["detail"])
    return found


def can_redeploy(upload: Document) -> bool:
    """Whether there is something of it to install once more."""
    return upload["status"] in _INSTALLED
