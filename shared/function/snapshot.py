"""What a sweep compares: the tables and the container's listing, each read once, in the order that comparing needs.

Whatever follows from it is old by the time it is acted on, so that every act reads again what it acts on. Reports are
not in it: there are as many as instances times bindings, and they pass by one by one (`doubts`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.binding import BindingKey, DesiredBinding
from shared.bounded import gather_bounded
from shared.function.canary import is_left_behind
from shared.function.deadlines import ITEM_S
from shared.ports import StoredBundle
from shared.state.records import InstanceRecord, UploadRecord
from shared.state.rows import UnreadableRow, Versioned
from shared.upload import BLOB_SCHEME, SEALED_BUNDLE_KEY, carries_password, is_canary, is_certificate_name

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.function.sweep_report import SweepReport
    from shared.ports import CertificateSource

BUNDLE_KEEP = timedelta(days=1)
"""A bundle sealed more recently may belong to an upload whose rows are being written."""
WHOLE_EVERY = timedelta(hours=1)
"""How often the sweeps of a process read what is large as a whole, all bundles and all reports; the first one does."""
BUNDLES = "bundles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The account as one sweep read it.

    Attributes:
        taken_at: When reading began.
        bundles: Those sealed more than a day before; None where it is not time to look for unused ones.
        uploads: Every upload's row by name; None where the table could not be read, as with the next two.
        found: ETags by name of what the sources hold.
        answered: Schemes of the sources that could be listed; what another one holds is not taken for gone.
        with_password: Uploads in whose metadata a password stands.
        canaries: Those that a `certcast doctor` left behind.
        marked: Ids of the bundles that markers in uploads' metadata name.
        scrubbed: Uploads that were done with once: they have such a marker.
        bindings: The desired rows.
        instances: The registered instances by id.
        unreadable: Tables with rows that cannot be read.
    """

    taken_at: datetime
    bundles: Collection[StoredBundle] | None
    uploads: Mapping[str, UploadRecord] | None
    found: Mapping[str, str]
    answered: frozenset[str]
    with_password: frozenset[str]
    canaries: frozenset[str]
    marked: frozenset[str]
    scrubbed: frozenset[str]
    bindings: Mapping[BindingKey, DesiredBinding] | None
    instances: Mapping[str, Versioned[InstanceRecord]] | None
    unreadable: frozenset[str]


async def take_snapshot(cloud: Cloud, report: SweepReport) -> Snapshot:
    """Read what a sweep compares; what cannot be read is reported and left out.

    Bundles are listed before what refers to them is read: one that is claimed in between is either younger or sealed
    again. Uploads' rows come before the container, as an upload that is processed in between must not look deleted, and
    before the bindings, as one that was looked at in between is known by its claims.
    """
    taken_at, unreadable = cloud.now(), list[UnreadableRow]()
    bundles = await report.part("listing bundles", _old_bundles(cloud)) if is_time(cloud, BUNDLES) else None
    uploads = await report.part("reading uploads", _uploads(cloud, unreadable))
    found, answered, listing = dict[str, str](), set[str](), _Listing(now=taken_at)

    async def list_source(scheme: str, source: CertificateSource) -> None:
        # The storage account answers or fails by itself; how long a database takes, none but its driver knows.
        within_s = None if scheme == BLOB_SCHEME else ITEM_S
        listed = await report.part(f"certificate source {scheme}", listing.of(scheme, source), within_s=within_s)
        if listed is not None:
            answered.add(scheme)
            found.update(listed)

    sources = {BLOB_SCHEME: cloud.uploads, **cloud.sources}
    await gather_bounded(list_source(scheme, source) for scheme, source in sources.items())
    return Snapshot(
        taken_at=taken_at,
        bundles=bundles,
        uploads=uploads,
        found=found,
        answered=frozenset(answered),
        with_password=frozenset(listing.with_password),
        canaries=frozenset(listing.canaries),
        marked=frozenset(listing.marked),
        scrubbed=frozenset(listing.scrubbed),
        bindings=await report.part("reading bindings", _bindings(cloud, unreadable)),
        instances=await report.part("reading instances", _instances(cloud, unreadable)),
        unreadable=frozenset(row.table for row in unreadable),
    )


def is_time(cloud: Cloud, what: str) -> bool:
    """Whether this process did for an hour not do what not every sweep does."""
    last = cloud.last_done.get(what)
    return last is None or abs(cloud.now() - last) >= WHOLE_EVERY  # a clock that went back must not stop it


async def _old_bundles(cloud: Cloud) -> list[StoredBundle]:
    now = cloud.now()
    return [bundle async for bundle in cloud.bundles.each() if now - bundle.stored_at >= BUNDLE_KEEP]


async def _uploads(cloud: Cloud, unreadable: list[UnreadableRow]) -> dict[str, UploadRecord]:
    uploads: dict[str, UploadRecord] = {}
    told: dict[tuple[str, ...], tuple[str, ...]] = {}
    async for known in cloud.state.uploads.all(unreadable=unreadable):
        # One list of instances for all that told the same: it may be thousands of names for each of the uploads.
        expected = told.setdefault(known.value.expected, known.value.expected)
        uploads[known.value.name] = replace(known.value, expected=expected)
    return uploads


async def _bindings(cloud: Cloud, unreadable: list[UnreadableRow]) -> dict[BindingKey, DesiredBinding]:
    return {known.value.key: known.value async for known in cloud.state.bindings.all(unreadable=unreadable)}


async def _instances(cloud: Cloud, unreadable: list[UnreadableRow]) -> dict[str, Versioned[InstanceRecord]]:
    return {known.value.id: known async for known in cloud.state.instances.all(unreadable=unreadable)}


@dataclass(slots=True)
class _Listing:
    """What is noted of the sources' uploads while they pass by.

    Attributes:
        now: When the snapshot is taken.
        marked: Ids of the bundles that markers name.
        scrubbed: Uploads that have one.
        with_password: Uploads in whose metadata a password stands.
        canaries: Those that were left behind.
    """

    now: datetime
    marked: set[str] = field(default_factory=set)
    scrubbed: set[str] = field(default_factory=set)
    with_password: set[str] = field(default_factory=set)
    canaries: set[str] = field(default_factory=set)

    async def of(self, scheme: str, source: CertificateSource) -> dict[str, str]:
        """List a source: ETags by name."""
        found = {}
        async for version in source.each():
            if scheme == BLOB_SCHEME and is_canary(version.name):
                if is_left_behind(version, self.now):
                    self.canaries.add(version.name)
                continue
            # A scrubbed upload without a row (tables lost, say) can be opened only through the bundle its marker names.
            markers = {value for key, value in version.metadata.items() if key.lower() == SEALED_BUNDLE_KEY}
            self.marked |= markers
            if scheme != BLOB_SCHEME or is_certificate_name(version.name):
                found[version.name] = version.etag
                if markers:
                    self.scrubbed.add(version.name)
                if scheme == BLOB_SCHEME and carries_password(version.metadata):
                    self.with_password.add(version.name)
        return found
