"""An example body for each type of event, made by the code that makes events; docs/events/examples has them.

To write them for changed code: `python -m tests.rigs.event_examples`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.binding import BindingKey
from shared.function.announcing import event_type
from shared.function.outbox import with_event
from shared.messages import EventType, OutgoingEvent
from shared.state.cloud_event import trial_event
from shared.state.records import UploadRecord, UploadStatus
from shared.verdict import VerdictCode, Violation
from tests.rigs.event_schemas import FOLDER, as_sent

EXAMPLES = FOLDER / "examples"

AT = datetime(2030, 1, 2, 3, 4, 5, 120000, UTC)
_NAME, _HOST = "shop.pfx", "www.example.com"
_ACCEPTED = UploadRecord(
    name=_NAME,
    revision=1,
    status=UploadStatus.ACCEPTED,
    etag="0x1",
    hosts=(_HOST,),
    subject=f"CN={_HOST}",
    issuer="CN=Example CA",
    chain=(f"CN={_HOST}", "CN=Example CA"),
    fingerprint_sha256="3f" * 32,
    thumbprint_sha1="9A" * 20,
    not_before=datetime(2030, 1, 1, tzinfo=UTC),
    not_after=datetime(2030, 4, 1, tzinfo=UTC),
    claims=(BindingKey(role="*", host=_HOST, port=443),),
    total=3,
    uploaded_at=AT,
    counted_from=AT,
    traceparent="00-" + "4b" * 16 + "-" + "7a" * 8 + "-01",
)
_LIVE = replace(_ACCEPTED, status=UploadStatus.LIVE, live=3, live_at=AT + timedelta(seconds=1, milliseconds=200))
_NOT_COVERED = Violation(
    code=VerdictCode.HOST_NOT_COVERED,
    detail="the certificate is for shop.example.com and not for www.example.com; upload one that is for both",
)
_TOLD = (
    _ACCEPTED,
    _LIVE,
    replace(_ACCEPTED, status=UploadStatus.PARTIALLY_LIVE, live=2, reason="instance web-2: nginx refused it"),
    replace(_ACCEPTED, status=UploadStatus.FAILED, reason="instance web-0: nginx refused it"),
    replace(_ACCEPTED, status=UploadStatus.SUPERSEDED, total=0, reason="superseded by shop-2030.pfx"),
    replace(_ACCEPTED, status=UploadStatus.REMOVED, total=0),
    UploadRecord(
        name=_NAME,
        revision=1,
        status=UploadStatus.REJECTED,
        violations=(_NOT_COVERED,),
        hosts=(_HOST,),
        uploaded_at=AT,
        traceparent=_ACCEPTED.traceparent,
    ),
)


def _event(about: UploadRecord, kind: EventType) -> OutgoingEvent:
    event_id = kind.value.encode().hex()[:32].ljust(32, "0")
    [event] = with_event(about, about, kind, at=AT, event_id=event_id).due
    return event


def examples() -> Mapping[str, dict[str, Any]]:
    """The bodies by their types."""
    events = [_event(about, kind) for about in _TOLD if (kind := event_type(about)) is not None]
    events += [_event(replace(_LIVE, warned_days=14), EventType.EXPIRING), trial_event(at=AT, event_id="0" * 32)]
    return {event.kind.value: as_sent(event) for event in events}


def written(body: Mapping[str, Any]) -> str:
    """How a body stands in its file."""
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for name, body in examples().items():
        (EXAMPLES / f"{name}.json").write_text(written(body), encoding="utf-8")
    sys.stdout.write(f"{len(examples())} examples in {EXAMPLES}\n")


if __name__ == "__main__":
    main()
