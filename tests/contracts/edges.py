"""What every implementation of `shared.ports` must do alike, as tests to inherit with a fixture `edges`.

Every test uses names of its own, for the storage may be shared with other tests.
"""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from shared.bundle import MAX_BUNDLE_BYTES
from shared.codec import Entity
from shared.errors import CertcastError, ConflictError, MissingError
from shared.messages import MAX_BODY_BYTES
from shared.ports import BundleVault, Queues, Table, UploadContainer
from shared.state.keys import encode_key

ODD_NAMES = (
    "*",
    "100%.pfx",
    "%2F",
    "a#b?c.pfx",
    'it\'s "quoted".pfx',
    "folder/sub folder/a.pfx",
    "back\\slash",
    "größe-☃-\N{PILE OF POO}.pfx",
    "tab\tnew\nline",
    "=41",
    "a&b+c=d",
    "..",
)
"""Names that a URL, an OData filter or a key of the table service could stumble over."""


@dataclass(frozen=True, kw_only=True)
class Edges:
    """One storage account's edges and what a test needs besides.

    Attributes:
        table: Any of the tables.
        uploads: The uploads.
        bundles: The bundles.
        other_bundles: The same bundles under another key-encryption key.
        queues: The queues.
        send_raw: Puts a text on a queue that was not encoded by certcast.
        wait: Lets seconds pass.
    """

    table: Table
    uploads: UploadContainer
    bundles: BundleVault
    other_bundles: BundleVault
    queues: Queues
    send_raw: Callable[[str, str], Awaitable[None]]
    wait: Callable[[float], Awaitable[None]]


def own(prefix: str = "t") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex}"


async def rows_of(table: Table, partition: str) -> dict[str, object]:
    return {entity.row: entity.columns async for entity in table.query(partition)}


