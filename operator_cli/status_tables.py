"""Entries of the status document as tables for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from operator_cli.terminal import safe
from shared.binding import phrased
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import listed
from shared.state.overview import ENDS_SOON, ends_within, has_waited, instant
from shared.state.presence import ago as age
from shared.state.presence import lasting, since
from shared.state.reasons import KEPT
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

    from shared.state.document import Document

_STYLES = {
    UploadStatus.LIVE: "green",
    UploadStatus.REJECTED: "red",
    UploadStatus.FAILED: "red",
    UploadStatus.PARTIALLY_LIVE: "red",
    UploadStatus.REMOVED: "dim",
    UploadStatus.SUPERSEDED: "dim",
}
_NARROW = 80
"""Columns below which a table leaves out what can be had otherwise."""


class ByWidth:
    """What looks otherwise on a narrow screen."""

    def __init__(self, draw: Callable[[int], RenderableType]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it for the columns that there are."""
        yield self._draw(options.max_width)


def uploads_table(uploads: Sequence[Document], now: datetime) -> RenderableType:
    """Uploads, a row each; on a narrow screen without what is told least often."""
    return ByWidth(lambda columns: _uploads(uploads, now, is_narrow=columns < _NARROW))


def instances_table(instances: Sequence[Document], now: datetime) -> RenderableType:
    """Instances, a row each."""
    return ByWidth(lambda columns: _instances(instances, now, is_narrow=columns < _NARROW))


def upload_tables(document: Document, now: datetime) -> RenderableType:
    """The one upload that was asked for: what there is of it, where each binding is served, then the instances."""
    [upload], instances = document["uploads"], document["instances"]
    known = {each["id"]: each for each in instances}
    parts = [uploads_table([upload], now), *_details(upload, known, now)]
    parts.append(instances_table(instances, now) if instances else safe("no instances registered", "yellow"))
    return Group(*parts, *(safe(sentence, "red") for sentence in unreadable(document)))


def unreadable(document: Document) -> list[str]:
    """What there is to say of rows that cannot be read."""
    count = document.get("unreadable_rows")
    return [f"{count} row(s) of the tables cannot be read: `certcast doctor` names them"] if count else []


def reason_of(upload: Document) -> str:
    """Why an upload is where it is: its violations, or what the instances reported; of a bad renewal, both."""
    violations = " ".join(f"{violation['code']}: {violation['detail']}" for violation in upload["violations"])
    if upload["reason"] and upload["status"] in KEPT:
        return f"{violations} {upload['reason']}".strip()
    return upload["reason"] or violations


def notes_on(upload: Document, now: datetime | None = None) -> list[str]:
    """What else there is to know of an upload: full sentences.

    Args:
        upload: Its entry in the status document.
        now: What waits no longer than a minute by then is not mentioned; nothing that waits where it is not given.
    """
    notes = [] if now is None else [*_waits(upload, now)]
    if upload.get("password_left"):
        notes.append(f"Its password is still in the metadata: {upload['password_left']}.")
    if upload.get("tags_refused") and "installations" in upload:  # of many uploads, it would drown all else
        notes.append(f"Its tags do not show all of this status: {upload['tags_refused']}.")
    return notes


def _waits(upload: Document, now: datetime) -> Iterator[str]:
    waiting, events = upload.get("waiting_for"), upload.get("events_waiting")
    if waiting and has_waited(waiting["since"], now):
        yield f"Waits for {waiting['what'].rstrip('.')}; since {_for(waiting['since'], now)}."
    if events and has_waited(events["since"], now):
        yield f"{events['count']} event(s) about it wait for topic or webhook; since {_for(events['since'], now)}."


def _ends(upload: Document, now: datetime) -> str:
    """When it ends, where that is soon; what has ended has a reason."""
    end = instant(upload.get("not_after"))
    if end is None or end <= now or not ends_within(upload, ENDS_SOON, now=now):
        return ""
    return f"Ends in {lasting(end - now)}: upload a renewal."


def _for(since: str | None, now: datetime) -> str:
    return "an unknown time" if since is None else lasting(now - datetime.fromisoformat(since))


def ago(instant: str | None, now: datetime) -> str:
    """How long before `now` an instant of the document was: "3 s ago"."""
    return "never" if instant is None else age(datetime.fromisoformat(instant), now)


def _uploads(uploads: Sequence[Document], now: datetime, *, is_narrow: bool) -> Table:
    more = [] if is_narrow else ["hosts", "in", "valid until"]
    table = plain_table("upload", "status", "live", *more, "why")
    for upload in uploads:
        table.add_row(
            safe(upload["name"]),
            safe(upload["status"], _STYLES.get(upload["status"], "yellow")),
            safe(f"{upload['live']}/{upload['expected']}"),
            *([] if is_narrow else _claimed(upload)),
            _why(upload, now),
        )
    return table


