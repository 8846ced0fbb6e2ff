"""Everything a use case acts on, in one value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from shared.bounded import Locks
from shared.function.board import Board
from shared.function.fleet import Fleet, News
from shared.function.health import Health
from shared.function.in_process import (
    BlobTrouble,
    Gathering,
    HistoryTrouble,
    Later,
    OutletTrouble,
    Settlings,
    TagTrouble,
)
from shared.function.lanes import Lanes
from shared.function.recent import Recent
from shared.function.rules import Rules
from shared.messages import InstallReport
from shared.ports import BundleVault, CertificateSource, Outlet, Queues, Secrets, UploadContainer
from shared.state.tables import State
from shared.upload import BLOB_SCHEME, scheme_of
from shared.validation.judge import ValidationPolicy
from shared.validation.workers import Judges


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


class Listener(Protocol):
    """What takes reports that are expected."""

    def expect_reports(self) -> None:
        """Look for reports for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The storage account and what goes with it.

    Attributes:
        uploads: The container that uploaders write to.
        bundles: The sealed bundles.
        queues: The account's queues.
        state: The five tables.
        secrets: Where referred-to passwords are had.
        policy: What is accepted.
        judges: Where it is judged.
        rules: What each uploader may claim.
        scrub_password: Whether an accepted upload's password is taken out of its metadata.
        outlets: Where outgoing events go; none for nowhere.
        sources: Further certificate sources, by the scheme of their names.
        now: The clock.
        listener: Takes reports that are expected, without waiting for the Functions host to look; None leaves it
            to the host.
        lanes: Turns at hosts in this process.
        under_way: The versions of uploads that are looked at in this process.
        in_hand: The uploads whose rows are being written in this process, which settling waits for.
        outlet_trouble: What this process has met with at each outlet, by its key.
        sending: Whose events are being sent to which outlet in this process.
        tag_trouble: What this process has met with at blobs' tags.
        history_trouble: What it has met with at table `history`.
        scrub_trouble: What it has met with at uploads' metadata.
        reports: The reports that are being entered in this process.
        fleet: The instances, as this process reads them.
        hints: The hints that are being sent in this process.
        recent: What this process read or wrote a short while ago.
        settlings: When this process settled which uploads.
        later: The uploads that are settled a little later in this process.
        left_off: Behind which row a sweep of this process stopped that could not go through all, by what it read.
        last_done: When this process last did what not every sweep need do, by its name.
        health: What this process found when it last looked at what it needs.
        board: All uploads and instances, as the dashboard shows them.
        looks: The uploads that are looked at, each on a page of its own.
    """

    uploads: UploadContainer
    bundles: BundleVault
    queues: Queues
    state: State
    secrets: Secrets
    policy: ValidationPolicy
    judges: Judges
    rules: Rules = field(default_factory=Rules)
    scrub_password: bool = True
    outlets: tuple[Outlet, ...] = ()
    sources: Mapping[str, CertificateSource] = field(default_factory=dict)
    now: Callable[[], datetime] = field(default=utc_now)
    listener: Listener | None = None
    lanes: Lanes = field(default_factory=Lanes)
    under_way: set[tuple[str, str]] = field(default_factory=set)
    in_hand: Locks = field(default_factory=Locks)
    outlet_trouble: defaultdict[str, OutletTrouble] = field(default_factory=lambda: defaultdict(OutletTrouble))
    sending: Locks = field(default_factory=Locks)
    tag_trouble: TagTrouble = field(default_factory=TagTrouble)
    history_trouble: HistoryTrouble = field(default_factory=HistoryTrouble)
    scrub_trouble: BlobTrouble = field(default_factory=BlobTrouble)
    reports: Gathering[InstallReport, None] = field(default_factory=Gathering)
    fleet: Gathering[None, Fleet] = field(default_factory=Gathering)
    hints: Gathering[News, frozenset[str]] = field(default_factory=Gathering)
    recent: Recent = field(default_factory=Recent)
    settlings: Settlings = field(default_factory=Settlings)
    later: Later = field(default_factory=Later)
    left_off: dict[str, tuple[str, str]] = field(default_factory=dict)
    last_done: dict[str, datetime] = field(default_factory=dict)
    health: Health = field(default_factory=Health)
    board: Board = field(default_factory=Board)
    looks: Gathering[str, Mapping[str, Any]] = field(default_factory=Gathering)

    @property
    def tells_others(self) -> bool:
        """Whether outgoing events go anywhere."""
        return bool(self.outlets)

    def source_of(self, name: str) -> CertificateSource | None:
        """Where an upload of this name is read; None when its source is not set up (any more)."""
        scheme = scheme_of(name)
        return self.uploads if scheme == BLOB_SCHEME else self.sources.get(scheme)
