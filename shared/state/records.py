"""The rows of the five tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, BindingKey
from shared.bundle import MAX_INTERMEDIATES
from shared.codec import Word
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome, OutgoingEvent, queue_of
from shared.phrasing import LOGGED_CHARS, shown
from shared.state.history import MAX_PAST, HistoryEntry
from shared.verdict import MAX_VIOLATIONS, MAX_WARNINGS, Caution, Violation

if TYPE_CHECKING:
    from shared.state.rows import Versioned

UPLOADS_TABLE = "uploads"
BINDINGS_TABLE = "bindings"
INSTANCES_TABLE = "instances"
INSTALLATIONS_TABLE = "installations"
HISTORY_TABLE = "history"

HEARTBEAT_S = 30
"""Seconds between two heartbeats of an agent."""
SILENT_AFTER = timedelta(seconds=3 * HEARTBEAT_S)
"""An instance that missed three heartbeats is not waited for."""
REAP_AFTER = timedelta(minutes=30)
"""An instance silent for so long is taken for scaled in: its row and queues are deleted."""

MAX_ID_CHARS = 200
"""Of an instance's id; a row with a longer one is told of nothing."""
SUBJECT_CHARS = 500
"""Kept of a certificate's subject and issuer, which nothing bounds but the size of the file."""
MAX_DNS_NAMES = 250
MAX_DNS_NAME_CHARS = 253

BEHIND, ASIDE, JOINED = "behind", "aside", "joined"
"""What `UploadRecord.apart` says of an instance: it has not proved all of the upload; it does not count, as it obeys
rows of its own role instead or is registered no more; it was not told, and has proved it."""
MAX_APART = 500
"""Instances kept there; where there are more, counts stay as they were written."""

DRIFTED = "changed behind certcast's back"
"""What is said of a binding that something else changed."""

DELETED = "deleted"
"""Stands in an upload's `etag` when its removal is complete."""


class UploadStatus(Word):
    """Where an upload is on its way; with a word of a newer version it is left alone until something is uploaded."""

    RECEIVED = "received"
    WAITING_FOR_METADATA = "waiting_for_metadata"
    REJECTED = "rejected"
    SCHEDULED = "scheduled"
    ACCEPTED = "accepted"
    LIVE = "live"
    PARTIALLY_LIVE = "partially_live"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    REMOVED = "removed"


