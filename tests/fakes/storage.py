"""What the fake edges work on: blobs, bundles, messages and rows of one account in memory, on a clock a test moves."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.codec import Entity, Scalar
from shared.errors import CertcastError
from shared.messages import RECHECK_QUEUE, RESULTS_QUEUE, OutgoingEvent
from shared.ports import BlobVersion

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
"""When the fake clock begins; certificates of the tests are issued around it."""

_KEY = re.compile(r"[^/\\#?\x00-\x1f\x7f-\x9f]*\Z")
_MAX_KEY_CHARS = 512
_MAX_TEXT_CHARS = 32 * 1024
_MAX_BINARY = 64 * 1024
_MAX_ROW = 1024 * 1024
_MAX_BODY = 64 * 1024
_MAX_TAGS = 10
_TAG_KEY = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}\Z")
_TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,256}\Z")
_QUEUE_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*\Z")
_LONGEST_HIDING_S = 7 * 24 * 3600


@dataclass
class FakeClock:
    """Stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class StoredRow:
    columns: dict[str, Scalar]
    etag: str
    written_at: datetime


@dataclass
class Bundle:
    key: str
    pem: bytes
    etag: str
    stored_at: datetime


@dataclass
class Blob:
    content: bytes
    metadata: dict[str, str]
    etag: str
    modified: datetime
    created: datetime
    tags: dict[str, str] = field(default_factory=dict)

    def version(self, name: str) -> BlobVersion:
        return BlobVersion(
            name=name,
            etag=self.etag,
            size=len(self.content),
            last_modified=self.modified,
            created=self.created,
            metadata=dict(self.metadata),
        )


@dataclass
class StoredMessage:
    body: str | None
    visible_at: datetime
    expires_at: datetime | None
    inserted: int
    dequeued: int = 0
    receipt: str = ""


class StorageContents:
    """One storage account: what all edges of all processes work on.

    Attributes:
        clock: The time, by the one clock of all.
        uploads: Blobs of the container `certificates`.
        bundles: By bundle id.
        queues: Messages by queue and id.
        tables: Rows by table and key.
        secrets: The vault.
        published: Events that reached the topic.
        has_tags: Whether the account has blob index tags at all.
        queue_deletion_s: How long the name of a deleted queue cannot be used again; on Azure 40 s and more.
        queues_gone_at: When the deletion of each deleted queue ends.
        doubtful_writes: So many writes of rows are made and answered with a conflict, as where the answer is lost and
            another writes before it is asked for again.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.uploads: dict[str, Blob] = {}
        self.bundles: dict[str, Bundle] = {}
        self.queues: dict[str, dict[str, StoredMessage]] = {RECHECK_QUEUE: {}, RESULTS_QUEUE: {}}
        self.tables: dict[str, dict[tuple[str, str], StoredRow]] = {}
        self.secrets: dict[str, str] = {}
        self.published: list[OutgoingEvent] = []
        self.has_tags = True
        self.queue_deletion_s = 0.0
        self.queues_gone_at: dict[str, datetime] = {}
        self.doubtful_writes = 0
        self._count = 0

    def next_number(self) -> int:
        self._count += 1
        return self._count

    def new_etag(self) -> str:
        return f"0x8DC{self.next_number():013X}"

    def put(self, queue: str, body: str | None, *, delay_s: float = 0, ttl_s: int | None = None) -> None:
        """Put a message on a queue; None stands for one that is not base64."""
        number = self.next_number()
        now = self.clock()
        self.queues[queue][f"message-{number}"] = StoredMessage(
            body=body,
            visible_at=now + timedelta(seconds=delay_s),
            expires_at=None if ttl_s is None else now + timedelta(seconds=ttl_s),
            inserted=number,
        )


def require_row(partition: str, row: str, columns: Entity) -> None:
    """What the table service refuses (learn.microsoft.com, "Understanding the Table service data model")."""
    for key in (partition, row):
        if not _KEY.match(key) or len(key) > _MAX_KEY_CHARS:
            raise CertcastError(f"row {partition}/{row}: the service answered 400 (KeyValueInvalid)")
    size = 0
    for name, value in columns.items():
        length, limit = 8, 8
        if isinstance(value, str):
            length, limit = 2 * len(value), 2 * _MAX_TEXT_CHARS
        elif isinstance(value, bytes):
            length, limit = len(value), _MAX_BINARY
        elif isinstance(value, int) and not -(2**31) <= value < 2**31:
            raise CertcastError(f"row {partition}/{row}, {name}: the service answered 400 (InvalidInput)")
        if length > limit:
            raise CertcastError(f"row {partition}/{row}, {name}: the service answered 400 (PropertyValueTooLarge)")
        size += 2 * len(name) + length
    if size > _MAX_ROW:
        raise CertcastError(f"row {partition}/{row}: the service answered 400 (EntityTooLarge)")


def require_tags(name: str, tags: Mapping[str, str]) -> None:
    """What the blob service refuses (learn.microsoft.com, "Set Blob Tags")."""
    if len(tags) > _MAX_TAGS or not all(_TAG_KEY.match(key) and _TAG_VALUE.match(tags[key]) for key in tags):
        raise CertcastError(f"writing the tags of blob {name}: the service answered 400 (InvalidTag)")


def require_queue_name(queue: str) -> None:
    """What the queue service refuses (learn.microsoft.com, "Naming queues and metadata")."""
    if not _QUEUE_NAME.match(queue):
        raise CertcastError(f"creating queue {queue}: the service answered 400 (InvalidResourceName)")


def require_message(queue: str, body: str, delay_s: float, ttl_s: int | None) -> None:
    """What the queue service refuses (learn.microsoft.com, "Put StoredMessage"); a body goes there as base64."""
    if len(body.encode()) * 4 / 3 > _MAX_BODY:
        raise CertcastError(f"sending to queue {queue}: the service answered 413 (RequestBodyTooLarge)")
    if not 0 <= delay_s <= _LONGEST_HIDING_S or (ttl_s is not None and delay_s >= ttl_s):
        raise CertcastError(f"sending to queue {queue}: the service answered 400 (OutOfRangeQueryParameterValue)")
