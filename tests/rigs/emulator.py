"""The storage emulator that tests share: where it is reached."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from local_azure.azurite import start_azurite
from shared.azure.account import Account
from shared.azure.key_encryption import make_key_file
from shared.config import StorageAccess
from shared.function.cloud import Cloud
from shared.upload import PortRanges
from shared.validation.judge import ValidationPolicy
from shared.validation.trust import Trust
from tests.fakes.judges import InThread


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


def cloud_on(account: Account) -> Cloud:
    """Everything a use case acts on, over a real account that trusts any chain."""
    policy = ValidationPolicy(trust=Trust.from_setting("off"), ports=PortRanges.parse("443, 8443"))
    return Cloud(
        uploads=account.uploads,
        bundles=account.bundles,
        queues=account.queues,
        state=account.state,
        secrets=account.secrets,
        policy=policy,
        judges=InThread(policy),
    )


@contextlib.asynccontextmanager
async def opened_account(connection_string: str, key: Path) -> AsyncIterator[Account]:
    """An account with all that a deployment brings; bundles are sealed under a key file, made where there is none."""
    make_key_file(key)
    access = StorageAccess(connection_string=connection_string)
    async with Account(access, key_encryption_key=f"file:{key}") as account:
        await account.create_all()
        yield account


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """Run one Azurite on free ports, everything in memory, and end it."""
    with _loop_on_a_thread() as loop:
        running = asyncio.run_coroutine_threadsafe(start_azurite(), loop).result()
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
            asyncio.run_coroutine_threadsafe(running.stop(), loop).result()


@contextlib.contextmanager
def _loop_on_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that takes the emulator's output for as long as it runs, while each test has a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulator", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
