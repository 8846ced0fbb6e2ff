"""The cloud in memory: every edge of `shared.ports`, on one storage and one clock that a test moves by hand.

The fakes keep the same contract as the real edges (tests/contracts/edges.py), limits included: what the service would
refuse they refuse too. Each call of an edge is one `Step` of the process it belongs to; a test decides there what else
happens first, or whether the process lives to see it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from shared.bundle import MAX_BUNDLE_BYTES
from shared.codec import Entity
from shared.errors import (
    BrokenBundleError,
    CertcastError,
    ConflictError,
    MissingError,
    QueueBeingDeletedError,
    SecretUnavailableError,
    UnsupportedError,
)
from shared.function.cloud import Cloud
from shared.function.in_process import Later
from shared.messages import OutgoingEvent
from shared.ports import BlobContent, BlobVersion, ReceivedMessage, StoredBundle, StoredEntity
from shared.state.records import BINDINGS_TABLE, HISTORY_TABLE, INSTALLATIONS_TABLE, INSTANCES_TABLE, UPLOADS_TABLE
from shared.state.tables import State
from shared.upload import PortRanges
from shared.validation.judge import ValidationPolicy
from shared.validation.trust import Trust
from tests.fakes.judges import InThread
from tests.fakes.storage import (
    Blob,
    Bundle,
    StorageContents,
    StoredMessage,
    StoredRow,
    require_message,
    require_queue_name,
    require_row,
    require_tags,
)

Step = Callable[[str], Awaitable[None]]

TABLES = (UPLOADS_TABLE, BINDINGS_TABLE, INSTANCES_TABLE, INSTALLATIONS_TABLE, HISTORY_TABLE)

_PAGE = 1000
_BLOBS_ON_A_PAGE = 5000
_NEVER = datetime.max.replace(tzinfo=UTC)
_EVER = datetime.min.replace(tzinfo=UTC)


async def unhindered(_: str) -> None:
    """The step of a process to which nothing happens."""


class FakeTable:
    """One table, as `shared.ports.Table`."""

    def __init__(self, storage: FakeStorage, name: str, step: Step = unhindered, *, page: int = _PAGE) -> None:
        self._storage = storage
        self._rows = storage.tables.setdefault(name, {})
        self._name = name
        self._step = step
        self._page = page

    async def get(self, partition: str, row: str) -> StoredEntity | None:
        await self._step(f"{self._name} get")
        return self._stored((partition, row)) if (partition, row) in self._rows else None

    async def insert(self, partition: str, row: str, columns: Entity) -> str:
        await self._step(f"{self._name} insert")
        require_row(partition, row, columns)
        if (partition, row) in self._rows:
            raise ConflictError(f"adding row {partition}/{row}: there already")
        return self._put(partition, row, columns)

    async def replace(self, partition: str, row: str, columns: Entity, *, etag: str) -> str:
        await self._step(f"{self._name} replace")
        require_row(partition, row, columns)
        known = self._rows.get((partition, row))
        if known is None or known.etag != etag:
            raise ConflictError(f"writing row {partition}/{row}: changed meanwhile")
        return self._put(partition, row, columns)

    async def put(self, partition: str, row: str, columns: Entity) -> None:
        await self._step(f"{self._name} put")
        require_row(partition, row, columns)
        self._put(partition, row, columns)

    async def delete(self, partition: str, row: str, *, etag: str) -> None:
        await self._step(f"{self._name} delete")
        known = self._rows.get((partition, row))
        if known is not None and known.etag != etag:
            raise ConflictError(f"deleting row {partition}/{row}: changed meanwhile")
        self._rows.pop((partition, row), None)

    async def query(
        self,
        partition: str | None = None,
        *,
        row: str | None = None,
        after: tuple[str, str] | None = None,
        since: datetime | None = None,
        having: tuple[str, str] | None = None,
        page: int | None = None,
    ) -> AsyncIterator[StoredEntity]:
        """Page by page, as the service does: what changes after the page just read is seen, what lies before is not."""
        page = self._page if page is None else min(page, self._page)
        while True:
            await self._step(f"{self._name} query")
            keys = [
                key
                for key in sorted(self._rows)
                if (after is None or key > after)
                and partition in {None, key[0]}
                and row in {None, key[1]}
                and (since is None or self._rows[key].written_at >= since)
                and (having is None or self._rows[key].columns.get(having[0]) == having[1])
            ]
            for entity in [self._stored(key) for key in keys[:page]]:
                yield entity
            if len(keys) <= page:
                return
            after = keys[page - 1]

    def _put(self, partition: str, row: str, columns: Entity) -> str:
        etag = self._storage.new_etag()
        self._rows[partition, row] = StoredRow(columns=dict(columns), etag=etag, written_at=self._storage.clock())
        if self._storage.doubtful_writes:
            self._storage.doubtful_writes -= 1
            raise ConflictError(f"writing row {partition}/{row}: changed meanwhile")
        return etag

    def _stored(self, key: tuple[str, str]) -> StoredEntity:
        row = self._rows[key]
        return StoredEntity(
            partition=key[0], row=key[1], columns=dict(row.columns), etag=row.etag, written_at=row.written_at
        )


async def _listed(blobs: Mapping[str, object], ask: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """Name blobs page by page, as the service does."""
    after = ""
    while True:
        await ask()
        names = sorted(name for name in blobs if name > after)
        for name in names[:_BLOBS_ON_A_PAGE]:
            if name in blobs:
                yield name
        if len(names) <= _BLOBS_ON_A_PAGE:
            return
        after = names[_BLOBS_ON_A_PAGE - 1]


class FakeUploads:
    """The container that uploaders write to, as `shared.ports.UploadContainer`."""

    def __init__(self, storage: FakeStorage, step: Step = unhindered) -> None:
        self._storage = storage
        self._blobs = storage.uploads
        self._step = step

    async def version(self, name: str) -> BlobVersion | None:
        await self._step("blob version")
        return self._blobs[name].version(name) if name in self._blobs else None

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        while True:
            version = await self.version(name)
            if version is None:
                return None
            await self._step("blob download")
            blob = self._blobs.get(name)
            if blob is None:
                return None
            if blob.etag == version.etag:
                return BlobContent(version=version, content=blob.content[:max_bytes])

    async def write(self, name: str, content: bytes, metadata: Mapping[str, str]) -> str:
        await self._step("blob write")
        now = self._storage.clock().replace(microsecond=0)
        blob = Blob(content=content, metadata=dict(metadata), etag=self._storage.new_etag(), modified=now, created=now)
        self._blobs[name] = blob
        return blob.etag

    async def set_metadata(self, name: str, metadata: Mapping[str, str], *, etag: str) -> str:
        await self._step("blob set_metadata")
        blob = self._blobs.get(name)
        if blob is None:
            raise MissingError(f"writing the metadata of blob {name}: not there")
        if blob.etag != etag:
            raise ConflictError(f"writing the metadata of blob {name}: changed meanwhile")
        blob.metadata = dict(metadata)
        blob.etag = self._storage.new_etag()
        blob.modified = self._storage.clock().replace(microsecond=0)
        return blob.etag

    async def set_tags(self, name: str, tags: Mapping[str, str], *, found: Mapping[str, str] | None = None) -> bool:
        await self._step("blob set_tags")
        require_tags(name, tags)
        if not self._storage.has_tags:
            raise UnsupportedError(f"writing the tags of blob {name}: this storage account has no such feature")
        if name not in self._blobs:
            return False
        if not (found or {}).items() <= self._blobs[name].tags.items():
            raise ConflictError(f"writing the tags of blob {name}: changed meanwhile (ConditionNotMet)")
        self._blobs[name].tags = dict(tags)
        return True

    async def tags(self, name: str) -> dict[str, str] | None:
        await self._step("blob tags")
        if not self._storage.has_tags:
            raise UnsupportedError(f"reading the tags of blob {name}: this storage account has no such feature")
        return dict(self._blobs[name].tags) if name in self._blobs else None

    async def delete(self, name: str) -> bool:
        await self._step("blob delete")
        return self._blobs.pop(name, None) is not None

    async def each(self) -> AsyncIterator[BlobVersion]:
        async for name in _listed(self._blobs, lambda: self._step("blob each")):
            yield self._blobs[name].version(name)


def _step_of(what: str, bundle_id: str) -> str:
    """What is sealed beside the bundles are notes."""
    return f"{'note' if bundle_id.startswith(('state/', 'kept/')) else 'bundle'} {what}"


class FakeBundles:
    """The sealed bundles, as `shared.ports.BundleVault`.

    Args:
        storage: Where they are.
        step: What happens at each call.
        key: The key-encryption key's name; a bundle opens under the one it was sealed with.
    """

    def __init__(self, storage: FakeStorage, step: Step = unhindered, *, key: str = "key") -> None:
        self._storage = storage
        self._bundles = storage.bundles
        self._step = step
        self._key = key

    async def seal(self, bundle_id: str, pem: bytes) -> None:
        await self._step(_step_of("seal", bundle_id))
        etag, now = self._storage.new_etag(), self._storage.clock().replace(microsecond=0)
        self._bundles[bundle_id] = Bundle(key=self._key, pem=pem, etag=etag, stored_at=now)

    async def open(self, bundle_id: str) -> bytes:
        await self._step(_step_of("open", bundle_id))
        if bundle_id not in self._bundles:
            raise MissingError(f"opening bundle {bundle_id}: not there")
        if self._bundles[bundle_id].key != self._key:
            raise CertcastError(f"bundle {bundle_id} cannot be opened with key {self._key}: sealed under another key")
        pem = self._bundles[bundle_id].pem
        if len(pem) > MAX_BUNDLE_BYTES:
            raise BrokenBundleError(f"bundle {bundle_id} is larger than any that certcast seals")
        return pem

    async def delete(self, bundle: StoredBundle) -> None:
        await self._step("bundle delete")
        known = self._bundles.get(bundle.bundle_id)
        if known is not None and known.etag != bundle.etag:
            raise ConflictError(f"deleting bundle {bundle.bundle_id}: changed meanwhile")
        self._bundles.pop(bundle.bundle_id, None)

    async def each(self) -> AsyncIterator[StoredBundle]:
        async for name in _listed(self._bundles, lambda: self._step("bundle each")):
            bundle = self._bundles[name]
            yield StoredBundle(bundle_id=name, stored_at=bundle.stored_at, etag=bundle.etag)


class FakeQueues:
    """The account's queues, as `shared.ports.Queues`."""

    def __init__(self, storage: FakeStorage, step: Step = unhindered) -> None:
        self._storage = storage
        self._step = step

    async def create(self, queue: str) -> None:
        await self._step("queue create")
        require_queue_name(queue)
        if self._storage.queues_gone_at.get(queue, _EVER) > self._storage.clock():
            raise QueueBeingDeletedError(f"creating queue {queue}: one of that name was deleted a moment ago")
        self._storage.queues.setdefault(queue, {})

    async def delete(self, queue: str) -> None:
        await self._step("queue delete")
        if self._storage.queues.pop(queue, None) is not None:
            gone_at = self._storage.clock() + timedelta(seconds=self._storage.queue_deletion_s)
            self._storage.queues_gone_at[queue] = gone_at

    async def send(self, queue: str, body: str, *, delay_s: float = 0, ttl_s: int | None = None) -> None:
        await self._step("queue send")
        self._messages(queue)
        require_message(queue, body, delay_s, ttl_s)
        self._storage.put(queue, body, delay_s=round(delay_s), ttl_s=ttl_s)

    async def receive(self, queue: str, *, limit: int, visibility_s: int) -> list[ReceivedMessage]:
        await self._step("queue receive")
        messages = self._messages(queue)
        now = self._storage.clock()
        for message_id in [each for each in messages if (messages[each].expires_at or _NEVER) <= now]:
            del messages[message_id]
        ready = sorted(
            (each for each, message in messages.items() if message.visible_at <= now),
            key=lambda each: (messages[each].visible_at, messages[each].inserted),
        )
        taken = []
        for message_id in ready[: min(limit, 32)]:
            message = messages[message_id]
            message.dequeued += 1
            message.visible_at = now + timedelta(seconds=visibility_s)
            message.receipt = self._storage.new_etag()
            taken.append(
                ReceivedMessage(
                    message_id=message_id,
                    pop_receipt=message.receipt,
                    body=message.body,
                    dequeue_count=message.dequeued,
                )
            )
        return taken

    async def done(self, queue: str, message: ReceivedMessage) -> None:
        await self._step("queue done")
        messages = self._storage.queues.get(queue, {})
        known = messages.get(message.message_id)
        if known is not None and known.receipt == message.pop_receipt:
            del messages[message.message_id]

    async def names(self, prefix: str) -> AsyncIterator[str]:
        await self._step("queue names")
        for name in sorted(self._storage.queues):
            if name.startswith(prefix):
                yield name

    def _messages(self, queue: str) -> dict[str, StoredMessage]:
        if queue not in self._storage.queues:
            raise MissingError(f"queue {queue}: not there")
        return self._storage.queues[queue]


