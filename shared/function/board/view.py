"""What a look at the board shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.state.document import Document
from shared.state.overview import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The fleet as of one moment.

    Attributes:
        as_of: When it was read last, by the service's clock.
        uploads: Documents of the status API, by name; without removed ones that no instance serves any more.
        instances: Likewise, by id.
        summary: What these come to.
        complete: Whether all uploads are among them: not while they are read for the first time, nor where there are
            more than are kept.
        rows_read: Rows of uploads that were read for it so far, those that are not shown included.
        note: What is not in it, a sentence; empty where all is.
        trouble: Why it is not newer, a sentence; empty where it is as new as it can be.
        version: Changes with whatever is in it, but for when it was read and when instances that run were last seen.
    """

    as_of: datetime
    uploads: Sequence[Document]
    instances: Sequence[Document]
    summary: Summary
    complete: bool
    rows_read: int
    note: str
    trouble: str
    version: str
