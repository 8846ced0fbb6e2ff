"""A storage account as one party has it: its requests are written down, and refused unless its roles allow them.

It stands before an emulator, which knows no roles of its own, and answers as Azure does.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from local_azure.azurite import StorageEndpoints
from local_azure.proxy.answers import Refusal
from local_azure.proxy.operations import Asked, StorageRequest
from local_azure.proxy.refusals import PERMISSION_MISMATCH
from local_azure.proxy.storage import StorageProxy
from tests.rigs.storage_roles import Grant, allowed


class GuardedStorage:
    """The account behind its roles; made by `guarded`.

    Attributes:
        connection_string: What the party is started with.
        asked: What it has asked for.
        refused: What of it was refused.
    """

    def __init__(self, grants: Sequence[Grant]) -> None:
        self.connection_string = ""
        self.asked: set[StorageRequest] = set()
        self.refused: set[StorageRequest] = set()
        self._grants = grants

    def admit(self, asked: Asked) -> Refusal | None:
        """Write down what is asked, and refuse it unless the roles allow it."""
        self.asked.add(asked.request)
        if allowed(self._grants, asked.request):
            return None
        self.refused.add(asked.request)
        return PERMISSION_MISMATCH


@asynccontextmanager
async def guarded(services: StorageEndpoints, grants: Sequence[Grant]) -> AsyncIterator[GuardedStorage]:
    """Stand before a storage account's services, which may be started later, with a party's role assignments."""
    storage = GuardedStorage(grants)
    proxy = StorageProxy(rule=storage.admit)
    await proxy.start(services)
    try:
        storage.connection_string = proxy.endpoints.connection_string
        yield storage
    finally:
        await proxy.stop()