class TableContract:
    async def test_a_row_is_read_back_as_it_was_written(self, edges: Edges) -> None:
        partition = own()
        columns: Entity = {
            "text": "größe ☃ 'quoted' \"twice\"",
            "empty": "",
            "number": -(2**31),
            "part": 1.5,
            "whole": 3.0,
            "yes": True,
            "no": False,
            "packed__z0": bytes(range(256)),
            "etag": "0x8DC",
            "instant": "2026-03-01T12:00:00.000000Z",
        }
        written = await edges.table.insert(partition, "row", columns)
        found = await edges.table.get(partition, "row")
        assert found is not None
        assert (found.partition, found.row, found.etag) == (partition, "row", written)
        assert found.columns == columns
        assert {name: type(value) for name, value in found.columns.items()} == {
            name: type(value) for name, value in columns.items()
        }
        assert found.written_at.tzinfo is not None

    async def test_a_row_that_is_not_there_is_none(self, edges: Edges) -> None:
        assert await edges.table.get(own(), "row") is None

    async def test_inserting_twice_is_a_conflict_and_leaves_the_first(self, edges: Edges) -> None:
        partition = own()
        await edges.table.insert(partition, "row", {"n": 1})
        with pytest.raises(ConflictError):
            await edges.table.insert(partition, "row", {"n": 2})
        assert await rows_of(edges.table, partition) == {"row": {"n": 1}}

    async def test_replacing_needs_the_etag_of_the_last_write(self, edges: Edges) -> None:
        partition = own()
        first = await edges.table.insert(partition, "row", {"n": 1, "gone": "x"})
        second = await edges.table.replace(partition, "row", {"n": 2}, etag=first)
        assert second != first
        with pytest.raises(ConflictError):
            await edges.table.replace(partition, "row", {"n": 3}, etag=first)
        found = await edges.table.get(partition, "row")
        assert found is not None
        assert (found.columns, found.etag) == ({"n": 2}, second)

    async def test_writing_the_same_again_still_changes_the_etag(self, edges: Edges) -> None:
        partition = own()
        first = await edges.table.insert(partition, "row", {"n": 1})
        assert await edges.table.replace(partition, "row", {"n": 1}, etag=first) != first

    async def test_replacing_a_deleted_row_is_a_conflict_and_does_not_bring_it_back(self, edges: Edges) -> None:
        partition = own()
        etag = await edges.table.insert(partition, "row", {"n": 1})
        await edges.table.delete(partition, "row", etag=etag)
        with pytest.raises(ConflictError):
            await edges.table.replace(partition, "row", {"n": 2}, etag=etag)
        assert await edges.table.get(partition, "row") is None

    async def test_a_row_inserted_again_after_its_deletion_has_another_etag(self, edges: Edges) -> None:
        partition = own()
        first = await edges.table.insert(partition, "row", {"n": 1})
        await edges.table.delete(partition, "row", etag=first)
        second = await edges.table.insert(partition, "row", {"n": 1})
        with pytest.raises(ConflictError):
            await edges.table.replace(partition, "row", {"n": 2}, etag=first)
        await edges.table.replace(partition, "row", {"n": 3}, etag=second)

    async def test_deleting_needs_the_etag_of_the_last_write(self, edges: Edges) -> None:
        partition = own()
        first = await edges.table.insert(partition, "row", {"n": 1})
        second = await edges.table.replace(partition, "row", {"n": 2}, etag=first)
        with pytest.raises(ConflictError):
            await edges.table.delete(partition, "row", etag=first)
        await edges.table.delete(partition, "row", etag=second)
        assert await edges.table.get(partition, "row") is None

    async def test_deleting_what_is_gone_is_no_error(self, edges: Edges) -> None:
        partition = own()
        etag = await edges.table.insert(partition, "row", {"n": 1})
        await edges.table.delete(partition, "row", etag=etag)
        await edges.table.delete(partition, "row", etag=etag)

    async def test_odd_names_make_keys_that_are_found_by_row_and_by_partition(self, edges: Edges) -> None:
        mark = own()
        for name in ODD_NAMES:
            partition = encode_key(f"{mark}{name}")
            await edges.table.insert(partition, encode_key(name), {"name": name})
            found = await edges.table.get(partition, encode_key(name))
            assert found is not None, name
            assert found.columns == {"name": name}
            assert await rows_of(edges.table, partition) == {encode_key(name): {"name": name}}, name

    async def test_more_rows_than_a_page_holds_are_all_found_in_order(self, edges: Edges) -> None:
        partition = own()
        gate = asyncio.Semaphore(32)

        async def insert(number: int) -> None:
            async with gate:
                await edges.table.insert(partition, f"{number:05}", {"n": number})

        await asyncio.gather(*(insert(number) for number in range(1003)))
        found = [entity.columns["n"] async for entity in edges.table.query(partition)]
        assert found == list(range(1003))

    async def test_pages_may_be_smaller_and_bring_the_same(self, edges: Edges) -> None:
        partition = own()
        for number in range(5):
            await edges.table.insert(partition, f"{number}", {})
        assert [each.row async for each in edges.table.query(partition, page=2)] == ["0", "1", "2", "3", "4"]

    async def test_rows_that_were_written_since_then_are_found(self, edges: Edges) -> None:
        partition = own()
        await edges.table.insert(partition, "row", {})
        stored = await edges.table.get(partition, "row")
        assert stored is not None
        for earlier, found in ((timedelta(0), ["row"]), (timedelta(hours=1), ["row"]), (-timedelta(seconds=1), [])):
            since = stored.written_at - earlier
            assert [each.row async for each in edges.table.query(partition, since=since)] == found
            everywhere = {each.partition async for each in edges.table.query(since=since)}
            assert (partition in everywhere) is bool(found)

    async def test_rows_with_a_text_in_a_column_are_found(self, edges: Edges) -> None:
        partition, name = own(), "it's 100 % ü/?&=.pfx"
        for number in range(4):
            await edges.table.insert(partition, f"{number}", {"name": name if number % 2 else "other.pfx"})
        await edges.table.insert(partition, "none", {})

        async def found(after: tuple[str, str] | None = None, having: str = name) -> list[str]:
            rows = edges.table.query(partition, having=("name", having), after=after, page=2)
            return [each.row async for each in rows]

        assert await found() == ["1", "3"]
        assert await found(after=(partition, "1")) == ["3"]
        assert await found(having=f"{name}' or name ge '") == []

    async def test_one_row_of_every_partition_is_found_across_them(self, edges: Edges) -> None:
        partitions, row = sorted(own() for _ in range(3)), own()
        for partition in partitions:
            await edges.table.insert(partition, row, {"of": partition})
            await edges.table.insert(partition, own(), {})
        assert [each.columns["of"] async for each in edges.table.query(row=row)] == partitions
        assert [each.partition async for each in edges.table.query(partitions[1], row=row)] == [partitions[1]]
        assert [each async for each in edges.table.query(row=f"{row}' or RowKey ge '")] == []

    async def test_a_row_is_put_whatever_stands_there(self, edges: Edges) -> None:
        partition = own()
        for columns in ({"name": "new", "one": 1}, {"name": "again"}):
            await edges.table.put(partition, "row", columns)  # type: ignore[arg-type]
            assert await rows_of(edges.table, partition) == {"row": columns}

    async def test_a_whole_table_is_every_partition(self, edges: Edges) -> None:
        partitions = {own(), own()}
        for partition in partitions:
            await edges.table.insert(partition, "row", {})
        assert {entity.partition async for entity in edges.table.query()} >= partitions

    async def test_a_row_may_be_three_quarters_of_a_megabyte_in_columns_of_sixty_kilobytes(self, edges: Edges) -> None:
        partition = own()
        columns: dict[str, str | int | float | bool | bytes] = {
            f"claims__z{number}": os.urandom(60_000) for number in range(12)
        }
        await edges.table.insert(partition, "row", columns)
        found = await edges.table.get(partition, "row")
        assert found is not None
        assert found.columns == columns


