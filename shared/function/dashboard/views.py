"""What the pages show, as values: made of the status document's entries, ready for the templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from shared.binding import phrased
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import shown
from shared.state.reasons import KEPT
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from shared.state.document import Document

REASON_CHARS = 240
"""Of a reason, in the table; the upload's own page shows all of it."""
LISTED_HOSTS = 3

_TONES = {
    UploadStatus.LIVE: "good",
    UploadStatus.REJECTED: "bad",
    UploadStatus.FAILED: "bad",
    UploadStatus.PARTIALLY_LIVE: "warn",
    UploadStatus.WAITING_FOR_METADATA: "warn",
    UploadStatus.REMOVED: "idle",
    UploadStatus.SUPERSEDED: "idle",
}
_ENDS_SOON_DAYS = 14
_DAY_S = 86_400


class View(Protocol):
    """The whole installation as of one moment."""

    @property
    def as_of(self) -> datetime:
        """By the service's clock."""

    @property
    def uploads(self) -> Sequence[Document]:
        """As the status document has them."""

    @property
    def instances(self) -> Sequence[Document]:
        """Likewise."""

    @property
    def complete(self) -> bool:
        """Whether all rows were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When a certificate ends.

    Attributes:
        day: As ISO 8601.
        days: Whole days until then; negative where it has passed.
        tone: `good`, `warn` or `bad`.
    """

    day: str
    days: int
    tone: str

    @property
    def text(self) -> str:
        """In words."""
        if self.days < 0:
            return "ended"
        return "1 day" if self.days == 1 else f"{self.days} days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upload in the table.

    Attributes:
        name: Its name, as it is.
        status: The word.
        tone: How that is: `good`, `warn`, `bad`, `busy` or `idle`.
        hosts: The first hosts, with ports where these are unusual.
        more_hosts: How many more there are.
        live, expected: Instances.
        ending: When its certificate ends; None where it has none.
        seconds: From upload to live everywhere, in seconds; None where it is not.
        reason: Why it is where it is.
    """

    name: str
    status: str
    tone: str
    hosts: Sequence[str]
    more_hosts: int
    live: int
    expected: int
    ending: Ending | None
    seconds: float | None
    reason: str


def row_of(upload: Document, now: datetime) -> Row:
    """An upload's row."""
    hosts = hosts_of(upload)
    return Row(
        name=upload["name"],
        status=upload["status"],
        tone=tone_of(upload["status"]),
        hosts=hosts[:LISTED_HOSTS],
        more_hosts=max(0, len(hosts) - LISTED_HOSTS),
        live=upload["live"],
        expected=upload["expected"],
        ending=ending_of(upload, now),
        seconds=upload["seconds_to_live"],
        reason=shown(reason_of(upload), REASON_CHARS),
    )


def tone_of(status: str) -> str:
    """How it is with an upload of that status."""
    return next((tone for known, tone in _TONES.items() if known == status), "busy")


def hosts_of(upload: Document) -> list[str]:
    """What it is served for, with ports where these are unusual."""
    named = [*upload["hosts"], *([DEFAULT_HOST] if upload["default"] else [])]
    return [phrased(host, upload["port"]) for host in named]


def ending_of(upload: Document, now: datetime) -> Ending | None:
    """When its certificate ends."""
    if upload["not_after"] is None:
        return None
    left = (datetime.fromisoformat(upload["not_after"]) - now).total_seconds() / _DAY_S
    tone = "bad" if left < 0 else "warn" if left <= _ENDS_SOON_DAYS else "good"
    return Ending(day=upload["not_after"][:10], days=int(left // 1), tone=tone)


def reason_of(upload: Document) -> str:
    """Why an upload is where it is: its violations, or what the instances reported; of a bad renewal, both."""
    violations = " ".join(violation["detail"] for violation in upload["violations"])
    if upload["reason"] and upload["status"] in KEPT:
        return f"{violations} {upload['reason']}".strip()
    return upload["reason"] or violations


def state_of(instance: Document) -> tuple[str, str]:
    """How an instance is, in a word, and that word's tone."""
    if instance["stopped"]:
        return "stopped", "idle"
    if not instance["alive"]:
        return "silent", "bad"
    if instance["trouble"]:
        return "trouble", "bad"
    return ("ready", "good") if instance["ready"] else ("starting", "busy")
