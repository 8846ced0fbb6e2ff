"""The election for a host and port: claims are entered and withdrawn, and the winner stands in the desired row.

Pure: no clock, table or certificate is read. Who wins depends on the claims and on the time, and on nothing else. Every
change of a desired row is one of these functions, so that it can be applied under the row's ETag without knowing what
else happened.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.binding import BindingKey, BindingState, Claim, DesiredBinding
from shared.errors import CertcastError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LEAD = timedelta(minutes=10)
"""So long before its end a certificate loses to any that lasts longer. In that time a sweep comes, one each minute; an
agent whose hint was lost reads its rows, six minutes later at most; and what it reads is installed."""

WITHDRAWN_KEEP = timedelta(days=1)
"""How long a withdrawn claim is remembered: far longer than any run that could still carry the older revision."""

GENERATIONS_FROM = datetime(2026, 1, 1, tzinfo=UTC)
"""A generation is at least the seconds since then, which fit a table's 32 bits until 2094."""

MAX_CLAIMS = 200
"""Claims on one host and port; further uploads for it are refused, as forgetting any would let others push it out."""


class StaleRevisionError(CertcastError):
    """A newer look at the same upload has already been written, and finishes the work.

    Attributes:
        revision: The one that a row already holds; 0 where that is not known.
    """

    def __init__(self, text: str, *, revision: int = 0) -> None:
        super().__init__(text)
        self.revision = revision


class TooManyClaimsError(CertcastError):
    """As many uploads as are allowed claim a host and port already.

    Attributes:
        key: The row.
    """

    def __init__(self, key: BindingKey) -> None:
        super().__init__(f"{MAX_CLAIMS} uploads claim {key.phrased} already")
        self.key = key


_ANY_END = datetime.min.replace(tzinfo=UTC)


def precedence(claim: Claim, now: datetime) -> tuple[bool, datetime, tuple[datetime, datetime, str]]:
    """The order of election: what is greatest wins.

    What lasts goes before what does not, by rank; of what has ended or is about to, the end alone decides. So the
    winner changes with the time only when its own end comes near, and never back.
    """
    lasts = claim.not_after > now + LEAD
    return (lasts, _ANY_END if lasts else claim.not_after, claim.rank)


def elect(claims: Iterable[Claim], now: datetime) -> Claim | None:
    """Choose the claim that is served; the order in which the claims came makes no difference."""
    standing = (claim for claim in claims if claim.withdrawn_at is None)
    return max(standing, key=lambda claim: precedence(claim, now), default=None)


def has_run_out(row: DesiredBinding, now: datetime) -> bool:
    """Whether what is served for a host and port ends so soon that another claim wins there now."""
    if not row.present or row.not_after is None or row.not_after > now + LEAD:
        return False
    winner = elect(row.claims, now)
    return winner is not None and winner.source != row.source


def elected_again(row: DesiredBinding, *, now: datetime, traceparent: str = "") -> DesiredBinding:
    """Give a host and port whose certificate has run out to the claim that wins now."""
    return _elected(row, row.claims, now=now, traceparent=traceparent) if has_run_out(row, now) else row


def places_left(row: DesiredBinding | None, now: datetime) -> int:
    """How many more uploads may claim a host and port."""
    return MAX_CLAIMS - sum(_counts(claim, now) for claim in (row.claims if row is not None else ()))


def with_claim(
    row: DesiredBinding | None, key: BindingKey, claim: Claim, *, now: datetime, traceparent: str = ""
) -> DesiredBinding:
    """Enter (or, for a claim marked withdrawn, take out) one upload's claim and elect again.

    Raises:
        StaleRevisionError: The row already holds a later look at the same upload.
        TooManyClaimsError: It would be one more claim than a row holds.
    """
    before = row or _absent(key, changed_at=now)
    known = before.claim_of(claim.source)
    if known is not None and known.revision > claim.revision:
        raise _stale(key, known)
    others = [other for other in before.claims if other.source != claim.source]
    is_new = claim.withdrawn_at is None and (known is None or known.withdrawn_at is not None)
    if is_new and sum(_counts(other, now) for other in others) >= MAX_CLAIMS:
        raise TooManyClaimsError(key)
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
        raise _stale(key, known)
    return with_claim(row, key, replace(known, withdrawn_at=now), now=now, traceparent=traceparent)


def _stale(key: BindingKey, known: Claim) -> StaleRevisionError:
    text = f"{known.source} was looked at again meanwhile, for {key.phrased}"
    return StaleRevisionError(text, revision=known.revision)


def redeployed(row: DesiredBinding, *, now: datetime, traceparent: str = "") -> DesiredBinding:
    """Ask every instance to install and prove the same certificate once more."""
    return replace(row, generation=next_generation(row.generation, now), changed_at=now, traceparent=traceparent)


def next_generation(generation: int, now: datetime) -> int:
    """The generation of a change: greater than the one before, also than any of a row that was lost or is older now.

    Agents and reports remember generations longer than a table that was emptied, or restored from a copy.
    """
    return max(generation + 1, int((now - GENERATIONS_FROM).total_seconds()))


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
    after = _absent(before.key, changed_at=before.changed_at, generation=before.generation)
    after = replace(after, claims=_bounded(claims, now), traceparent=before.traceparent)
    if (winner := elect(after.claims, now)) is not None:
        after = replace(
            after,
            state=BindingState.PRESENT,
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
    generation = next_generation(before.generation, now)
    return replace(after, generation=generation, changed_at=now, traceparent=traceparent)


def _absent(key: BindingKey, *, changed_at: datetime, generation: int = 0) -> DesiredBinding:
    return DesiredBinding(
        role=key.role,
        host=key.host,
        port=key.port,
        state=BindingState.ABSENT,
        generation=generation,
        changed_at=changed_at,
    )


def _served(row: DesiredBinding) -> tuple[BindingState, str, str | None, str]:
    """What an instance acts on; claims that were not elected make no difference to it."""
    return (row.state, row.bundle_id, row.site, row.source)


def _counts(claim: Claim, now: datetime) -> bool:
    """Whether a claim takes one of the places in its row: one that has expired makes room."""
    return claim.withdrawn_at is None and claim.not_after >= now


def _bounded(claims: Collection[Claim], now: datetime) -> tuple[Claim, ...]:
    standing = (claim for claim in claims if claim.withdrawn_at is None)
    live = sorted(standing, key=lambda claim: precedence(claim, now), reverse=True)[:MAX_CLAIMS]
    tombs = sorted(
        (c for c in claims if c.withdrawn_at is not None and now - c.withdrawn_at < WITHDRAWN_KEEP),
        key=lambda c: (c.withdrawn_at or now, c.source),
        reverse=True,
    )[:MAX_CLAIMS]
    return tuple(sorted((*live, *tombs), key=lambda c: c.source))