class UploadsContract:
    async def test_content_and_metadata_are_read_with_their_version(self, edges: Edges) -> None:
        name = own("a")
        etag = await edges.uploads.write(name, b"content", {"HostHeader": "a.example.com"})
        assert '"' not in etag
        found = await edges.uploads.read(name, max_bytes=100)
        assert found is not None
        assert found.content == b"content"
        assert (found.version.name, found.version.etag, found.version.size) == (name, etag, 7)
        assert found.version.metadata == {"HostHeader": "a.example.com"}
        assert found.version == await edges.uploads.version(name)
        assert found.version.last_modified.tzinfo is not None
        assert found.version.last_modified.microsecond == 0

    async def test_no_more_is_read_than_was_asked_for(self, edges: Edges) -> None:
        name = own("a")
        await edges.uploads.write(name, bytes(3000), {})
        found = await edges.uploads.read(name, max_bytes=1001)
        assert found is not None
        assert (len(found.content), found.version.size) == (1001, 3000)

    async def test_an_empty_blob_is_read_as_such(self, edges: Edges) -> None:
        name = own("a")
        await edges.uploads.write(name, b"", {})
        found = await edges.uploads.read(name, max_bytes=10)
        assert found is not None
        assert found.content == b""

    async def test_what_is_not_there_is_none(self, edges: Edges) -> None:
        name = own("a")
        assert await edges.uploads.version(name) is None
        assert await edges.uploads.read(name, max_bytes=10) is None
        assert await edges.uploads.tags(name) is None
        assert not await edges.uploads.set_tags(name, {"certcast_status": "live"})
        assert not await edges.uploads.delete(name)

    async def test_odd_names_are_taken_literally(self, edges: Edges) -> None:
        mark = own("a")
        names = [f"{mark}/{name}" for name in ODD_NAMES if name not in {"..", "back\\slash", "tab\tnew\nline"}]
        for name in names:
            await edges.uploads.write(name, name.encode(), {})
            found = await edges.uploads.read(name, max_bytes=1000)
            assert found is not None
            assert found.content == name.encode()
        listed = {version.name async for version in edges.uploads.each() if version.name.startswith(mark)}
        assert listed == set(names)

    async def test_uploading_again_replaces_content_metadata_and_tags(self, edges: Edges) -> None:
        name = own("a")
        first = await edges.uploads.write(name, b"one", {"HostHeader": "a.example.com", "Role": "web"})
        await edges.uploads.set_tags(name, {"certcast_status": "live"})
        second = await edges.uploads.write(name, b"two", {"HostHeader": "b.example.com"})
        assert second != first
        found = await edges.uploads.read(name, max_bytes=10)
        assert found is not None
        assert (found.content, found.version.etag) == (b"two", second)
        assert found.version.metadata == {"HostHeader": "b.example.com"}
        assert await edges.uploads.tags(name) == {}

    async def test_editing_metadata_changes_the_etag_and_keeps_content_and_tags(self, edges: Edges) -> None:
        name = own("a")
        first = await edges.uploads.write(name, b"one", {"CertificatePassword": "p"})
        await edges.uploads.set_tags(name, {"certcast_status": "live"})
        second = await edges.uploads.set_metadata(name, {"certcast_bundle": "x"}, etag=first)
        assert second != first
        found = await edges.uploads.read(name, max_bytes=10)
        assert found is not None
        assert (found.content, found.version.etag, found.version.metadata) == (b"one", second, {"certcast_bundle": "x"})
        assert await edges.uploads.tags(name) == {"certcast_status": "live"}

    async def test_editing_metadata_of_an_older_version_is_a_conflict(self, edges: Edges) -> None:
        name = own("a")
        first = await edges.uploads.write(name, b"one", {})
        await edges.uploads.write(name, b"two", {"HostHeader": "kept"})
        with pytest.raises(ConflictError):
            await edges.uploads.set_metadata(name, {"HostHeader": "lost"}, etag=first)
        version = await edges.uploads.version(name)
        assert version is not None
        assert version.metadata == {"HostHeader": "kept"}

    async def test_editing_metadata_of_what_is_gone_fails(self, edges: Edges) -> None:
        name = own("a")
        etag = await edges.uploads.write(name, b"one", {})
        assert await edges.uploads.delete(name)
        with pytest.raises((ConflictError, MissingError)):
            await edges.uploads.set_metadata(name, {}, etag=etag)
        assert await edges.uploads.version(name) is None

    async def test_tags_do_not_change_the_etag(self, edges: Edges) -> None:
        name = own("a")
        etag = await edges.uploads.write(name, b"one", {})
        assert await edges.uploads.set_tags(name, {"certcast_status": "accepted"})
        version = await edges.uploads.version(name)
        assert version is not None
        assert version.etag == etag
        await edges.uploads.set_metadata(name, {}, etag=etag)

    async def test_tags_hold_every_character_a_status_may_have(self, edges: Edges) -> None:
        name = own("a")
        await edges.uploads.write(name, b"one", {})
        tags = {
            "certcast_status": "partially_live",
            "certcast_live": "1/2",
            "certcast_reason": "a.b:443 = x+y _-z " * 13,
        }
        assert await edges.uploads.set_tags(name, tags)
        assert await edges.uploads.tags(name) == tags
        assert await edges.uploads.set_tags(name, {"certcast_status": "live"})
        assert await edges.uploads.tags(name) == {"certcast_status": "live"}

    async def test_metadata_keys_keep_their_case(self, edges: Edges) -> None:
        name = own("a")
        await edges.uploads.write(name, b"one", {"HostHeader": "a", "portnumber": "443", "CERTIFICATESUBJECT": "b"})
        version = await edges.uploads.version(name)
        assert version is not None
        assert set(version.metadata) == {"HostHeader", "portnumber", "CERTIFICATESUBJECT"}

    async def test_listing_shows_the_metadata_and_etag_of_each(self, edges: Edges) -> None:
        name = own("a")
        etag = await edges.uploads.write(name, b"one", {"HostHeader": "a.example.com"})
        (found,) = [version async for version in edges.uploads.each() if version.name == name]
        assert found == await edges.uploads.version(name)
        assert found.etag == etag
        assert found.metadata == {"HostHeader": "a.example.com"}


