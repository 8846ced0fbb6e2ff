"""The names of our spans and of what they and the log lines carry; docs/observability queries by them.

Where OpenTelemetry's semantic conventions have a name it is theirs (opentelemetry.io, "Semantic conventions":
messaging, server, error); what only certcast knows begins with `certcast.`.
"""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """A kind of span, by its name."""

    NOTICE = "certcast.notice"
    RECHECK = "certcast.recheck"
    SWEEP = "certcast.sweep"
    LOOK = "certcast.look"
    READ = "certcast.read"
    JUDGE = "certcast.judge"
    SEAL = "certcast.seal"
    CLAIM = "certcast.claim"
    WITHDRAW = "certcast.withdraw"
    FAN_OUT = "certcast.fan_out"
    SCRUB = "certcast.scrub"
    ACT = "certcast.act"
    RECONCILE = "certcast.reconcile"
    FETCH = "certcast.fetch"
    APPLY = "certcast.apply"
    PROBE = "certcast.probe"
    INSTALL = "certcast.install"
    REPORT = "certcast.report"
    FOLD = "certcast.fold"
    ENTER = "certcast.enter"
    SETTLE = "certcast.settle"
    PUBLISH = "certcast.publish"


class Kind(Enum):
    """What a span is to others (OpenTelemetry's SpanKind): work inside, a message sent, a message taken, a request."""

    INTERNAL = "INTERNAL"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"
    CLIENT = "CLIENT"


UPLOAD = "certcast.upload"
HOST = "certcast.host"
INSTANCE = "certcast.instance"
GENERATION = "certcast.generation"
VERDICT = "certcast.verdict"
"""The codes of what speaks against an upload, separated by spaces; empty where nothing does."""
STATUS = "certcast.status"
"""The status of an upload, as its row has it after the span."""
OUTCOME = "certcast.outcome"
"""What became of one binding on one instance."""
REASON = "certcast.reason"
"""Why that is not as it should be, in a sentence; a span's own description does not reach Application Insights."""
SECONDS_TO_LIVE = "certcast.seconds_to_live"
BINDINGS = "certcast.bindings"
"""How many bindings, or bundles, a span is about."""

ERROR = "error.type"
PORT = "server.port"
SYSTEM = "messaging.system"
QUEUE = "messaging.destination.name"
MESSAGES = "messaging.batch.message_count"

QUEUE_STORAGE = "azure_queue_storage"
"""Azure Queue Storage has no word of its own among the conventions' `messaging.system`, which allow others."""