def _claimed(upload: Document) -> list[Text]:
    """Hosts, seconds to live and the last day."""
    seconds = upload["seconds_to_live"]
    named = [*upload["hosts"], *([DEFAULT_HOST] if upload.get("default") else [])]
    hosts = listed([phrased(host, upload["port"]) for host in named])
    role = "" if upload["role"] == "*" else f" (role {upload['role']})"
    times = ["" if seconds is None else f"{seconds:.1f} s", (upload["not_after"] or "")[:10]]
    return [safe(hosts + role), *map(safe, times)]


def _why(upload: Document, now: datetime) -> Text:
    """Reasons and notes, then warnings in a colour of their own."""
    why = safe(" ".join(filter(None, [reason_of(upload), *notes_on(upload, now), _ends(upload, now)])))
    for warning in upload.get("warnings", []):
        why.append(" " if why else "").append_text(safe(f"warning: {warning['detail']}", "yellow"))
    return why


def _details(upload: Document, instances: Mapping[str, Document], now: datetime) -> list[RenderableType]:
    """What is told of an upload that was asked for: the chain that is served, and where it is."""
    chain = Table.grid(padding=(0, 2))
    for number, subject in enumerate(upload.get("chain", [])):
        chain.add_row(safe("" if number else "chain", "bold"), safe(subject))
    parts: list[RenderableType] = [chain] if upload.get("chain") else []
    if not upload["installations"]:
        return parts
    return [*parts, _installations(upload["installations"], instances, now)]


def _instances(instances: Sequence[Document], now: datetime, *, is_narrow: bool) -> Table:
    troubled = any(instance.get("trouble") for instance in instances)
    more = [] if is_narrow else ["role", "target"]
    table = plain_table("instance", "state", *more, "served", "failing", "last seen", *(["why"] * troubled))
    for instance in instances:
        state, style = _state(instance)
        table.add_row(
            safe(_named(instance)),
            safe(_with_time(state, instance, now), style),
            *([] if is_narrow else [safe(instance["role"]), safe(instance["target"])]),
            safe(_served(instance)),
            safe(str(instance["failing"]), "red" if instance["failing"] else ""),
            safe(ago(instance["last_seen"], now)),
            *([safe(instance.get("trouble") or "", "red")] * troubled),
        )
    return table


def _state(instance: Document) -> tuple[str, str]:
    """How an instance is, in a word, and that word's colour."""
    if instance["stopped"]:
        return "stopped", "dim"
    if not instance["alive"]:
        return "silent", "red"
    if instance.get("trouble"):
        return "trouble", "red"
    return ("ready", "green") if instance["ready"] else ("starting", "yellow")


def _with_time(state: str, instance: Document, now: datetime) -> str:
    """The same, with since when where it does not run."""
    match state:
        case "stopped":
            return f"stopped {ago(instance['last_seen'], now)}"
        case "silent" if instance["last_seen"] is not None:
            return f"silent since {since(datetime.fromisoformat(instance['last_seen']), now)}"
        case _:
            return state


def _served(instance: Document) -> str:
    """How many bindings it serves; of one that does not run, how many those were when it did."""
    return str(instance["bindings"]) if instance["alive"] else f"({instance['bindings']})"


def _named(instance: Document) -> str:
    name: str = instance["id"]
    asked = instance.get("asked_id")
    return f"id {asked} is in use elsewhere; runs as {name}" if asked else name


def _installations(installations: list[Document], instances: Mapping[str, Document], now: datetime) -> Table:
    table = plain_table("served for", "instance", "outcome", "milliseconds by stage", "why")
    for item in installations:
        instance = instances.get(item["instance"])
        state = "no longer registered" if instance is None else _state(instance)[0]
        away = state if instance is None else _with_time(state, instance, now) if not instance["alive"] else ""
        stages = "  ".join(f"{stage} {ms:.0f}" for stage, ms in item["stages_ms"].items())
        table.add_row(
            safe(phrased(item["host"], item["port"])),
            safe(" ".join(filter(None, [item["instance"], away and f"({away})"]))),
            safe(item["outcome"], "dim" if away else "green" if item["outcome"] in {"live", "removed"} else "red"),
            safe(stages),
            safe(item["reason"]),
        )
    return table


def plain_table(*columns: str) -> Table:
    """A table with those columns, in the look of all of them."""
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
