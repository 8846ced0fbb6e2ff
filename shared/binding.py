"""Who owns a host and port: claims of uploads, the desired row they stand in, and the row that an instance obeys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY_ROLE = "*"
"""Stands in a row for every role."""

MAX_PORT = 65_535


def phrased(host: str, port: int) -> str:
    """A host and port, or the default of a port, as people are told of it."""
    return f"the default of port {port}" if host == DEFAULT_HOST else f"{host}:{port}"


class BindingState(StrEnum):
    """Whether a host and port is to be served."""

    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BindingKey:
    """Names one desired row.

    Attributes:
        role: The instances concerned; `*` for every role.
        host: Host name in A-label form, or a wildcard; `DEFAULT_HOST` for what answers where no host does.
        port: TCP port, 1 to 65535.
    """

    role: str
    host: str
    port: int

    @property
    def host_port(self) -> str:
        """The form used as a row key."""
        return f"{self.host}:{self.port}"

    @property
    def phrased(self) -> str:
        """The form used in messages to people."""
        return phrased(self.host, self.port)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredBinding:
    """The desired state of one host and port, and everything the next election needs.

    Attributes:
        role, host, port: As in `BindingKey`.
        state: `absent` rows are kept for 30 days, so that an instance that was off still learns of the removal.
        generation: Grows with each change of what is to be served, and never comes again, even of a row that was lost.
        changed_at: When the generation last grew.
        claims: Every upload's claim, withdrawn ones included for a while.
        bundle_id: The elected claim's, as the columns from here to `site` are; empty when absent.
        accepted_at: When the elected claim's upload took its place.
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
