"""Entries of the history as lines for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from operator_cli.status_tables import plain_table
from operator_cli.terminal import safe
from shared.binding import phrased
from shared.phrasing import listed
from shared.state.history import HistoryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from shared.state.document import Document

_STYLES = {
    HistoryKind.LIVE: "green",
    HistoryKind.REJECTED: "red",
    HistoryKind.FAILED: "red",
    HistoryKind.PARTIALLY_LIVE: "red",
    HistoryKind.EXPIRING: "yellow",
    HistoryKind.DRIFT_REPAIRED: "yellow",
    HistoryKind.REMOVED: "dim",
    HistoryKind.SUPERSEDED: "dim",
}
_FINGERPRINT_CHARS = 12


def entries_table(entries: Sequence[Document]) -> RenderableType:
    """A row for each entry, in the order in which they come."""
    if not entries:
        return safe("nothing became of any upload that was asked for", "dim")
    table = plain_table("when (UTC)", "what", "upload", "hosts", "in", "certificate", "why")
    for entry in entries:
        kind = str(entry["kind"])
        certificate = (entry.get("fingerprint_sha256") or "")[:_FINGERPRINT_CHARS]
        ends = (entry.get("not_after") or "")[:10]
        table.add_row(
            safe(moment_text(entry["at"])),
            safe(kind, style_of(kind)),
            safe(str(entry["name"])),
            safe(hosts_of(entry)),
            safe(took(entry.get("seconds"))),
            safe(f"{certificate} until {ends}" if certificate and ends else certificate),
            safe(reason_of(entry)),
        )
    return table


def style_of(kind: str) -> str:
    """The colour of a kind."""
    return _STYLES.get(HistoryKind(kind), "") if kind in set(HistoryKind) else ""


def moment_text(at: str) -> str:
    """An instant of a document to the second, as its day and time in UTC."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def hosts_of(entry: Document) -> str:
    """The first hosts of an entry with its port, and how many more there are."""
    hosts = [phrased(host, entry["port"]) for host in entry.get("hosts") or ()]
    more = max(0, int(entry.get("hosts_total") or 0) - len(hosts))
    return listed([*hosts, *[""] * more])


def took(seconds: float | None) -> str:
    """How long it took."""
    return "" if seconds is None else f"{seconds:.1f} s"


def reason_of(entry: Document) -> str:
    """Why, with where."""
    where = f"on {entry['instance']}" if entry.get("instance") else ""
    return "; ".join(filter(None, [where, str(entry.get("reason") or "")]))
