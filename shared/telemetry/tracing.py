"""Where spans go, by `CERTCAST_TRACES`: to an OTLP collector, or to Azure Monitor by its distribution.

OpenTelemetry is imported here alone, and only where it is asked for. Spans are sent by a thread of its own, within a
second of their end, so that nothing waits for a collector; one that is away costs its spans and nothing else.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError
from shared.phrasing import shown
from shared.telemetry import log_lines, spans
from shared.telemetry.now_and_then import hush

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import TracerProvider

TRACES_SETTING = "CERTCAST_TRACES"
OTLP, AZURE_MONITOR = "otlp", "azure-monitor"
ENDS_IN_S = 2
"""How long the end of a process waits for its last spans."""
OF_TELEMETRY = ("OTEL_", "APPLICATIONINSIGHTS_")
"""How settings begin that the libraries read from the environment by themselves."""

_MISSING = (
    "{setting} is {value}, but what sends spans is not installed: install the packages of certcast's extra `traces`, "
    "which infra/agent/requirements.lock and requirements.txt have, or leave {setting} empty"
)


def begin(env: Mapping[str, str], *, service: str, instance: str = "") -> None:
    """Record spans and write log lines as the settings say; done once for a process.

    Args:
        env: The settings.
        service: What spans and records are said to come from.
        instance: The agent's id; empty for the Function.

    Raises:
        ConfigurationError: A setting is wrong, or what it needs is not installed.
    """
    if instance:
        spans.this_is(instance)
    if log_lines.wants_json(env):
        log_lines.write_json()
    where = env.get("CERTCAST_TRACES", "").strip().lower()
    if not where:
        return
    if where not in {OTLP, AZURE_MONITOR}:
        raise ConfigurationError(f"{TRACES_SETTING} must be {OTLP} or {AZURE_MONITOR}, not {shown(where)!r}")
    if where == AZURE_MONITOR and not os.environ.get("APPLICATIONINSIGHTS_CONNECTION_STRING", "").strip():
        raise ConfigurationError(
            f"{TRACES_SETTING} is {AZURE_MONITOR}, but APPLICATIONINSIGHTS_CONNECTION_STRING is not set: copy it from "
            "the Application Insights resource"
        )
    log_lines.note_fields()
    try:
        from shared.telemetry import recording  # noqa: PLC0415 - OpenTelemetry is an optional extra

        provider = recording.provider_of(service, instance, to_azure=where == AZURE_MONITOR)
    except ImportError:
        raise ConfigurationError(_MISSING.format(setting=TRACES_SETTING, value=where)) from None
    except ValueError as error:
        raise ConfigurationError(
            f"{TRACES_SETTING} is {where}: a setting of it is wrong: {shown(str(error))}"
        ) from None
    trouble = hush("opentelemetry", "azure.monitor.opentelemetry")
    _providers.append(provider)
    atexit.register(end)
    spans.record_with(recording.SpanRecorder(provider, trouble))


_providers: list[TracerProvider] = []


def end(*, within_s: float = ENDS_IN_S) -> None:
    """Record no more, send the last spans, and wait for that no longer than this; `atexit` calls it by itself."""
    spans.record_with(None)
    while _providers:
        last = threading.Thread(target=_shut, args=(_providers.pop(),), name="last spans", daemon=True)
        last.start()
        last.join(within_s)


def _shut(provider: TracerProvider) -> None:
    with suppress(Exception):  # the process ends, and nobody reads what a library says of it
        provider.shutdown()
