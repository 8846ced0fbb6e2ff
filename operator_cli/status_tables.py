"""The status document as tables for people."""

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
from shared.state.reasons import KEPT
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_HOUR_S = 3600
_DAY_S = 86_400


def status_tables(document: Document, *, now: datetime) -> RenderableType:
    """Uploads, then instances; where each binding is served, if the document tells."""
    parts: list[RenderableType] = [
        _uploads(document["uploads"], now) if document["uploads"] else safe("no uploads", "dim"),
        _instances(document["instances"], now) if document["instances"] else safe("no instances registered", "yellow"),
    ]
    for upload in document["uploads"]:
        if "installations" in upload:  # it is the one that was asked for
            parts[1:1] = _details(upload)
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
        yield f"{events['count']} event(s) about it wait for the topic; since {_for(events['since'], now)}."


def _is_long(since: str | None, now: datetime) -> bool:
    return since is None or (now - datetime.fromisoformat(since)).total_seconds() >= _MINUTE_S


def _for(since: str | None, now: datetime) -> str:
    return "an unknown time" if since is None else ago(since, now).removesuffix(" ago")


def ago(instant: str | None, now: datetime) -> str:
    """How long before `now` an instant of the document was: "3 s ago"."""
    if instant is None:
        return "never"
    seconds = max(0, int((now - datetime.fromisoformat(instant)).total_seconds()))
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds // unit_s} {unit} ago"
    return f"{seconds} s ago"


def _uploads(uploads: list[Document], now: datetime) -> Table:
    table = _table("upload", "status", "live", "hosts", "in", "valid until", "why")
    for upload in uploads:
        seconds = upload["seconds_to_live"]
        named = [*upload["hosts"], *([DEFAULT_HOST] if upload["default"] else [])]
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


def _details(upload: Document) -> list[RenderableType]:
    """What is told of an upload that was asked for: the chain that is served, and where it is."""
    chain = Table.grid(padding=(0, 2))
    for number, subject in enumerate(upload.get("chain", [])):
        chain.add_row(safe("" if number else "chain", "bold"), safe(subject))
    parts: list[RenderableType] = [chain] if upload.get("chain") else []
    return [*parts, _installations(upload["installations"])] if upload["installations"] else parts


def _instances(instances: list[Document], now: datetime) -> Table:
    table = _table("instance", "state", "role", "target", "served", "failing", "last seen")
    for instance in instances:
        state, style = "ready", "green"
        if instance["stopped"]:
            state, style = "stopped", "dim"
        elif not instance["alive"]:
            state, style = "silent", "red"
        elif not instance["ready"]:
            state, style = "starting", "yellow"
        table.add_row(
            safe(_named(instance)),
            safe(state, style),
            safe(instance["role"]),
            safe(instance["target"]),
            safe(str(instance["bindings"])),
            safe(str(instance["failing"]), "red" if instance["failing"] else ""),
            safe(ago(instance["last_seen"], now)),
        )
    return table


def _named(instance: Document) -> str:
    name: str = instance["id"]
    return f"id {instance['asked_id']} is in use elsewhere; runs as {name}" if instance["asked_id"] else name


def _installations(installations: list[Document]) -> Table:
    table = _table("served for", "instance", "outcome", "milliseconds by stage", "why")
    for item in installations:
        stages = "  ".join(f"{stage} {ms:.0f}" for stage, ms in item["stages_ms"].items())
        table.add_row(
            safe(phrased(item["host"], item["port"])),
            safe(item["instance"]),
            safe(item["outcome"], "green" if item["outcome"] in {"live", "removed"} else "red"),
            safe(stages),
            safe(item["reason"]),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
