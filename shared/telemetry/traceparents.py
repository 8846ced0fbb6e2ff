"""W3C trace contexts as text, as messages, rows and reports carry them; pure.

w3.org/TR/trace-context, "traceparent header field values", version 00.
"""

from __future__ import annotations

import re

_FORM = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\Z")


def ids_of(traceparent: str) -> tuple[str, str] | None:
    """The trace's and the span's id in hexadecimal; None where the text, which others may have written, is none."""
    found = _FORM.match(traceparent)
    return None if found is None else (found[1], found[2])


def trace_of(traceparent: str) -> str:
    """The trace's id; empty where the text is no trace context."""
    ids = ids_of(traceparent)
    return "" if ids is None else ids[0]


def traceparent_of(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """A span's trace context."""
    return f"00-{trace_id:032x}-{span_id:016x}-{int(sampled):02x}"
