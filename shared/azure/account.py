"""Opens the storage account: every Azure client in one place, with the same identity and the same patience."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.request import getproxies

from azure.core.exceptions import ResourceExistsError
from azure.core.settings import settings as sdk_settings
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.azure.blobs import UPLOADS_CONTAINER, AzureUploads
from shared.azure.bundles import BUNDLES_CONTAINER, SealedBundles
from shared.azure.clock import ServiceClock
from shared.azure.errors import azure_errors, error_code
from shared.azure.key_ring import open_keys
from shared.azure.patience import StoragePatience, sent
from shared.azure.queues import AzureQueues
from shared.azure.secrets import VaultSecrets
from shared.azure.tables import AzureTable, table_hooks
from shared.errors import ConfigurationError
from shared.messages import RECHECK_QUEUE, RESULTS_QUEUE
from shared.state.records import BINDINGS_TABLE, HISTORY_TABLE, INSTALLATIONS_TABLE, INSTANCES_TABLE, UPLOADS_TABLE
from shared.state.tables import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from azure.core.credentials import TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.identity import DefaultAzureCredential
    from azure.storage.blob.aio import ContainerClient

    from shared.config import StorageAccess

VAULT_THREADS = 10
"""As many as the connections that a vault's client keeps: one more would open a new connection for each request."""

RETRIES = 4

# The SDKs' own default waits 15 s before its first retry; a certificate is to be live by then.
_PATIENCE: dict[str, Any] = {"retry_to_secondary": False, "initial_backoff": 1, "increment_base": 2}
_TIMEOUTS: dict[str, Any] = {"connection_timeout": 10, "read_timeout": 30, "raw_request_hook": sent}
_BLOBS: dict[str, Any] = {**_TIMEOUTS, "max_single_put_size": 1_000_000, "max_block_size": 1_000_000}
"""What is longer is sent in blocks: aiohttp warns of bodies beyond 1 MiB, whose sending holds up all else."""
_TABLE_PATIENCE: dict[str, Any] = {**_TIMEOUTS, "retry_backoff_factor": 0.5}


