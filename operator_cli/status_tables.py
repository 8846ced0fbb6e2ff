"""The status document as tables for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from operator_cli.terminal import safe
from shared.binding import phrased
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import listed
from shared.state.presence import ago as age
from shared.state.presence import since
from shared.state.reasons import KEPT
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType
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
_MINUTE_S = 60


def status_tables(document: Document) -> RenderableType:
    """Uploads, then instances; where each binding is served, if the document tells. Times are those of the document."""
    as_of = document.get("as_of")
    now = datetime.now(UTC) if as_of is None else datetime.fromisoformat(as_of)
    parts: list[RenderableType] = [
        _uploads(document["uploads"], now) if document["uploads"] else safe("no uploads", "dim"),
        _instances(document["instances"], now) if document["instances"] else safe("no instances registered", "yellow"),
    ]
    for upload in document["uploads"]:
        if "installations" in upload:  # it is the one that was asked for
            parts[1:1] = _details(upload, {each["id"]: each for each in document["instances"]}, now)
    if unreadable := document.get("unreadable_rows"):
        parts.append(safe(f"{unreadable} row(s) of the tables cannot be read: `certcast doctor` names them", "red"))
    return Group(*parts)


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
    if waiting and _is_long(waiting["since"], now):
        yield f"Waits for {waiting['what'].rstrip('.')}; since {_for(waiting['since'], now)}."
    if events and _is_long(events["since"], now):
        yield f"{events['count']} event(s) about it wait for topic or webhook; since {_for(events['since'], now)}."


def _is_long(since: str | None, now: datetime) -> bool:
    return since is None or (now - datetime.fromisoformat(since)).total_seconds() >= _MINUTE_S


def _for(since: str | None, now: datetime) -> str:
    return "an unknown time" if since is None else ago(since, now).removesuffix(" ago")


def ago(instant: str | None, now: datetime) -> str:
    """How long before `now` an instant of the document was: "3 s ago"."""
    return "never" if instant is None else age(datetime.fromisoformat(instant), now)


def _uploads(uploads: list[Document], now: datetime) -> Table:
    table = _table("upload", "status", "live", "hosts", "in", "valid until", "why")
    for upload in uploads:
        seconds = upload["seconds_to_live"]
        named = [*upload["hosts"], *([DEFAULT_HOST] if upload.get("default") else [])]
        hosts = listed([phrased(host, upload["port"]) for host in named])
        role = "" if upload["role"] == "*" else f" (role {upload['role']})"
        table.add_row(
            safe(upload["name"]),
            safe(upload["status"], _STYLES.get(upload["status"], "yellow")),
            safe(f"{upload['live']}/{upload['expected']}"),
            safe(hosts + role),
            safe("" if seconds is None else f"{seconds:.1f} s"),
            safe((upload["not_after"] or "")[:10]),
            _why(upload, now),
        )
    return table


def _why(upload: Document, now: datetime) -> Text:
    """Reasons and notes, then warnings in a colour of their own."""
    why = safe(" ".join(filter(None, [reason_of(upload), *notes_on(upload, now)])))
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


def _instances(instances: list[Document], now: datetime) -> Table:
    troubled = any(instance.get("trouble") for instance in instances)
    table = _table("instance", "state", "role", "target", "served", "failing", "last seen", *(["why"] * troubled))
    for instance in instances:
        state, style = _state(instance)
        table.add_row(
            safe(_named(instance)),
            safe(_with_time(state, instance, now), style),
            safe(instance["role"]),
            safe(instance["target"]),
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
    table = _table("served for", "instance", "outcome", "milliseconds by stage", "why")
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


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
