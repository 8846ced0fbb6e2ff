"""The Functions host's settings: host.json, local.settings.json, `%NAME%` and connections.

https://learn.microsoft.com/azure/azure-functions/functions-host-json
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.config import EMULATOR_SHORTHAND, emulator_connection_string
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)")
_PLACEHOLDER = re.compile(r"%([^%]+)%")
_LEAST_POLLING_S = 0.1
_DEFAULT_CONNECTION = "AzureWebJobsStorage"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """`extensions.queues` of host.json, with the host's own defaults.

    Attributes:
        batch_size: Messages asked for at a time, 1 to 32.
        new_batch_threshold: With this many messages in hand or fewer, the next batch is asked for.
        max_polling_interval_s: Longest wait between two looks at an empty queue.
        visibility_timeout_s: Wait before a message whose function failed is tried again.
        max_dequeue_count: Tries before a message goes to the poison queue.
        base64: Whether messages are base64 text.
        invisibility_s: How long a message in hand stays hidden; renewed at half that time. Not a setting of
            host.json: the host holds messages 10 minutes, tests hold them shorter.
    """

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_polling_interval_s: float = 60.0
    visibility_timeout_s: float = 0.0
    max_dequeue_count: int = 5
    base64: bool = True
    invisibility_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What the host reads from host.json.

    Attributes:
        queues: For queue triggers.
        route_prefix: Begins every HTTP route.
        function_timeout_s: Longest run of a function; None is no limit.
    """

    queues: QueueSettings = field(default_factory=QueueSettings)
    route_prefix: str = "api"
    function_timeout_s: float | None = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a storage account's queues: by connection string, or by URL with an identity.

    Attributes:
        connection_string: Complete; None with an identity.
        queue_url: The queue service's address; None with a connection string.
        client_id: Client id of a user-assigned identity.
    """

    connection_string: str | None = field(default=None, repr=False)
    queue_url: str | None = None
    client_id: str | None = None


def read_host_json(root: Path) -> HostSettings:
    """Read host.json.

    Raises:
        ConfigurationError: It is missing, no JSON, or has a value the host would refuse.
    """
    document = _read_json(root / "host.json")
    if document.get("version") != "2.0":
        raise ConfigurationError(f'{root / "host.json"}: "version" must be "2.0"')
    extensions = document.get("extensions", {})
    queues, http = extensions.get("queues", {}), extensions.get("http", {})
    batch_size = _number(queues, "batchSize", 16, least=1, most=32)
    timeout = document.get("functionTimeout", "00:30:00")
    return HostSettings(
        queues=QueueSettings(
            batch_size=batch_size,
            new_batch_threshold=_number(
                queues, "newBatchThreshold", batch_size // 2 * (os.cpu_count() or 1), least=0, most=1000
            ),
            max_polling_interval_s=max(_LEAST_POLLING_S, _seconds(queues.get("maxPollingInterval", "00:01:00"))),
            visibility_timeout_s=_seconds(queues.get("visibilityTimeout", "00:00:00")),
            max_dequeue_count=_number(queues, "maxDequeueCount", 5, least=1, most=1_000_000),
            base64=str(queues.get("messageEncoding", "base64")).lower() == "base64",
        ),
        route_prefix=str(http.get("routePrefix", "api")).strip("/"),
        function_timeout_s=None if timeout == "-1" else _seconds(timeout),
    )


def read_local_settings(root: Path) -> dict[str, str]:
    """The `Values` of local.settings.json; nothing where there is no such file.

    Raises:
        ConfigurationError: It is no JSON, or encrypted.
    """
    path = root / "local.settings.json"
    if not path.is_file():
        return {}
    document = _read_json(path)
    if document.get("IsEncrypted"):
        raise ConfigurationError(f"{path} is encrypted: run `func settings decrypt`")
    values = document.get("Values", {})
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ConfigurationError(f'{path}: "Values" must be an object of strings')
    return dict(values)


def resolve(text: str, settings: Mapping[str, str], purpose: str) -> str:
    """Replace each `%NAME%` by the setting of that name.

    Raises:
        ConfigurationError: There is no such setting.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise ConfigurationError(f"{purpose} refers to the setting {match[1]}, which is not set")
        return settings[match[1]]

    return _PLACEHOLDER.sub(value, text)


def connection(name: str, settings: Mapping[str, str], purpose: str) -> Connection:
    """Find the connection a trigger names, where the host looks for it.

    That is a setting of that name, or of `AzureWebJobs` and the name; with an identity one such as
    `name__queueServiceUri`.

    Raises:
        ConfigurationError: There is none.
    """
    name = name or _DEFAULT_CONNECTION
    for setting in (f"AzureWebJobs{name}", name):
        if text := settings.get(setting, "").strip():
            emulator = text.rstrip(";").lower() == EMULATOR_SHORTHAND
            return Connection(connection_string=emulator_connection_string() if emulator else text)
        url = settings.get(f"{setting}__queueServiceUri", "").strip()
        account = settings.get(f"{setting}__accountName", "").strip()
        if url or account:
            return Connection(
                queue_url=url or f"https://{account}.queue.core.windows.net",
                client_id=settings.get(f"{setting}__clientId", "").strip() or None,
            )
    raise ConfigurationError(f"{purpose} needs the connection {name}: set {name}, or {name}__queueServiceUri")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} must hold a JSON object")
    return document


def _number(section: Mapping[str, Any], name: str, default: int, *, least: int, most: int) -> int:
    value = section.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"host.json: {name} must be a whole number from {least} to {most}, not {value!r}")
    return value


def _seconds(text: object) -> float:
    match = _TIMESPAN.fullmatch(str(text))
    if match is None:
        raise ConfigurationError(f"host.json: {text!r} is not a time span such as 00:00:05")
    days, hours, minutes, seconds = match.groups(default="0")
    return float(days) * 86_400 + float(hours) * 3600 + float(minutes) * 60 + float(seconds)
