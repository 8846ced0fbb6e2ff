"""Who owns a host and port: claims of uploads, the election between them, and the desired row that results.

Pure: nothing here reads a clock, a table or a certificate. Every change of a desired row is one of the functions
below, so that it can be applied under the row's ETag without knowing what else happened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.errors import CertcastError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ANY_ROLE = "*"
"""Stands in a row for every role."""

MAX_PORT = 65_535

WITHDRAWN_KEEP = timedelta(days=1)
"""How long a withdrawn claim is remembered: far longer than any run that could still carry the older revision."""

MAX_CLAIMS = 200
"""Claims kept per host and port; beyond it those that would be elected last are forgotten."""


class StaleRevisionError(CertcastError):
    """A newer look at the same upload has already been written; whoever made that look finishes the work."""


class BindingState(StrEnum):
    """Whether a host and port is to be served."""

    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BindingKey:
    """Names one desired row.

    Attributes:
        role: The instances concerned; `*` for every role.
        host: Host name in A-label form, or a wildcard.
        port: TCP port, 1 to 65535.
    """

    role: str
    host: str
    port: int

    @property
    def host_port(self) -> str:
        """The form used as a row key and in messages to people."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One accepted upload's claim on a host and port.

    Attributes:
        source: Name of the upload (blob name, or a URL-like name for other certificate sources).
        revision: Counts the looks taken at that upload; a lower one never overwrites a higher one.
        source_etag: The blob version the claim was read from.
        bundle_id: Sealed bundle that holds key and chain.
        fingerprint_sha256: Lower-case hex SHA-256 of the leaf.
        thumbprint_sha1: Upper-case hex SHA-1 of the leaf, the name IIS knows it by.
        not_before: Start of the leaf's validity.
        not_after: End of the leaf's validity.
        uploaded_at: When this content was uploaded.
        site: Web site asked for.
        withdrawn_at: Set when the upload no longer claims this host and port; remembered for a while, so that a run
            that began earlier cannot bring the claim back.
    """

    source: str
    revision: int
    source_etag: str
    bundle_id: str
    fingerprint_sha256: str
    thumbprint_sha1: str
    not_before: datetime
    not_after: datetime
    uploaded_at: datetime
    site: str | None = None
    withdrawn_at: datetime | None = None

    @property
    def rank(self) -> tuple[datetime, datetime, str]:
        """The order of election: latest notBefore, then latest upload; the name only makes it total."""
        return (self.not_before, self.uploaded_at, self.source)


def elect(claims: Iterable[Claim]) -> Claim | None:
    """Choose the claim that is served; the order in which the claims came makes no difference."""
    return max((claim for claim in claims if claim.withdrawn_at is None), key=lambda claim: claim.rank, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredBinding:
    """The desired state of one host and port, and everything the next election needs.

    Attributes:
        role: As in `BindingKey`.
        host: As in `BindingKey`.
        port: As in `BindingKey`.
        state: `absent` rows are kept for 30 days, so that an instance that was off still learns of the removal.
        generation: Grows by one with each change of what is to be served.
        changed_at: When the generation last grew.
        claims: Every upload's claim, withdrawn ones included for a while.
        bundle_id: The elected claim's; empty when absent, and so are the next columns.
        fingerprint_sha256: The elected claim's.
        thumbprint_sha1: The elected claim's.
        source: The elected claim's.
        source_etag: The elected claim's.
        not_after: The elected claim's.
        site: The elected claim's.
        traceparent: W3C trace context of the change.
    """

    role: str
    host: str
    port: int
    state: BindingState
    generation: int
    changed_at: datetime
    claims: tuple[Claim, ...] = ()
    bundle_id: str = ""
    fingerprint_sha256: str = ""
    thumbprint_sha1: str = ""
    source: str = ""
    source_etag: str = ""
    not_after: datetime | None = None
    accepted_at: datetime | None = None
    site: str | None = None
    traceparent: str = ""

    @property
    def key(self) -> BindingKey:
        """The row's name."""
        return BindingKey(role=self.role, host=self.host, port=self.port)

    @property
    def present(self) -> bool:
        """Whether the host and port is to be served."""
        return self.state is BindingState.PRESENT

    def claim_of(self, source: str) -> Claim | None:
        """The upload's claim, withdrawn or not."""
        return next((claim for claim in self.claims if claim.source == source), None)


