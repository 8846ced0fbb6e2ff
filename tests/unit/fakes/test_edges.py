"""The fake edges keep the contract of the real ones, or the use cases' tests would prove nothing."""

import pytest

from shared.errors import CertcastError, ConflictError, QueueBeingDeletedError, UnsupportedError
from tests.contracts.edges import BundlesContract, Edges, QueuesContract, TableContract, UploadsContract
from tests.fakes.edges import FakeStorage


@pytest.fixture
def edges() -> Edges:
    storage = FakeStorage()
    cloud = storage.cloud()

    async def send_raw(queue: str, _: str) -> None:
        storage.put(queue, None)

    async def wait(seconds: float) -> None:
        storage.clock.advance(seconds)

    return Edges(
        table=storage.table("installations"),
        uploads=cloud.uploads,
        bundles=cloud.bundles,
        other_bundles=storage.cloud(key="another").bundles,
        queues=cloud.queues,
        send_raw=send_raw,
        wait=wait,
    )


class TestFakeTable(TableContract):
    @pytest.mark.parametrize(
        ("key", "columns"),
        [
            ("a/b", {}),
            ("a\nb", {}),
            ("x" * 600, {}),
            ("row", {"text": "x" * 33_000}),
            ("row", {"number": 2**31}),
            ("row", {"bytes": bytes(70_000)}),
            ("row", {f"c{number}": bytes(60_000) for number in range(20)}),
        ],
    )
    async def test_what_the_service_refuses_is_refused(
        self, edges: Edges, key: str, columns: dict[str, str | int | float | bool | bytes]
    ) -> None:
        with pytest.raises(CertcastError, match="400"):
            await edges.table.insert("partition", key, columns)


class TestFakeUploads(UploadsContract):
    async def test_tags_that_the_service_refuses_are_refused(self, edges: Edges) -> None:
        await edges.uploads.write("a.pfx", b"", {})
        for tags in ({"a": "größe"}, {"a": "x" * 257}, {"": "x"}, {f"t{number}": "" for number in range(11)}):
            with pytest.raises(CertcastError, match="400"):
                await edges.uploads.set_tags("a.pfx", tags)

    async def test_an_account_without_tags_has_none(self) -> None:
        storage = FakeStorage()
        storage.has_tags = False
        uploads = storage.cloud().uploads
        await uploads.write("a.pfx", b"", {})
        with pytest.raises(UnsupportedError):
            await uploads.set_tags("a.pfx", {"a": "b"})
        with pytest.raises(UnsupportedError):
            await uploads.tags("a.pfx")

    async def test_tags_that_were_changed_since_are_left_as_they_are(self) -> None:
        uploads = FakeStorage().cloud().uploads
        await uploads.write("a.pfx", b"", {})
        await uploads.set_tags("a.pfx", {"team": "blue"})
        with pytest.raises(ConflictError):
            await uploads.set_tags("a.pfx", {"certcast_status": "live"}, found={"team": "green"})
        assert await uploads.set_tags("a.pfx", {"team": "red"}, found={"team": "blue"})
        assert await uploads.tags("a.pfx") == {"team": "red"}


class TestFakeBundles(BundlesContract):
    pass


class TestFakeQueues(QueuesContract):
    async def test_a_deleted_one_can_be_made_again_when_its_deletion_is_over(self) -> None:
        storage = FakeStorage()
        storage.queue_deletion_s = 40
        queues = storage.cloud().queues
        await queues.create("queue")
        await queues.delete("queue")
        with pytest.raises(QueueBeingDeletedError):
            await queues.create("queue")
        storage.clock.advance(40)
        await queues.create("queue")

    async def test_what_the_service_refuses_is_refused(self, edges: Edges) -> None:
        await edges.queues.create("queue")
        with pytest.raises(CertcastError, match="413"):
            await edges.queues.send("queue", "x" * 50_000)
        with pytest.raises(CertcastError, match="400"):
            await edges.queues.send("queue", "x", delay_s=8 * 24 * 3600)
        with pytest.raises(CertcastError, match="400"):
            await edges.queues.send("queue", "x", delay_s=60, ttl_s=60)
        with pytest.raises(CertcastError, match="400"):
            await edges.queues.create("Not_A_Queue")