class Account:
    """An open storage account; `async with` closes every connection.

    Args:
        access: How to reach it.
        key_encryption_key: The setting of that name; empty where no bundle is opened.
        key_vaults: Vaults that passwords may be referred to in.
        retries: How often the storage services are asked again.
    """

    def __init__(
        self,
        access: StorageAccess,
        *,
        key_encryption_key: str = "",
        key_vaults: frozenset[str] = frozenset(),
        retries: int = RETRIES,
    ) -> None:
        self.access = access
        self._retries = retries
        self._stack = AsyncExitStack()
        self._credential: AsyncTokenCredential | None = None
        self._blocking_credential: DefaultAzureCredential | None = None
        self._making_identity = threading.Lock()
        self.clock = ServiceClock()
        # Else it is looked for in the environment at each request.
        sdk_settings.tracing_enabled.set_value(sdk_settings.tracing_enabled())
        self._blobs, self._queues, self._tables = self._services()
        self.uploads = AzureUploads(self._blobs.get_container_client(UPLOADS_CONTAINER))
        self.queues = AzureQueues(self._queues)
        self.secrets = VaultSecrets(key_vaults, self.identity)
        self.state = State(
            uploads=self._table(UPLOADS_TABLE),
            bindings=self._table(BINDINGS_TABLE),
            instances=self._table(INSTANCES_TABLE),
            installations=self._table(INSTALLATIONS_TABLE),
            history=self._table(HISTORY_TABLE),
        )
        self._bundles = self._sealed_bundles(key_encryption_key) if key_encryption_key else None

    @property
    def has_key(self) -> bool:
        """Whether it was opened with a key-encryption key."""
        return self._bundles is not None

    @property
    def bundles(self) -> SealedBundles:
        """The sealed bundles.

        Raises:
            ConfigurationError: The account was opened without a key-encryption key.
        """
        if self._bundles is None:
            raise ConfigurationError("CERTCAST_KEY_ENCRYPTION_KEY is not set")
        return self._bundles

    async def __aenter__(self) -> Self:
        """Open nothing yet: the clients connect when they are first used."""
        for client in (self._blobs, self._queues, self._tables):
            await self._stack.enter_async_context(client)
        self._stack.push_async_callback(self.secrets.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._stack.aclose()
        if self._credential is not None:
            await self._credential.close()

    def deployed(self) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
        """What a deployment brings: "container bundles", with what raises MissingError or NotSetUpError without it."""
        containers = [(f"container {name}", partial(self._find_container, name)) for name in _CONTAINERS]
        queues = [(f"queue {name}", partial(self.queues.length, name)) for name in _QUEUES]
        tables = [(f"table {name}", partial(self._table(name).get, "certcast", "checkup")) for name in _TABLES]
        return [*containers, *queues, *tables]

    async def _find_container(self, name: str) -> None:
        with azure_errors(f"looking for container {name}"):
            await self.container(name).get_container_properties()

    def container(self, name: str) -> ContainerClient:
        """A container of the account by its name."""
        return self._blobs.get_container_client(name)

    async def create_all(self) -> None:
        """Create the containers, queues and tables that a deployment brings, unless they are there."""
        creations: list[tuple[str, Callable[[], Any]]] = [
            *((f"container {name}", self._blobs.get_container_client(name).create_container) for name in _CONTAINERS),
            *((f"table {name}", self._tables.get_table_client(name).create_table) for name in _TABLES),
        ]

        async def create(what: str, call: Callable[[], Any]) -> None:
            with azure_errors(f"creating {what}"):
                try:
                    await call()
                except ResourceExistsError as error:
                    if error_code(error) not in _THERE_ALREADY:
                        raise

        await asyncio.gather(
            *(create(what, call) for what, call in creations), *(self.queues.create(name) for name in _QUEUES)
        )

    def _table(self, name: str) -> AzureTable:
        return AzureTable(self._tables.get_table_client(name))

    def _services(self) -> tuple[BlobServiceClient, QueueServiceClient, TableServiceClient]:
        access, identity = self.access, self.identity
        retries: dict[str, Any] = {"retry_total": self._retries}
        blobs = {**_BLOBS, "retry_policy": StoragePatience(**_PATIENCE, **retries)}
        queues = {**_TIMEOUTS, "retry_policy": StoragePatience(**_PATIENCE, **retries)}
        tables = {**_TABLE_PATIENCE, **retries, **table_hooks(self.clock)}
        try:
            return (
                self._service(BlobServiceClient, access.blob_url, identity, blobs),
                self._service(QueueServiceClient, access.queue_url, identity, queues),
                self._service(TableServiceClient, access.table_url, identity, tables),
            )
        except ValueError:
            # The SDK's text may quote the connection string.
            raise ConfigurationError(
                "CERTCAST_STORAGE is not a complete storage connection string; copy it from the portal (Access keys)"
            ) from None

    def _service(self, kind: Any, url: str, identity: Callable[[], object], options: dict[str, Any]) -> Any:  # noqa: ANN401 - the SDKs' clients have no base
        """A service's client: by the connection string if there is one, else by address and identity."""
        # Else aiohttp looks for a proxy and for a netrc in two threads before each request.
        options = {**options, "use_env_settings": bool(getproxies().keys() - {"no"})}
        if self.access.connection_string is not None:
            return kind.from_connection_string(self.access.connection_string, **options)
        return kind(url, credential=identity(), **options)

    def _sealed_bundles(self, setting: str) -> SealedBundles:
        keys = open_keys(setting, self._blocking_identity)
        threads = ThreadPoolExecutor(VAULT_THREADS, thread_name_prefix="vault")
        self._stack.callback(threads.shutdown, wait=False)
        self._stack.callback(keys.close)
        return SealedBundles(self.container(BUNDLES_CONTAINER), keys, threads)

    @property
    def _chosen_identity(self) -> dict[str, str]:
        """Which managed identity; without a word about it the SDK reads AZURE_CLIENT_ID, and not where None is said."""
        return {"managed_identity_client_id": self.access.client_id} if self.access.client_id else {}

    def _blocking_identity(self) -> TokenCredential:
        """The same identity for keys in vaults, whose clients are not asynchronous; made once, called in threads."""
        with self._making_identity:
            if self._blocking_credential is None:
                from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - slow to import, needed only here

                with _naming_the_application():
                    self._blocking_credential = DefaultAzureCredential(**self._chosen_identity)
                self._stack.callback(self._blocking_credential.close)
            return self._blocking_credential

    def identity(self) -> AsyncTokenCredential:
        """The identity this process runs under, made once."""
        if self._credential is None:
            from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - slow to import, and needed only here

            with _naming_the_application():
                self._credential = DefaultAzureCredential(**self._chosen_identity)
        return self._credential


@contextmanager
def _naming_the_application() -> Iterator[None]:
    """Say which settings are wrong where the application that the environment names is not usable.

    Of what is wrong with it the SDK raises these; it reads its file when it is made.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the application that AZURE_CLIENT_ID names cannot be used ({type(error).__name__}): "
            "AZURE_CLIENT_CERTIFICATE_PATH must be a PEM or PFX file that this process can read, with its certificate "
            "and RSA key, and AZURE_TENANT_ID a tenant's id"
        ) from None


_THERE_ALREADY = {"ContainerAlreadyExists", "TableAlreadyExists"}
_CONTAINERS = (UPLOADS_CONTAINER, BUNDLES_CONTAINER)
_TABLES = (UPLOADS_TABLE, BINDINGS_TABLE, INSTANCES_TABLE, INSTALLATIONS_TABLE, HISTORY_TABLE)
_QUEUES = (RECHECK_QUEUE, RESULTS_QUEUE)
