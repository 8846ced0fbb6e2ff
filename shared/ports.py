"""What the use cases need from the cloud, as protocols; the edges and the in-memory fakes both fulfil them.

Every method may raise `UnavailableError` (try again later) and `AccessDeniedError` besides what its docstring names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from shared.codec import Entity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.messages import OutgoingEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntity:
    """One table row as stored.

    Attributes:
        partition: PartitionKey.
        row: RowKey.
        columns: The other columns.
        etag: Version of the row.
        written_at: When the service wrote it, by the service's clock: the one clock that all writers share.
    """

    partition: str
    row: str
    columns: Entity
    etag: str
    written_at: datetime


class Table(Protocol):
    """One table of the storage account; every write but `put` is conditional on the row's ETag."""

    async def get(self, partition: str, row: str) -> StoredEntity | None:
        """Read one row."""

    async def insert(self, partition: str, row: str, columns: Entity) -> str:
        """Add a row and return its ETag.

        Raises:
            ConflictError: The row is there already.
        """

    async def replace(self, partition: str, row: str, columns: Entity, *, etag: str) -> str:
        """Overwrite a row and return its new ETag.

        Raises:
            ConflictError: The row was changed, or deleted, since that ETag was read.
        """

    async def put(self, partition: str, row: str, columns: Entity) -> None:
        """Write a row whatever stands there; for rows whose one writer knows all there is to say."""

    async def delete(self, partition: str, row: str, *, etag: str) -> None:
        """Delete a row; one that is gone already is no error.

        Raises:
            ConflictError: The row was changed since that ETag was read.
        """

    def query(
        self,
        partition: str | None = None,
        *,
        row: str | None = None,
        after: tuple[str, str] | None = None,
        since: datetime | None = None,
        having: tuple[str, str] | None = None,
        page: int | None = None,
    ) -> AsyncIterator[StoredEntity]:
        """Read rows in the order of their keys.

        Args:
            partition: PartitionKey of all of them; None for any.
            row: RowKey of all of them; None for any.
            after: PartitionKey and RowKey, of a row or not, that all of them come after; None for the beginning.
            since: All were written then or later, by the service's clock; None for any time.
            having: A column and the text that stands in it in all of them; None for any.
            page: Rows that one request brings at most; None for as many as the service gives.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobVersion:
    """An upload's blob without its content.

    Attributes:
        name: Blob name, decoded.
        etag: Normalised: without quotes.
        size: Bytes.
        last_modified: When content or metadata last changed.
        metadata: As set by the uploader; may hold a password.
    """

    name: str
    etag: str
    size: int
    last_modified: datetime
    created: datetime
    metadata: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobContent:
    """An upload's blob with the content that belongs to that version.

    Attributes:
        version: Properties and metadata.
        content: At most the number of bytes asked for; `version.size` tells whether there is more.
    """

    version: BlobVersion
    content: bytes = field(repr=False)


class CertificateSource(Protocol):
    """Where certificates come from; the container `certificates` is one, Key Vault, a database or a folder are others.

    Names of other sources carry their scheme (`keyvault://vault/name`), those of blobs are bare. A version is named by
    the `etag`, which changes with content and metadata.
    """

    async def version(self, name: str) -> BlobVersion | None:
        """Look at a certificate without reading it; None when it is gone."""

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        """Read metadata and content of one and the same version; None when it is gone.

        Raises:
            HeldError: It is in the archive tier.
        """

    def each(self) -> AsyncIterator[BlobVersion]:
        """List every certificate with its version; metadata may be left out."""


class UploadContainer(CertificateSource, Protocol):
    """The container `certificates`."""

    async def write(self, name: str, content: bytes, metadata: Mapping[str, str]) -> str:
        """Upload content and metadata in one request and return the ETag."""

    async def set_metadata(self, name: str, metadata: Mapping[str, str], *, etag: str) -> str:
        """Replace the metadata and return the new ETag.

        Raises:
            ConflictError: The blob was changed, or deleted, since that ETag was read.
            MissingError: The blob is gone, where the service tells.
            HeldError: The blob is under a lease or an immutability policy.
        """

    async def set_tags(self, name: str, tags: Mapping[str, str], *, found: Mapping[str, str] | None = None) -> bool:
        """Replace the blob's index tags; False where the blob is gone.

        Args:
            name: The blob.
            tags: All that it is to have.
            found: Those that were read on it; None for whatever it has. No condition tells of one that another program
                adds at this very moment.

        Raises:
            ConflictError: One of those was changed or taken away since.
            RefusedForNowError: This identity may not.
            UnsupportedError: The account has no tags.
            HeldError: The blob is under a lease.
        """

    async def tags(self, name: str) -> dict[str, str] | None:
        """Read the blob's index tags; None where the blob is gone.

        Raises:
            RefusedForNowError: This identity may not.
            UnsupportedError: The account has no tags.
        """

    async def delete(self, name: str) -> bool:
        """Delete a blob; False when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A sealed bundle in the listing.

    Attributes:
        bundle_id: Its id.
        stored_at: When it was last sealed.
        etag: Version, for deleting exactly this one.
    """

    bundle_id: str
    stored_at: datetime
    etag: str


class BundleVault(Protocol):
    """The container `bundles`: key and chain, sealed by envelope encryption."""

    async def seal(self, bundle_id: str, pem: bytes) -> None:
        """Store a bundle under its id, again if it is there already: its age protects it from the sweep."""

    async def open(self, bundle_id: str) -> bytes:
        """Read a bundle.

        Raises:
            MissingError: There is none of that id.
            BrokenBundleError: It is larger than any that certcast seals.
            CertcastError: It was sealed under another key, or is damaged.
        """

    async def delete(self, bundle: StoredBundle) -> None:
        """Delete a bundle; one that is gone already is no error.

        Raises:
            ConflictError: It was sealed again since it was listed.
        """

    def each(self) -> AsyncIterator[StoredBundle]:
        """List every bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """One message taken from a queue, invisible to others for a while.

    Attributes:
        message_id: Names it for deletion.
        pop_receipt: Proves that it is still ours.
        body: Decoded text; None when it was not base64.
        dequeue_count: How often it was taken, this time included.
    """

    message_id: str
    pop_receipt: str
    body: str | None
    dequeue_count: int


