"""The status document as tables for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from operator_cli.terminal import safe
from shared.phrasing import listed
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        _uploads(document["uploads"]) if document["uploads"] else safe("no uploads", "dim"),
        _instances(document["instances"], now) if document["instances"] else safe("no instances registered", "yellow"),
    ]
    parts[1:1] = [
        _installations(upload["installations"]) for upload in document["uploads"] if upload.get("installations")
    ]
    if unreadable := document.get("unreadable_rows"):
        parts.append(safe(f"{unreadable} row(s) of the tables cannot be read: `certcast doctor` names them", "red"))
    return Group(*parts)


def reason_of(upload: Document) -> str:
    """Why an upload is where it is: its violations, or what the instances reported."""
    violations = [f"{violation['code']}: {violation['detail']}" for violation in upload["violations"]]
    return upload["reason"] or " ".join(violations)


def notes_on(upload: Document) -> list[str]:
    """What else there is to know of an upload: full sentences."""
    notes = []
    if upload.get("password_left"):
        notes.append(f"Its password is still in the metadata: {upload['password_left']}.")
    if upload.get("tags_refused") and "installations" in upload:  # of many uploads, it would drown all else
        notes.append(f"Its tags do not show all of this status: {upload['tags_refused']}.")
    return notes


def ago(instant: str | None, now: datetime) -> str:
    """How long before `now` an instant of the document was: "3 s ago"."""
    if instant is None:
        return "never"
    seconds = max(0, int((now - datetime.fromisoformat(instant)).total_seconds()))
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds // unit_s} {unit} ago"
    return f"{seconds} s ago"


def _uploads(uploads: list[Document]) -> Table:
    table = _table("upload", "status", "live", "hosts", "in", "valid until", "why")
    for upload in uploads:
        seconds = upload["seconds_to_live"]
        hosts = listed([f"{host}:{upload['port']}" for host in upload["hosts"]])
        role = "" if upload["role"] == "*" else f" (role {upload['role']})"
        table.add_row(
            safe(upload["name"]),
            safe(upload["status"], _STYLES.get(upload["status"], "yellow")),
            safe(f"{upload['live']}/{upload['expected']}"),
            safe(hosts + role),
            safe("" if seconds is None else f"{seconds:.1f} s"),
            safe((upload["not_after"] or "")[:10]),
            safe(" ".join(filter(None, [reason_of(upload), *notes_on(upload)]))),
        )
    return table


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
            safe(f"{item['host']}:{item['port']}"),
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