class BundlesContract:
    async def test_what_was_sealed_opens_again(self, edges: Edges) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        pem = os.urandom(5000)
        await edges.bundles.seal(bundle_id, pem)
        assert await edges.bundles.open(bundle_id) == pem

    async def test_one_that_is_too_large_is_not_read(self, edges: Edges) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await edges.bundles.seal(bundle_id, bytes(MAX_BUNDLE_BYTES))
        assert len(await edges.bundles.open(bundle_id)) == MAX_BUNDLE_BYTES
        await edges.bundles.seal(bundle_id, bytes(MAX_BUNDLE_BYTES + 1))
        with pytest.raises(CertcastError, match=f"bundle {bundle_id} is larger than any that certcast seals"):
            await edges.bundles.open(bundle_id)

    async def test_sealing_again_makes_it_new(self, edges: Edges) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await edges.bundles.seal(bundle_id, b"pem")
        (first,) = [each async for each in edges.bundles.each() if each.bundle_id == bundle_id]
        await edges.bundles.seal(bundle_id, b"pem")
        (second,) = [each async for each in edges.bundles.each() if each.bundle_id == bundle_id]
        assert second.etag != first.etag
        assert second.stored_at >= first.stored_at
        with pytest.raises(ConflictError):
            await edges.bundles.delete(first)
        assert await edges.bundles.open(bundle_id) == b"pem"
        await edges.bundles.delete(second)
        with pytest.raises(MissingError):
            await edges.bundles.open(bundle_id)

    async def test_deleting_what_is_gone_is_no_error(self, edges: Edges) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await edges.bundles.seal(bundle_id, b"pem")
        (found,) = [each async for each in edges.bundles.each() if each.bundle_id == bundle_id]
        await edges.bundles.delete(found)
        await edges.bundles.delete(found)

    async def test_a_bundle_that_is_not_there_is_missing(self, edges: Edges) -> None:
        with pytest.raises(MissingError):
            await edges.bundles.open(f"{own('b')}/{own('c')}")

    async def test_a_bundle_sealed_under_another_key_is_refused_with_the_bundles_name(self, edges: Edges) -> None:
        bundle_id = f"{own('b')}/{own('c')}"
        await edges.other_bundles.seal(bundle_id, b"pem")
        with pytest.raises(CertcastError, match="under another key") as caught:
            await edges.bundles.open(bundle_id)
        assert bundle_id in str(caught.value)
        assert not caught.value.retriable
        assert not isinstance(caught.value, MissingError)