SETTLEABLE = frozenset(
    {
        UploadStatus.ACCEPTED,
        UploadStatus.LIVE,
        UploadStatus.PARTIALLY_LIVE,
        UploadStatus.FAILED,
        UploadStatus.SUPERSEDED,
        UploadStatus.REMOVED,
    }
)
"""Statuses that follow from what the instances report; the others follow from the upload alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRecord:
    """One upload: what was judged, what it claims, how far it is served.

    Whatever uploads hold, a row of it stays small and fit to be shown: what describes the certificate, and the reasons,
    are cut and cleaned when the value is made.

    Attributes:
        name: Blob name, or a URL-like name for other certificate sources.
        revision: Grows with every look taken at the upload; orders looks that overlap.
        status: Where it is on its way.
        etag: The version whose processing is complete, fan-out and scrubbing included; empty until then.
        source_etag: The version that was judged; differs from `etag` once the password was scrubbed.
        violations: Why it is not served, or not yet.
        warnings: What its uploader should know besides.
        chain: Subjects of what is served, the leaf's first.
        default: Whether it is also asked to answer where no host does, on its port.
        claims: The rows that hold, or may hold, a claim of this upload, also while it is being replaced.
        expected: Instances registered at the last fan-out.
        live: Instances that proved every binding of this upload (for a removed one: that still serve it).
        total: Instances that are waited for.
        apart: With which instances it is otherwise than proved by one that was told: `behind`, `aside`, `joined`. Of a
            removed upload, `behind` are those that had it and have not let go of it.
        won: Hosts and ports that it is served for; None until reports were looked at, and `apart` is known.
        missing: Ids of instances that are waited for, or that serve it no more; derived as it is told, empty in rows.
        remark: What an instance said of what it proved, and who; shown while the upload is live.
        drifted_at: When that was last seen to have been changed by something else than certcast; None for never.
        uploaded_at: When the content was uploaded, by the storage account's clock.
        counted_from: What `seconds_to_live` counts from: the upload, or the change that made it take over.
        fanned_out_at: When the instances were told.
        live_at: When all instances had proved it.
        resent: Whether instances that had not reported were told once more.
        untold: Instances whose queue did not take what they were to be told.
        announced: The status that the last event, and the last entry of its history on a status, was about.
        due: Events that other services have not been sent yet.
        past: Entries of its history that have yet to be written to table `history`, oldest first.
        due_asked_at: When the sweep last asked for them to be sent; None where it had not to.
        warned_days: The expiry warning given last, in days before the end; -1 for that on expiry.
        warned_of: Fingerprint of the certificate it was about.
        tagged: Names the tags that the blob was given last; empty before the first ones.
        tags_refused: Why the blob's tags do not show all of this status; empty where they do, or will soon.
        password_left: Why an accepted upload's password is still in its metadata; empty where it is not.
        judging: The version that takes long to judge, while it is judged.
        judging_until: Until when others leave it to the look that is at it.
        held_up: What the last look at a version that is not done with ended in; empty where none did.
        held_up_since: When the first look at it began; None where there is no such version.
        noticed_at: When its event reached the Function.
        judged_at: When the verdict was reached.
    """

    name: str
    revision: int
    status: UploadStatus
    etag: str = ""
    source_etag: str = ""
    violations: tuple[Violation, ...] = ()
    warnings: tuple[Caution, ...] = ()
    reason: str = ""
    hosts: tuple[str, ...] = ()
    port: int = 443
    role: str = ANY_ROLE
    site: str | None = None
    default: bool = False
    subject: str = ""
    issuer: str = ""
    dns_names: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    fingerprint_sha256: str = ""
    thumbprint_sha1: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    bundle_id: str = ""
    claims: tuple[BindingKey, ...] = ()
    expected: tuple[str, ...] = ()
    live: int = 0
    total: int = 0
    apart: Mapping[str, str] = field(default_factory=dict)
    won: int | None = None
    missing: tuple[str, ...] = ()
    remark: str = ""
    drifted_at: datetime | None = None
    uploaded_at: datetime | None = None
    counted_from: datetime | None = None
    noticed_at: datetime | None = None
    judged_at: datetime | None = None
    fanned_out_at: datetime | None = None
    live_at: datetime | None = None
    resent: bool = False
    untold: tuple[str, ...] = ()
    announced: str = ""
    due: tuple[OutgoingEvent, ...] = ()
    past: tuple[HistoryEntry, ...] = ()
    due_asked_at: datetime | None = None
    warned_days: int | None = None
    warned_of: str = ""
    tagged: str = ""
    tags_refused: str = ""
    password_left: str = ""
    judging: str = ""
    judging_until: datetime | None = None
    held_up: str = ""
    held_up_since: datetime | None = None
    traceparent: str = ""

    def __post_init__(self) -> None:
        names = self.dns_names[:MAX_DNS_NAMES]
        object.__setattr__(self, "violations", self.violations[:MAX_VIOLATIONS])
        object.__setattr__(self, "warnings", self.warnings[:MAX_WARNINGS])
        chain = self.chain[: MAX_INTERMEDIATES + 1]
        object.__setattr__(self, "chain", tuple(shown(subject, SUBJECT_CHARS) for subject in chain))
        object.__setattr__(self, "past", self.past[-MAX_PAST:])
        for told in ("reason", "remark", "tags_refused", "password_left", "held_up"):
            object.__setattr__(self, told, shown(getattr(self, told), LOGGED_CHARS))
        object.__setattr__(self, "subject", shown(self.subject, SUBJECT_CHARS))
        object.__setattr__(self, "issuer", shown(self.issuer, SUBJECT_CHARS))
        object.__setattr__(self, "dns_names", tuple(shown(name, MAX_DNS_NAME_CHARS) for name in names))

    @property
    def asked(self) -> tuple[BindingKey, ...]:
        """The rows that its metadata asks for: one for each host, and one for the default."""
        hosts = (*self.hosts, DEFAULT_HOST) if self.default else self.hosts
        return tuple(BindingKey(role=self.role, host=host, port=self.port) for host in hosts)

    @property
    def seconds_to_live(self) -> float | None:
        """Seconds from upload to proved on every instance; None until then."""
        if self.live_at is None or self.counted_from is None:
            return None
        return max(0.0, (self.live_at - self.counted_from).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """One registered instance, written by its agent every 30 s.

    Attributes:
        id: Instance id; unique among running agents.
        role: Which uploads concern it, besides those for every role.
        host: Machine name.
        target_kind: The web server it installs on.
        target_version: That server's version.
        agent_version: certcast's version there.
        session: Changes with every start of the agent; another one in an agent's row is another agent with its id.
        started_at: When the agent started.
        last_seen: Last heartbeat, as the instance tells the time; shown to people. Liveness goes by the row's own age.
        bindings: Bindings served and proved.
        failing: Desired bindings that are not.
        ready: Every desired binding has been applied at least once since the start.
        stopped: The agent was stopped cleanly and is not to be waited for.
        asked_id: The id that its settings ask for, where another agent runs under that; else empty.
        trouble: What keeps its web server from being used now, in a sentence; empty where all is well.
        queue: Its queue, which follows from its id. A Function of version 0.1.0 cannot read a row without it, and sends
            there; what stands in a row is not believed.
    """

    id: str
    role: str
    host: str
    target_kind: str
    target_version: str
    agent_version: str
    session: str
    started_at: datetime
    last_seen: datetime
    bindings: int = 0
    failing: int = 0
    ready: bool = False
    stopped: bool = False
    asked_id: str = ""
    trouble: str = ""
    queue: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trouble", shown(self.trouble, LOGGED_CHARS))
        object.__setattr__(self, "queue", queue_of(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationRecord:
    """What one instance last reported about one host and port.

    Attributes:
        host, port, instance: What it is about.
        role: Role of the desired row it obeyed.
        generation: That row's generation.
        source: The upload elected in it.
        outcome: What became of it.
        finished_at: As the instance tells the time; orders the reports of one instance about one generation.
        reported_at: When the report was folded in.
        reason: Why, when it did not succeed.
        fingerprint_sha256: The certificate its probe was shown.
        stages_ms: Milliseconds by stage on the instance.
        drifted_at: When it was last seen that something else than certcast had changed what is served here; None where
            that was never seen of this generation.
    """

    host: str
    port: int
    instance: str
    role: str
    generation: int
    source: str
    outcome: InstallOutcome
    finished_at: datetime
    reported_at: datetime
    reason: str = ""
    fingerprint_sha256: str = ""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    drifted_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shown(self.reason, LOGGED_CHARS))

    @property
    def told(self) -> str:
        """The reason as people read it: also what to do about a newer version's outcome, and what was changed."""
        said = [self.reason] if self.reason else []
        if not self.outcome.is_known:
            newer = f"outcome '{self.outcome.value}' is of a newer version: update the Function and this command"
            said.insert(0, newer)
        if self.drifted_at is not None and self.outcome is InstallOutcome.LIVE and DRIFTED not in self.reason:
            said.append(f"{DRIFTED} at {self.drifted_at:%Y-%m-%d %H:%M} UTC; put right")
        return "; ".join(said)


def is_awaited(known: Versioned[InstanceRecord], now: datetime) -> bool:
    """Whether a status should wait for this instance; its own clock has no say in it."""
    return not known.value.stopped and now - known.written_at < SILENT_AFTER
