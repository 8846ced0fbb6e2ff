"""What the pages about one upload and about what changed are made of, besides the fleet's `View`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.state.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """One upload, with all that the tables tell of it.

    Attributes:
        as_of: When it was read, by the service's clock.
        upload: Its document, as in the status API.
        installations: What each instance last reported about its bindings (`installation_document`).
        complete: Whether these are all reports.
        moments: Its timeline, earliest first (`moment_document`).
        past: What became of it before, latest first (`history_document`).
        notice: A sentence about what was just done; empty otherwise.
        instances: The registered instances, as in the status document: whether one that reported still runs.
    """

    as_of: datetime
    upload: Document
    installations: Sequence[Document]
    complete: bool
    moments: Sequence[Document]
    past: Sequence[Document]
    notice: str = ""
    instances: Sequence[Document] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """What changed, of all uploads or of one host.

    Attributes:
        as_of: When it was read.
        entries: Latest first (`history_document`).
        since: How far back it was asked for, in the words of the query, such as `7d`.
        host: The host that was asked for; empty for all.
        kind: The word of `HistoryKind` that was asked for; empty for all.
        complete: Whether these are all entries of that time.
    """

    as_of: datetime
    entries: Sequence[Document]
    since: str
    host: str = ""
    kind: str = ""
    complete: bool = True
