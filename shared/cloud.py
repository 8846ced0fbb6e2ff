"""Everything a use case acts on, in one value; the composition roots fill it with edges, the tests with fakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.ports import BundleVault, Queues, Secrets, UploadContainer
from shared.state import State
from shared.validation import ValidationPolicy


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The storage account and what goes with it.

    Attributes:
        uploads: The container that uploaders write to.
        bundles: The sealed bundles.
        queues: The account's queues.
        state: The four tables.
        secrets: Where referred-to passwords are had.
        policy: What is accepted.
        scrub_password: Whether an accepted upload's password is taken out of its metadata.
        now: The clock.
    """

    uploads: UploadContainer
    bundles: BundleVault
    queues: Queues
    state: State
    secrets: Secrets
    policy: ValidationPolicy
    scrub_password: bool = True
    now: Callable[[], datetime] = field(default=utc_now)
