"""What version 0.1.0 wrote, and what it can read: recorded from its own code (`tests/data/version_0_1_0.json`)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.fakes.edges import FakeStorage
from tests.fakes.storage import Blob, FakeClock, StoredRow

RECORDED_AT = datetime(2026, 11, 28, 19, 15, 30, tzinfo=UTC)
_FILE = Path(__file__).parents[1] / "data" / "version_0_1_0.json"


@cache
def recorded() -> Mapping[str, Any]:
    """The recording: `tables`, `blobs`, `messages`; `columns` by kind of row or message; `words` by enumeration."""
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def left_by_0_1_0() -> FakeStorage:
    """A storage account as 0.1.0 left it, a few seconds later."""
    storage = FakeStorage(FakeClock(RECORDED_AT))
    for table, rows in recorded()["tables"].items():
        for row in rows:
            columns = {name: value for name, value in row.items() if name not in {"PartitionKey", "RowKey"}}
            written = datetime.fromisoformat(row.get("last_seen", row.get("reported_at", RECORDED_AT.isoformat())))
            stored = StoredRow(columns=columns, etag=storage.new_etag(), written_at=written)
            storage.tables.setdefault(table, {})[row["PartitionKey"], row["RowKey"]] = stored
    for blob in recorded()["blobs"]:
        storage.uploads[blob["name"]] = Blob(
            content=b"",
            metadata=dict(blob["metadata"]),
            etag=blob["etag"],
            modified=RECORDED_AT,
            created=RECORDED_AT,
            tags=dict(blob["tags"]),
        )
    return storage


_TYPES: Mapping[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "datetime.datetime": str}


def unreadable_to_0_1_0(kind: str, document: Mapping[str, object]) -> list[str]:
    """The columns of a row or message that 0.1.0 needs and does not find, or finds to be of another type or word."""
    wrong = []
    for name, column in recorded()["columns"][kind].items():
        if name not in document:
            wrong += [f"{name} is missing"] if column["required"] else []
            continue
        type_name, value = column["type"].removesuffix(" | None"), document[name]
        if words := recorded()["words"].get(type_name):
            wrong += [] if value in words else [f"{name} is {value}"]
        elif type_name.startswith(("tuple", "collections.abc.Mapping")):
            wrong += [] if isinstance(value, str | list | dict) else [f"{name} is no collection"]
        elif not isinstance(value, _TYPES[type_name]):
            wrong.append(f"{name} is a {type(value).__name__}")
    return wrong
