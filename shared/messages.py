"""The queue messages, versioned, as text.

A message is a hint: it names rows, never their content, so that a late or doubled one does no harm. None carries a
key, a password or an address to follow. No top-level name may be one of a queue message's own properties: the
Functions host lays the body's names over the trigger's metadata (azure-functions-python-worker #1373).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from shared.binding import BindingKey
from shared.codec import Word, from_document, parse_json, to_document
from shared.errors import BrokenMessageError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logger(__name__)

MESSAGE_VERSION = 1

MAX_BODY_BYTES = 40_000
"""Room below the 64 KiB of a queue message once base64 has made four bytes of three."""

_NOT_IN_QUEUE_NAMES = re.compile(r"[^a-z0-9]+")
_SLUG_CHARS = 63 - len("cert-agent-") - len("-12345678") - len("-poison")

RECHECK_QUEUE = "certificate-recheck"
RESULTS_QUEUE = "install-results"


def queue_of(instance: str) -> str:
    """An instance's queue, which follows from its id alone: a row that named one could name any queue.

    `a-z 0-9 -`, and at most 63 characters with the `-poison` of the other one (learn.microsoft.com, "Naming queues and
    metadata").
    """
    slug = _NOT_IN_QUEUE_NAMES.sub("-", instance.lower()).strip("-")[:_SLUG_CHARS].strip("-")
    digest = hashlib.sha256(instance.encode()).hexdigest()[:8]
    return "-".join(part for part in ("cert-agent", slug, digest) if part)


def poison_queue_of(instance: str) -> str:
    """The queue on which an instance puts messages that it cannot act on."""
    return f"{queue_of(instance)}-poison"


class InstallOutcome(Word):
    """What became of one binding on one instance; a word of a newer version counts as a failure."""

    LIVE = "live"
    REMOVED = "removed"
    FAILED = "failed"
    PROBE_MISMATCH = "probe_mismatch"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingsChanged:
    """To one instance: these desired rows changed, read them again.

    Attributes:
        bindings: The rows' names.
        traceparent: W3C trace context of the change.
    """

    bindings: tuple[BindingKey, ...]
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecheckUpload:
    """To the Function: look at this upload again, send the events that stand in its row, or install it once more.

    Attributes:
        name: The upload.
        attempt: Counts what was tried already; the delay grows with it.
        traceparent: W3C trace context of the upload.
        events: Whether it is about the events.
        outlet: The one of the outlets that they are to be sent to, by its key; empty for all of them.
        redeploy: Whether it is to be installed once more everywhere; an older Function takes another look instead.
    """

    name: str
    attempt: int = 0
    traceparent: str = ""
    events: bool = False
    outlet: str = ""
    redeploy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingReport:
    """What one instance did about one desired row, and saw.

    Attributes:
        role, host, port: The row's.
        generation: The row's generation that was acted on.
        source: The upload elected in it; empty when the row is absent.
        outcome: What became of it.
        reason: Why, in a sentence, when it did not succeed.
        fingerprint_sha256: The certificate the probe was shown.
        finished_at: As the instance tells the time; orders only its own reports.
        stages_ms: Milliseconds by stage.
        drifted_at: When it was seen that something else than certcast had changed what is served here; None where that
            was never seen of this generation.
    """

    role: str
    host: str
    port: int
    generation: int
    source: str
    outcome: InstallOutcome
    finished_at: datetime
    reason: str = ""
    fingerprint_sha256: str = ""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    drifted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """To the Function: what one instance did.

    Attributes:
        instance: The instance's id.
        reports: One per binding acted on.
        traceparent: W3C trace context of the change that was acted on.
    """

    instance: str
    reports: tuple[BindingReport, ...]
    traceparent: str = ""


class EventType(Word):
    """The types of outgoing events, as CloudEvents have them; stable, each with a JSON schema in docs/events.

    A test event stands in no row: it is sent at once, to see whether it arrives.
    """

    ACCEPTED = "Certcast.CertificateAccepted"
    REJECTED = "Certcast.CertificateRejected"
    LIVE = "Certcast.CertificateLive"
    PARTIALLY_LIVE = "Certcast.CertificatePartiallyLive"
    INSTALL_FAILED = "Certcast.CertificateInstallFailed"
    REMOVED = "Certcast.CertificateRemoved"
    EXPIRING = "Certcast.CertificateExpiring"
    SUPERSEDED = "Certcast.CertificateSuperseded"
    TEST = "Certcast.Test"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """One event for other services; it waits in its upload's row and never travels on a queue.

    Attributes:
        event_id: The CloudEvent's id; the same in every attempt, so that a receiver can drop what it has seen.
        kind: Its type.
        subject: The upload's name.
        at: When it happened.
        document: The upload's entry of the status document, as JSON text.
        traceparent: W3C trace context of the upload.
        taken: Keys of the outlets that are done with it: they took it, or it was given up there.
    """

    event_id: str
    kind: EventType
    subject: str
    at: datetime
    document: str
    traceparent: str = ""
    taken: tuple[str, ...] = ()


T = TypeVar("T")
Message = TypeVar("Message", BindingsChanged, RecheckUpload, InstallReport)


def encode(message: BindingsChanged | RecheckUpload | InstallReport) -> str:
    """Write a message as JSON text with its version."""
    return json.dumps({"version": MESSAGE_VERSION, **to_document(message)}, separators=(",", ":"))


def decode(kind: type[Message], body: str | bytes) -> Message:
    """Read a message; of the things that it lists, those that cannot be read are left out with one line.

    Raises:
        BrokenMessageError: It is not JSON, of another version, or lacks a field, or nothing that it lists can be read.
    """
    try:
        document = parse_json(body)
    except ValueError:
        raise BrokenMessageError(f"a {kind.__name__} message is not JSON") from None
    if not isinstance(document, dict) or document.get("version") != MESSAGE_VERSION:
        raise BrokenMessageError(f"a {kind.__name__} message is not of version {MESSAGE_VERSION}")
    try:
        return from_document(kind, document)
    except BrokenMessageError:
        if (readable := _readable(kind, document)) is None:
            raise
    return from_document(kind, readable)


_LISTED: Mapping[type, tuple[str, type]] = {
    InstallReport: ("reports", BindingReport),
    BindingsChanged: ("bindings", BindingKey),
}


def _readable(kind: type, document: Mapping[str, object]) -> Mapping[str, object] | None:
    """A message without those of its items that cannot be read; None where that leaves nothing, or changes nothing."""
    name, of = _LISTED.get(kind, ("", object))
    items = document.get(name)
    if not isinstance(items, list):
        return None
    kept: list[object] = []
    for item in items:
        with suppress(BrokenMessageError):
            from_document(of, item)
            kept.append(item)
    if len(kept) in {0, len(items)}:
        return None
    log.warning(
        "%d of %d entries of a %s message are left out: unreadable", len(items) - len(kept), len(items), kind.__name__
    )
    return {**document, name: kept}


def split_changes(message: BindingsChanged) -> Iterator[BindingsChanged]:
    """Divide a message until each part fits a queue message; nearly always that is the message itself."""
    return _split(message.bindings, lambda part: replace(message, bindings=part))


def split_report(report: InstallReport) -> Iterator[InstallReport]:
    """Divide a report until each part fits a queue message."""
    return _split(report.reports, lambda part: replace(report, reports=part))


def _split(items: tuple[T, ...], message_of: Callable[[tuple[T, ...]], Message]) -> Iterator[Message]:
    message = message_of(items)
    if len(items) <= 1 or len(encode(message).encode()) <= MAX_BODY_BYTES:
        yield message
        return
    half = len(items) // 2
    yield from _split(items[:half], message_of)
    yield from _split(items[half:], message_of)


def trace_of(traceparent: str) -> str:
    """The trace's id in a W3C trace context, the same in all that comes of it; empty where there is none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= _TRACEPARENT_PARTS else ""


_TRACEPARENT_PARTS = 4


def new_traceparent() -> str:
    """Begin a trace (W3C Trace Context, version 00, sampled)."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
