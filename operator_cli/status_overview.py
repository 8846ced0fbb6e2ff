"""What people are shown of many uploads: the summary, then what needs somebody, or what they asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group

from operator_cli.status_tables import instances_table, unreadable, uploads_table
from operator_cli.terminal import safe
from shared.phrasing import shown
from shared.state.document import Document
from shared.state.overview import Asked, Summary, chosen, instance_needs_somebody, needs_somebody

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

WHOLE = 20
"""Up to so many uploads, and up to so many instances, are all shown; of more, those that need somebody."""
MOST_UNASKED = 50
"""Of those that need somebody, so many are shown unasked, those first that need it most."""
ALL = "`certcast status --all` shows them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to see.

    Attributes:
        asked: Which uploads, and in what order; as it is by default, what needs somebody, and all of a few.
        everything: All of them, and all instances.
    """

    asked: Asked
    everything: bool = False

    @property
    def is_for_what_needs_somebody(self) -> bool:
        """Whether nothing else was asked for."""
        return not self.everything and self.asked == Asked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What is shown of a status document.

    Attributes:
        now: The time that it is of.
        summary: Of all uploads and instances.
        uploads: The entries that are shown.
        instances: The entries that are shown.
        notes: What else there is to say.
    """

    now: datetime
    summary: Summary
    uploads: Sequence[Document]
    instances: Sequence[Document]
    notes: Sequence[str]

    @property
    def parts(self) -> tuple[RenderableType, RenderableType, RenderableType, RenderableType]:
        """The line of the summary, uploads, instances, and the notes, to be drawn one below the other."""
        return (
            self._line(),
            uploads_table(self.uploads, self.now) if self.uploads else Group(),
            instances_table(self.instances, self.now) if self.instances else Group(),
            Group(*(safe(note, "dim") for note in self.notes)),
        )

    def _line(self) -> Text:
        is_quiet = not any(needs_somebody(upload, now=self.now) for upload in self.uploads)
        if not self.summary.all_served:
            return safe(self.summary.line, "bold red")
        is_quiet = is_quiet and not any(instance_needs_somebody(instance) for instance in self.instances)
        return safe(self.summary.line, "bold green" if is_quiet and self.summary.uploads else "bold yellow")


def time_of(document: Document) -> datetime:
    """The time that a status document is of; an older Function's does not tell."""
    as_of = document.get("as_of")
    return datetime.now(UTC) if as_of is None else datetime.fromisoformat(as_of)


def narrowed(document: Document, asked: Asked) -> Document:
    """The document with those uploads alone that are asked for, how many these are, and a summary of all."""
    now, uploads, instances = time_of(document), document["uploads"], document["instances"]
    found = chosen(uploads, asked, now=now, instances=instances)
    summary = Summary.of(uploads, instances, now=now).document
    return {"as_of": document["as_of"], "summary": summary, "total": found.total, **document, "uploads": found.shown}


def overview(document: Document, wish: Wish, *, most: int | None = None) -> Overview:
    """Choose what is shown to people of all uploads and instances.

    Args:
        document: All of them.
        wish: What is to be shown.
        most: No more uploads than these are drawn, as there is no room: drawing thousands takes seconds.
    """
    now, uploads, instances = time_of(document), document["uploads"], document["instances"]
    if wish.is_for_what_needs_somebody:
        shown_uploads, notes = _urgent(uploads, now)
    else:
        shown_uploads, notes = _asked_for(document, wish.asked, now)
    shown_instances = _instances(instances, wish)
    if wish.is_for_what_needs_somebody and (quiet := len(instances) - len(shown_instances)):
        notes.append(f"{_many(quiet, 'instance')} left out that need nothing: {ALL}")
    notes += unreadable(document)
    return Overview(
        now=now,
        summary=Summary.of(uploads, instances, now=now),
        uploads=shown_uploads[:most],
        instances=shown_instances,
        notes=notes,
    )


def _urgent(uploads: Sequence[Document], now: datetime) -> tuple[Sequence[Document], list[str]]:
    if len(uploads) <= WHOLE:
        return uploads, []
    urgent = [upload for upload in uploads if needs_somebody(upload, now=now)]
    first = chosen(urgent, Asked(sort="status", limit=MOST_UNASKED), now=now, instances=[]).shown
    notes = []
    if more := len(urgent) - len(first):
        notes.append(f"{_many(more, 'more upload')} that need somebody: {ALL}, --sort status --limit 500 the first 500")
    if quiet := len(uploads) - len(urgent):
        notes.append(f"{_many(quiet, 'upload')} left out that need nothing: {ALL}")
    return first, notes


def _asked_for(document: Document, asked: Asked, now: datetime) -> tuple[Sequence[Document], list[str]]:
    uploads, instances = document["uploads"], document["instances"]
    found = chosen(uploads, asked, now=now, instances=instances)
    notes = []
    if asked.instance is not None and all(each["id"] != asked.instance for each in instances):
        notes.append(f"no instance {shown(asked.instance)} is registered")
    if asked.is_narrowed:
        notes.append(f"{found.total} of {_many(len(uploads), 'upload')}")
    if left := found.total - len(found.shown):
        notes.append(f"{left} more of them beyond --limit {asked.limit}")
    return found.shown, notes


def _instances(instances: Sequence[Document], wish: Wish) -> Sequence[Document]:
    if wish.everything:
        return instances
    if wish.asked.instance is not None:
        return [instance for instance in instances if instance["id"] == wish.asked.instance]
    if not wish.is_for_what_needs_somebody or len(instances) > WHOLE:
        return [instance for instance in instances if instance_needs_somebody(instance)]
    return instances


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
