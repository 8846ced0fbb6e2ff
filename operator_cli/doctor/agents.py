"""What the agents' rows tell of agents that do not do their work."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.state.findings import Finding, Seen, Severity, bounded
from shared.state.presence import Presence, ago, presence_of, presence_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.state.records import InstanceRecord
    from shared.state.rows import Versioned

STARTS_WITHIN = timedelta(minutes=10)
"""An agent that is not ready after so long has something in its way; thousands of certificates take minutes."""

_NUMBERS = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,5}")
_LOOK_AT_IT = "see its log (`journalctl -u certcast-agent`, on Windows the event log) and whether its machine runs"
_FORGOTTEN = "one that was removed on purpose is forgotten half an hour after its last heartbeat"


def agents_seen(instances: Sequence[Versioned[InstanceRecord]], now: datetime) -> Seen:
    """Judge the instances' rows.

    Args:
        instances: The rows.
        now: The time by the service's clock.
    """
    if not instances:
        detail = (
            "no agent is registered, so nothing is served: start one beside each web server (docs/deploy.md, section 8)"
        )
        return Seen(findings=(Finding(code="no_agents", about="agents", detail=detail),))
    newest = max((_version(known.value.agent_version) for known in instances), default=())
    findings = [finding for known in instances for finding in _about(known, now, newest)]
    running = sum(presence_of(known, now) is Presence.RUNNING for known in instances)
    return Seen(remark=f"{running} of {len(instances)} run", findings=bounded(findings))


def _about(known: Versioned[InstanceRecord], now: datetime, newest: tuple[int, ...]) -> list[Finding]:
    """What is to be said of one instance; of one that does not run, that alone."""
    instance = known.value
    about = f"instance {instance.id}"
    match presence_of(known, now):
        case Presence.SILENT:
            detail = f"{presence_text(known, now)}: {_LOOK_AT_IT}; {_FORGOTTEN}"
            return [Finding(code="silent", about=about, detail=detail)]
        case Presence.STOPPED:
            detail = f"its agent was {presence_text(known, now)}: start it again; {_FORGOTTEN}"
            return [Finding(code="stopped", about=about, detail=detail, severity=Severity.WARNING)]
        case Presence.RUNNING:
            return [*_troubles(instance, about, now), *_oddities(instance, about, newest)]


def _troubles(instance: InstanceRecord, about: str, now: datetime) -> list[Finding]:
    findings = []
    if instance.trouble:
        detail = f"its web server cannot be used: {instance.trouble}"
        findings.append(Finding(code="trouble", about=about, detail=detail))
    elif not instance.ready:
        late = now - instance.started_at >= STARTS_WITHIN
        detail = f"it started {ago(instance.started_at, now)} and is not ready yet: its /readyz says what it waits for"
        severity = Severity.WRONG if late else Severity.WARNING
        findings.append(Finding(code="not_ready", about=about, detail=detail, severity=severity))
    if instance.failing:
        detail = (
            f"{instance.failing} of {instance.failing + instance.bindings} binding(s) are not served: `certcast "
            "status` names the uploads, `certcast status NAME` says why"
        )
        findings.append(Finding(code="failing", about=about, detail=detail))
    return findings


def _oddities(instance: InstanceRecord, about: str, newest: tuple[int, ...]) -> list[Finding]:
    findings = []
    version = _version(instance.agent_version)
    if version and version < newest:
        latest = ".".join(map(str, newest))
        detail = f"its agent is of version {instance.agent_version}, another's of {latest}: update it"
        findings.append(Finding(code="old_version", about=about, detail=detail, severity=Severity.WARNING))
    if instance.asked_id:
        detail = (
            f"it was to be {instance.asked_id}, which another agent runs under: give it a CERTCAST_INSTANCE of its own"
        )
        findings.append(Finding(code="id_in_use", about=about, detail=detail, severity=Severity.WARNING))
    return findings


def _version(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with; empty where it begins with none."""
    found = _NUMBERS.match(text)
    return tuple(map(int, found[0].split("."))) if found else ()