def with_claim(
    row: DesiredBinding | None, key: BindingKey, claim: Claim, *, now: datetime, traceparent: str = ""
) -> DesiredBinding:
    """Enter (or, for a claim marked withdrawn, take out) one upload's claim and elect again.

    Raises:
        StaleRevisionError: The row already holds a later look at the same upload.
    """
    before = row or DesiredBinding(
        role=key.role, host=key.host, port=key.port, state=BindingState.ABSENT, generation=0, changed_at=now
    )
    known = before.claim_of(claim.source)
    if known is not None and known.revision > claim.revision:
        raise StaleRevisionError(f"{claim.source} was looked at again meanwhile, for {key.host_port}")
    others = [other for other in before.claims if other.source != claim.source]
    return _elected(before, (*others, claim), now=now, traceparent=traceparent)


def without_claim(
    row: DesiredBinding | None, key: BindingKey, source: str, revision: int, *, now: datetime, traceparent: str = ""
) -> DesiredBinding:
    """Withdraw an upload's claim and elect again.

    The withdrawal is written down even where no claim was entered: a look that began earlier may be about to enter it.

    Raises:
        StaleRevisionError: The row already holds a later look at the same upload.
    """
    known = row.claim_of(source) if row else None
    if row and known and known.withdrawn_at is not None and known.revision == revision:
        return row
    if known is None:
        known = _no_claim(source, revision, now)
    elif known.revision <= revision:
        known = replace(known, revision=revision)
    else:
        raise StaleRevisionError(f"{source} was looked at again meanwhile, for {key.host_port}")
    return with_claim(row, key, replace(known, withdrawn_at=now), now=now, traceparent=traceparent)


def redeployed(row: DesiredBinding, *, now: datetime, traceparent: str = "") -> DesiredBinding:
    """Ask every instance to install and prove the same certificate once more."""
    return replace(row, generation=row.generation + 1, changed_at=now, traceparent=traceparent)


def roles_of(instance_role: str) -> frozenset[str]:
    """The roles whose rows are for an instance: its own, and the one that stands for every role."""
    return frozenset({ANY_ROLE, instance_role})


def concerns(role: str, instance_role: str) -> bool:
    """Whether a row of this role is for an instance of that role."""
    return role in roles_of(instance_role)


def effective(rows: Iterable[DesiredBinding], role: str) -> DesiredBinding | None:
    """Choose, among the rows of one host and port, the one that an instance of this role obeys.

    A present row of the instance's own role wins over one for every role; an absent one wins only over one that became
    absent before it, whose removal the instance has reported already.
    """
    mine = [row for row in rows if concerns(row.role, role)]
    present = [row for row in mine if row.present]
    if present:
        return max(present, key=lambda row: row.role == role)
    return max(mine, key=lambda row: row.changed_at, default=None)


def _no_claim(source: str, revision: int, now: datetime) -> Claim:
    return Claim(
        source=source,
        revision=revision,
        source_etag="",
        bundle_id="",
        fingerprint_sha256="",
        thumbprint_sha1="",
        not_before=now,
        not_after=now,
        uploaded_at=now,
    )


def _elected(before: DesiredBinding, claims: Collection[Claim], *, now: datetime, traceparent: str) -> DesiredBinding:
    winner = elect(claims)
    kept = _bounded(claims, now)
    if winner is None:
        after = replace(
            before,
            state=BindingState.ABSENT,
            claims=kept,
            bundle_id="",
            fingerprint_sha256="",
            thumbprint_sha1="",
            source="",
            source_etag="",
            not_after=None,
            accepted_at=None,
            site=None,
        )
    else:
        after = replace(
            before,
            state=BindingState.PRESENT,
            claims=kept,
            bundle_id=winner.bundle_id,
            fingerprint_sha256=winner.fingerprint_sha256,
            thumbprint_sha1=winner.thumbprint_sha1,
            source=winner.source,
            source_etag=winner.source_etag,
            not_after=winner.not_after,
            accepted_at=before.accepted_at if before.source == winner.source else now,
            site=winner.site,
        )
    if _served(after) == _served(before) and before.generation > 0:
        return after
    return replace(after, generation=before.generation + 1, changed_at=now, traceparent=traceparent)


def _served(row: DesiredBinding) -> tuple[BindingState, str, str | None, str]:
    """What an instance would do differently for; who claims the row besides the winner is not part of it."""
    return (row.state, row.bundle_id, row.site, row.source)


def _bounded(claims: Collection[Claim], now: datetime) -> tuple[Claim, ...]:
    live = sorted((c for c in claims if c.withdrawn_at is None), key=lambda c: c.rank, reverse=True)[:MAX_CLAIMS]
    tombs = sorted(
        (c for c in claims if c.withdrawn_at is not None and now - c.withdrawn_at < WITHDRAWN_KEEP),
        key=lambda c: (c.withdrawn_at or now, c.source),
        reverse=True,
    )[:MAX_CLAIMS]
    return tuple(sorted((*live, *tombs), key=lambda c: c.source))
