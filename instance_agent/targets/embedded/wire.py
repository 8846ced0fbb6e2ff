"""What the agent and its embedded workers say to each other over a socket pair; who says what when is not known here.

A message is its length in four bytes and JSON. Keys pass here and nowhere else: both ends were open before the worker
began, so no file, argument or environment holds one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.embedded.listeners import Serving
from instance_agent.targets.embedded.ports import ListenerError
from shared.bundle import CertificateBundle
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence

    from instance_agent.targets.base import BindingChange

Message = dict[str, Any]

_LENGTH_BYTES = 4
_KINDS: dict[str, type[CertcastError]] = {
    "listener": ListenerError,
    "unavailable": ServerUnavailableError,
    "apply": ApplyError,
    "configuration": ConfigurationError,
}


async def send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    """Send one message.

    Raises:
        OSError: The other end is gone.
    """
    text = json.dumps(message).encode()
    writer.write(len(text).to_bytes(_LENGTH_BYTES) + text)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> Message:
    """Receive one message.

    Raises:
        EOFError: The other end is gone.
        OSError: The same.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
    message: Message = json.loads(await reader.readexactly(length))
    return message


def told_changes(changes: Sequence[BindingChange]) -> Message:
    """Changes as a message; a bundle of several hosts is in it once."""
    numbers: dict[CertificateBundle, int] = {}
    installs = [
        [change.host, change.port, numbers.setdefault(change.bundle, len(numbers))]
        for change in changes
        if isinstance(change, Install)
    ]
    return {
        "installs": installs,
        "removals": [list(change.key) for change in changes if isinstance(change, Remove)],
        "keys": [bundle.key_pem().decode() for bundle in numbers],
        "chains": [bundle.chain_pem().decode() for bundle in numbers],
    }


def understood_changes(message: Message) -> list[BindingChange]:
    """Read back what `told_changes` wrote."""
    bundles = [
        CertificateBundle.from_pem((key + chain).encode())
        for key, chain in zip(message["keys"], message["chains"], strict=True)
    ]
    removals: list[BindingChange] = [Remove(host=host, port=port) for host, port in message["removals"]]
    return removals + [
        Install(host=host, port=port, bundle_id="", bundle=bundles[number])
        for host, port, number in message["installs"]
    ]


def told_serving(serving: Serving) -> Message:
    """What a worker must know, as a message."""
    told = {each.name: getattr(serving, each.name) for each in fields(serving)}
    return told | {"fallback": serving.fallback.to_pem().decode()}


def understood_serving(message: Message) -> Serving:
    """Read back what `told_serving` wrote."""
    return Serving(**(message | {"fallback": CertificateBundle.from_pem(message["fallback"].encode())}))


def told_trouble(error: CertcastError) -> Message:
    """An error as a message."""
    kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "unavailable")
    return {"trouble": kind, "text": str(error), "culprit": getattr(error, "culprit", None)}


def understood_trouble(message: Message) -> CertcastError | None:
    """Read back what `told_trouble` wrote; None where the answer tells of none."""
    if "trouble" not in message:
        return None
    kind = _KINDS[message["trouble"]]
    if issubclass(kind, ApplyError):
        culprit = message["culprit"]
        return kind(message["text"], culprit=None if culprit is None else (culprit[0], culprit[1]))
    return kind(message["text"])


def digest(served: Iterable[tuple[str, int, str]]) -> str:
    """One value for all that is served, by host, port and fingerprint: equal where all of it is equal."""
    return hashlib.sha256(json.dumps(sorted(served)).encode()).hexdigest()