class Queues(Protocol):
    """The account's queues, base64 as the Functions host has it."""

    async def create(self, queue: str) -> None:
        """Create a queue unless it is there.

        Raises:
            QueueBeingDeletedError: One of that name was deleted a moment ago.
        """

    async def delete(self, queue: str) -> None:
        """Delete a queue if it is there."""

    async def send(self, queue: str, body: str, *, delay_s: float = 0, ttl_s: int | None = None) -> None:
        """Put a message on a queue, visible after a delay, kept for a time (None: until it is taken).

        Raises:
            MissingError: There is no such queue.
        """

    async def receive(self, queue: str, *, limit: int, visibility_s: int) -> list[ReceivedMessage]:
        """Take up to 32 messages, hidden from others for that long.

        Raises:
            MissingError: There is no such queue.
        """

    async def done(self, queue: str, message: ReceivedMessage) -> None:
        """Delete a message taken before; no error when it is gone or was taken again since."""

    def names(self, prefix: str) -> AsyncIterator[str]:
        """List the queues whose name begins so."""


class Outlet(Protocol):
    """A place that outgoing events are sent to: an Event Grid topic or a webhook."""

    @property
    def key(self) -> str:
        """What stands for it in rows and messages; follows from its address and does not tell it."""

    @property
    def name(self) -> str:
        """What people are told of it: its kind and its host, as the rest of an address may be a secret."""

    @property
    def at_once(self) -> bool:
        """Whether it usually answers so soon that an upload's own work may wait for it a moment."""

    async def send(self, event: OutgoingEvent) -> str:
        """Send one event; at least once, so a receiver may see it twice under one id.

        Returns:
            What it answered, for people.

        Raises:
            ThrottledError: It is to be left alone for a while.
            RetiredError: It wants no more events.
            CertcastError: It refuses this event for good.
        """


class Secrets(Protocol):
    """Where passwords that are only referred to can be had."""

    async def resolve(self, reference: str) -> str:
        """Read the secret behind a secret URI.

        Raises:
            SecretUnavailableError: It cannot be had; the text says why and what to grant or set.
        """