class FakeSecrets:
    """Where referred-to passwords are had, as `shared.ports.Secrets`."""

    def __init__(self, storage: FakeStorage, step: Step = unhindered) -> None:
        self._values = storage.secrets
        self._step = step

    async def resolve(self, reference: str) -> str:
        await self._step("secret resolve")
        if reference not in self._values:
            raise SecretUnavailableError(f"secret {reference} is not there; create it")
        return self._values[reference]


class FakeOutlet:
    """Where outgoing events are sent, as `shared.ports.Outlet`: the topic, or a webhook of some name.

    Attributes:
        key, name, at_once: As there.
        events: What it took.
    """

    def __init__(
        self, events: list[OutgoingEvent], step: Step = unhindered, *, name: str = "topic", at_once: bool = True
    ) -> None:
        self.key, self.name, self.at_once = f"{name}-key", name, at_once
        self.events = events
        self._step = step

    async def send(self, event: OutgoingEvent) -> str:
        await self._step(f"{self.name} publish")
        self.events.append(event)
        return "taken"


class FakeStorage(StorageContents):
    """One storage account, and the processes that use it."""

    def table(self, name: str, step: Step = unhindered, *, page: int = _PAGE) -> FakeTable:
        """One table as one process sees it."""
        return FakeTable(self, name, step, page=page)

    def state(self, step: Step = unhindered, *, page: int = _PAGE) -> State:
        """The five tables as one process sees them."""
        return State(**{name: self.table(name, step, page=page) for name in TABLES})

    def cloud(
        self, step: Step = unhindered, *, page: int = _PAGE, scrub_password: bool = True, key: str = "key"
    ) -> Cloud:
        """Everything a use case acts on, for one process."""
        policy = ValidationPolicy(trust=Trust.from_setting("off"), ports=PortRanges.parse("443, 8443"))
        return Cloud(
            uploads=FakeUploads(self, step),
            bundles=FakeBundles(self, step, key=key),
            queues=FakeQueues(self, step),
            state=self.state(step, page=page),
            secrets=FakeSecrets(self, step),
            policy=policy,
            judges=InThread(policy),
            scrub_password=scrub_password,
            outlets=(FakeOutlet(self.published, step),),
            now=self.clock,
            later=Later(after_s=0),
        )


def fake_cloud() -> Cloud:
    """A cloud with nothing in it and a clock that stands still."""
    return FakeStorage().cloud()
