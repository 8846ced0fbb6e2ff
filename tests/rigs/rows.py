"""Rows and reports in which a test names only what it is about."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.binding import ANY_ROLE, Claim, DesiredBinding
from shared.messages import BindingReport, InstallOutcome
from shared.state.records import InstanceRecord
from tests.fakes.storage import START


def registered(name: str, *, role: str = ANY_ROLE, at: datetime = START, **others: Any) -> InstanceRecord:
    """A registered instance whose heart beats at a moment."""
    usual = InstanceRecord(
        id=name,
        role=role,
        host=name,
        target_kind="fake",
        target_version="1",
        agent_version="1",
        session=name,
        started_at=at,
        last_seen=at,
    )
    return replace(usual, **others)


def claim(source: str = "a.pfx", *, not_before: datetime = START, bundle: str = "b/c", **others: Any) -> Claim:
    """What an upload claims a host with, for ninety days."""
    usual = Claim(
        source=source,
        revision=1,
        source_etag="etag",
        bundle_id=bundle,
        fingerprint_sha256=f"fingerprint of {bundle}",
        thumbprint_sha1=f"thumbprint of {bundle}",
        not_before=not_before,
        not_after=not_before + timedelta(days=90),
        uploaded_at=not_before,
    )
    return replace(usual, **others)


def report_on(
    row: DesiredBinding, *, at: datetime, outcome: InstallOutcome | None = None, reason: str = ""
) -> BindingReport:
    """What an instance that did as it was told says of a row, unless another outcome is given."""
    return BindingReport(
        role=row.role,
        host=row.host,
        port=row.port,
        generation=row.generation,
        source=row.source,
        outcome=outcome or (InstallOutcome.LIVE if row.present else InstallOutcome.REMOVED),
        reason=reason,
        fingerprint_sha256=row.fingerprint_sha256,
        finished_at=at,
    )
