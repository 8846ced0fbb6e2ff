"""The storage emulator that tests share: where it is reached."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_azure.azurite import start_azurite

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A running Azurite.

    Attributes:
        connection_string: Of the well-known account, at this emulator's ports.
        blob_url: The account's blob service.
        queue_url: The account's queue service.
        table_url: The account's table service.
        pid: The emulator's own process.
    """

    connection_string: str
    blob_url: str
    queue_url: str
    table_url: str
    pid: int


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """Run one Azurite on free ports, everything in memory, and end it."""
    running = asyncio.run(start_azurite())
    try:
        assert running.process.pid is not None
        yield Emulator(
            connection_string=running.connection_string,
            blob_url=running.endpoints.blob,
            queue_url=running.endpoints.queue,
            table_url=running.endpoints.table,
            pid=running.process.pid,
        )
    finally:
        asyncio.run(running.stop())
