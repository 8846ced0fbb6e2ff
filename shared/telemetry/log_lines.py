"""Log lines with fixed fields: one JSON object a line, by `CERTCAST_LOG_FORMAT=json`.

The fields come from the work itself and not from the text, and all text is escaped: no name can forge one.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError
from shared.phrasing import LOGGED_CHARS, shown
from shared.telemetry import names
from shared.telemetry.spans import fields
from shared.telemetry.traceparents import ids_of

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_SETTING = "CERTCAST_LOG_FORMAT"
FIELDS = (
    *("time", "level", "logger", "message"),
    *("upload", "host", "instance", "generation", "trace_id", "span_id", "exception"),
)
"""Of each line, in this order; what is not known is null."""

_AS_EXTRA = {"upload": names.UPLOAD, "host": names.HOST, "instance": names.INSTANCE, "generation": names.GENERATION}
_plain = logging.Formatter()


def wants_json(env: Mapping[str, str]) -> bool:
    """Read whether log lines are to be JSON.

    Raises:
        ConfigurationError: The setting says neither.
    """
    text = env.get("CERTCAST_LOG_FORMAT", "").strip().lower()
    if text in {"", "text"}:
        return False
    if text == "json":
        return True
    raise ConfigurationError(f"{FORMAT_SETTING} must be text or json, not {shown(text)!r}")


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record, with what is worked on where it was made."""
        at = datetime.fromtimestamp(record.created, UTC)
        text = record.exc_text or (_plain.formatException(record.exc_info) if record.exc_info else None)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **known_now(),
            "exception": text,
        }
        return json.dumps(line)


def known_now() -> dict[str, str | int | None]:
    """The fields of what is worked on now."""
    now = fields()
    trace_id, span_id = ids_of(now.traceparent) or (None, None)
    return {
        "upload": now.upload and shown(now.upload, LOGGED_CHARS),
        "host": now.host and shown(now.host, LOGGED_CHARS),
        "instance": now.instance and shown(now.instance, LOGGED_CHARS),
        "generation": now.generation,
        "trace_id": trace_id,
        "span_id": span_id if now.recorded is not None else None,
    }


def note_fields() -> None:
    """Have every log record keep what it is about, for what exports records with all that they have."""
    make = logging.getLogRecordFactory()
    if isinstance(make, _Noting):
        return
    logging.setLogRecordFactory(_Noting())


class _Noting:
    """Makes log records that know what was worked on."""

    def __init__(self) -> None:
        self._make = logging.getLogRecordFactory()

    def __call__(self, *arguments: object, **more: object) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*arguments, **more)
        known = known_now()
        for name, attribute in _AS_EXTRA.items():
            if known[name] is not None:
                setattr(record, attribute, known[name])
        return record


def write_json() -> None:
    """Have what writes log lines now write JSON: also the Functions worker's own handler, which sends them to the host.

    github.com/Azure/azure-functions-python-worker, workers/proxy_worker/dispatcher.py, AsyncLoggingHandler: a record is
    sent as its formatter writes it.
    """
    for handler in logging.getLogger().handlers:
        if type(handler).__module__.partition(".")[0] != "opentelemetry":
            handler.setFormatter(JsonLines())