class QueuesContract:
    async def test_a_message_is_taken_with_its_text_and_is_gone_when_done(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, '{"größe": "☃"}')
        (message,) = await edges.queues.receive(queue, limit=32, visibility_s=30)
        assert (message.body, message.dequeue_count) == ('{"größe": "☃"}', 1)
        await edges.queues.done(queue, message)
        await edges.queues.done(queue, message)
        assert await edges.queues.receive(queue, limit=32, visibility_s=30) == []

    async def test_a_taken_message_is_hidden_and_comes_again_counted(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "text")
        (first,) = await edges.queues.receive(queue, limit=32, visibility_s=2)
        assert await edges.queues.receive(queue, limit=32, visibility_s=2) == []
        await edges.wait(2.2)
        (second,) = await edges.queues.receive(queue, limit=32, visibility_s=30)
        assert (second.message_id, second.dequeue_count) == (first.message_id, 2)

    async def test_a_message_somebody_else_took_since_is_not_ours_to_delete(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "text")
        (first,) = await edges.queues.receive(queue, limit=32, visibility_s=1)
        await edges.wait(1.2)
        await edges.queues.receive(queue, limit=32, visibility_s=1)
        await edges.queues.done(queue, first)
        await edges.wait(1.2)
        (third,) = await edges.queues.receive(queue, limit=32, visibility_s=1)
        assert third.dequeue_count == 3

    async def test_a_delayed_message_shows_when_its_time_has_come(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "later", delay_s=2)
        await edges.queues.send(queue, "now")
        (first,) = await edges.queues.receive(queue, limit=32, visibility_s=30)
        assert first.body == "now"
        await edges.wait(2.2)
        (second,) = await edges.queues.receive(queue, limit=32, visibility_s=30)
        assert second.body == "later"

    async def test_a_message_that_nobody_took_in_its_time_is_gone(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "short", ttl_s=1)
        await edges.queues.send(queue, "long", ttl_s=60)
        await edges.queues.send(queue, "for ever")
        await edges.wait(2.2)
        bodies = {message.body for message in await edges.queues.receive(queue, limit=32, visibility_s=30)}
        assert bodies == {"long", "for ever"}

    async def test_no_more_are_taken_than_asked_for_nor_than_one_request_gives(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        for number in range(40):
            await edges.queues.send(queue, str(number))
        assert len(await edges.queues.receive(queue, limit=5, visibility_s=30)) == 5
        assert len(await edges.queues.receive(queue, limit=32, visibility_s=30)) == 32
        assert len(await edges.queues.receive(queue, limit=32, visibility_s=30)) == 3

    async def test_a_queue_that_is_not_there_is_missing(self, edges: Edges) -> None:
        queue = own("q")
        with pytest.raises(MissingError):
            await edges.queues.send(queue, "text")
        with pytest.raises(MissingError):
            await edges.queues.receive(queue, limit=32, visibility_s=30)
        await edges.queues.delete(queue)

    async def test_creating_twice_keeps_the_messages_and_deleting_drops_them(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "text")
        await edges.queues.create(queue)
        (message,) = await edges.queues.receive(queue, limit=32, visibility_s=1)
        await edges.queues.delete(queue)
        await edges.queues.done(queue, message)
        with pytest.raises(MissingError):
            await edges.queues.receive(queue, limit=32, visibility_s=30)

    async def test_what_is_not_base64_text_is_taken_without_a_body(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        for text in ("not base64!", "/w==", "YWJj\nYWJj"):
            await edges.send_raw(queue, text)
        found = await edges.queues.receive(queue, limit=32, visibility_s=30)
        assert [message.body for message in found] == [None, None, None]

    async def test_the_largest_message_that_certcast_makes_fits(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "x" * MAX_BODY_BYTES)
        (message,) = await edges.queues.receive(queue, limit=1, visibility_s=30)
        assert message.body == "x" * MAX_BODY_BYTES

    async def test_a_message_may_be_hidden_for_the_days_until_a_certificate_is_valid(self, edges: Edges) -> None:
        queue = own("q")
        await edges.queues.create(queue)
        await edges.queues.send(queue, "next week", delay_s=6 * 24 * 3600)
        assert await edges.queues.receive(queue, limit=1, visibility_s=30) == []

    async def test_queues_are_listed_by_the_beginning_of_their_name(self, edges: Edges) -> None:
        prefix = own("q")
        for suffix in ("b", "a"):
            await edges.queues.create(f"{prefix}-{suffix}")
        assert [name async for name in edges.queues.names(prefix)] == [f"{prefix}-a", f"{prefix}-b"]
