"""What is told of an upload is true whenever it is read: what it says of others is derived, or written again."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operator_cli.outcome import Sent, TableOutcomes
from operator_cli.status import read_status
from operator_cli.storage import Storage
from shared.binding import BindingKey
from shared.codec import to_entity
from shared.errors import AccessDeniedError
from shared.function import status_api
from shared.function.announcing import announce
from shared.function.cloud import Cloud
from shared.function.intake import handle_notice
from shared.function.sweep import sweep
from shared.messages import EventType, InstallOutcome
from shared.state.document import upload_document
from shared.state.keys import binding_key, upload_key
from shared.state.reasons import ANOTHER
from shared.state.records import BINDINGS_TABLE, UPLOADS_TABLE, UploadRecord, UploadStatus
from shared.state.telling import MOST_READS, with_reasons
from shared.verdict import VerdictCode
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.rigs.scenes import PASSWORD, Scene
from tests.rigs.some import some

HOST = "a.test"
NAMES = ["u.pfx", "v.pfx", "w.pfx", "x.pfx", "y.pfx"]
REJECTED = {"CertificatePassword": "wrong"}

STEPS = st.one_of(
    st.tuples(
        st.just("upload"), st.sampled_from(NAMES), st.sampled_from([-9, -5, -3, -1]), st.sampled_from([90, 9.2, 3.1])
    ),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("reject"), st.sampled_from(NAMES)),
    st.tuples(st.just("pass"), st.sampled_from([60, 3600, 86_400])),
)


def opened(cloud: Cloud) -> Storage:
    return Storage(uploads=cloud.uploads, state=cloud.state, now=cloud.now)


async def act(scene: Scene, what: str, *about: Any) -> None:
    """One thing that uploaders do, or that time does, and the sweep after it."""
    if what == "upload":
        name, day, lasts = about
        await handle_notice(scene.cloud, await scene.upload(name, HOST, "b.test", day=day, lasts=lasts))
    elif what == "reject":
        await handle_notice(scene.cloud, await scene.upload(*about, HOST, day=-2, metadata=REJECTED))
    elif what == "delete":
        if await scene.outside.uploads.delete(*about):
            await scene.looked_at(*about)
    else:
        scene.storage.clock.advance(*about)
        await scene.beat("web-0")
        await sweep(scene.cloud)


def quoted(document: dict[str, Any]) -> str:
    return json.dumps([document["reason"], document["violations"]])


async def names_the_present_winner_or_nothing(scene: Scene) -> None:
    winner = (await scene.row(HOST)).source
    documents = (await status_api.certificates(scene.outside)).document["uploads"]
    listed = {each["name"]: each for each in (await read_status(opened(scene.outside), None))["uploads"]}
    for document in documents:
        name = document["name"]
        alone = (await status_api.certificate(scene.outside, name)).document
        stored = upload_document(await scene.record(name))
        tags = json.dumps(await scene.tags(name))
        for others in set(NAMES) - {winner, name}:
            assert others not in quoted(document) + quoted(listed[name]) + quoted(alone), (name, winner, document)
        for others in set(NAMES) - {name}:
            assert others not in quoted(stored) + tags, (name, "is written down with a name")
        assert quoted(alone) == quoted(document)
        if document["status"] == "superseded":
            assert winner in document["reason"], document
            assert winner != name
        kept = "stays in place" in document["reason"] or "still served" in document["reason"]
        assert kept <= (winner == name), document
        if document["status"] == "rejected":
            assert kept is (winner == name), document


class TestManyForOneHost:
    @settings(deadline=None, max_examples=40)
    @given(st.lists(STEPS, min_size=2, max_size=12))
    def test_in_any_order_each_names_the_present_winner_or_nothing(self, steps: Sequence[tuple[Any, ...]]) -> None:
        async def play() -> None:
            scene = Scene(FakeStorage())
            await scene.join("web-0")
            await act(scene, "upload", "u.pfx", -4, 90)
            for step in steps:
                await act(scene, *step)
                await names_the_present_winner_or_nothing(scene)

        asyncio.run(play())

    async def test_seven_uploads_and_two_deletions(self, scene: Scene) -> None:
        for number in range(8):
            await scene.accepted(f"{number}.pfx", HOST, day=-10 + number)
        await scene.looked_at(await scene.delete("7.pfx"))
        await scene.accepted("5.pfx", HOST, day=-20)
        for number in range(6):
            told = await scene.told_of(f"{number}.pfx")
            assert (told.status, told.reason) == (UploadStatus.SUPERSEDED, "superseded by 6.pfx")
            assert all("6.pfx" in violation.detail for violation in told.violations)

    async def test_the_command_that_waits_and_the_event_name_the_winner_too(self, scene: Scene) -> None:
        await scene.accepted("new.pfx", HOST, day=-1)
        notice = await scene.upload("old.pfx", HOST, day=-9)
        await scene.looked_at(notice)
        outcomes = TableOutcomes(scene.outside.state, scene.outside.uploads, scene.storage.clock)
        outcome = some(await outcomes.outcome(Sent(name="old.pfx", etag=notice.etag, content_sha256="")))
        assert outcome.document["reason"] == "superseded by new.pfx"
        assert [each["code"] for each in outcome.document["violations"]] == ["older_than_live"]
        [event] = [event for event in scene.storage.published if event.kind is EventType.SUPERSEDED]
        assert json.loads(event.document)["reason"] == "superseded by new.pfx"

    async def test_an_event_that_a_crash_kept_back_names_the_winner_when_it_is_made(self, scene: Scene) -> None:
        await scene.accepted("new.pfx", HOST, day=-1)
        await scene.accepted("old.pfx", HOST, day=-9)
        await scene.accepted("newer.pfx", HOST, day=-0.5)
        scene.storage.published.clear()
        await scene.outside.state.uploads.update("old.pfx", lambda known: replace(some(known), announced=""))
        await announce(scene.cloud, await scene.record("old.pfx"))
        [event] = scene.storage.published
        assert json.loads(event.document)["reason"] == "superseded by newer.pfx"

    async def test_what_keeps_some_of_its_hosts_says_which_it_lost(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("both.pfx", HOST, "b.test", day=-9)
        await scene.accepted("one.pfx", HOST, day=-1)
        await scene.everyone_obeys("web-0")
        record, told = await scene.record("both.pfx"), await scene.told_of("both.pfx")
        assert (record.status, record.reason) == (UploadStatus.LIVE, f"{ANOTHER} for {HOST}:443")
        assert told.reason == f"{HOST}:443 is served from one.pfx"
        assert [violation.code for violation in told.violations] == [VerdictCode.OLDER_THAN_LIVE]
        await scene.looked_at(await scene.delete("one.pfx"))
        await scene.everyone_obeys("web-0")
        assert ((await scene.record("both.pfx")).reason, (await scene.told_of("both.pfx")).violations) == ("", ())

    async def test_while_it_is_being_elected_nothing_is_named(self, scene: Scene) -> None:
        await scene.accepted("new.pfx", HOST, day=-1)
        await scene.accepted("old.pfx", HOST, day=-9)
        record = await scene.record("old.pfx")
        await scene.looked_at(await scene.delete("new.pfx"))
        await scene.outside.state.uploads.update("old.pfx", lambda _: record)
        told = await scene.told_of("old.pfx")
        assert (told.reason, told.violations) == ("", ())


class TestWhatStaysInPlace:
    async def test_it_is_said_as_long_as_it_is_so_in_row_tags_and_status(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST, day=-5)
        await scene.looked_at(await scene.upload("a.pfx", HOST, metadata=REJECTED))

        async def says() -> bool:
            reasons = [(await scene.record("a.pfx")).reason, (await scene.told_of("a.pfx")).reason]
            reasons.append((await scene.tags("a.pfx"))["certcast_reason"])
            said = {"stays in place" in reason for reason in reasons}
            assert len(said) == 1, reasons
            return said.pop()

        assert await says()
        await scene.accepted("b.pfx", HOST, day=-1)
        assert not await says()
        await scene.looked_at(await scene.delete("b.pfx"))
        assert await says()

    async def test_a_look_that_ended_before_it_was_said_is_made_up_for_by_the_sweep(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST, day=-5)
        await scene.looked_at(await scene.upload("a.pfx", HOST, metadata=REJECTED))
        record = await scene.record("a.pfx")
        await scene.accepted("b.pfx", HOST, day=-1)
        await scene.outside.state.uploads.update("a.pfx", lambda _: record)
        assert "stays in place" not in (await scene.told_of("a.pfx")).reason
        assert (await sweep(scene.cloud)).settled == ["a.pfx", "b.pfx"][:1]
        assert (await scene.record("a.pfx")).reason == ""

    async def test_once_it_has_expired_that_is_said(self, scene: Scene) -> None:
        await scene.accepted("a.pfx", HOST, day=-60)
        await scene.looked_at(await scene.upload("a.pfx", HOST, metadata=REJECTED))
        scene.storage.clock.advance(timedelta(days=31).total_seconds())
        assert "expired on" in (await scene.told_of("a.pfx")).reason
        await sweep(scene.cloud)
        assert "under this name expired on" in (await scene.record("a.pfx")).reason
        assert "expired on" in (await scene.tags("a.pfx"))["certcast_reason"]


class TestInstances:
    async def test_one_that_registers_later_is_not_said_to_be_missing(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", HOST)
        assert record.reason.startswith("no running instance was registered for role *")
        await scene.join("web-0")
        await sweep(scene.cloud)
        reason = (await scene.record("a.pfx")).reason
        assert reason == "instance web-0 registered after the others were told, and had not proved it yet"
        await scene.proves("web-0", HOST)
        record = await scene.record("a.pfx")
        assert (record.status, record.reason) == (UploadStatus.LIVE, "")

    async def test_what_has_reported_nothing_in_time_is_told_in_words_that_stay_true(self, scene: Scene) -> None:
        await scene.join("web-0", "web-1")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        scene.storage.clock.advance(601)
        await scene.beat("web-0", "web-1")
        await sweep(scene.cloud)
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.PARTIALLY_LIVE
        assert record.reason == "instance web-1 has reported nothing within 10 minutes; see its agent's log"
        await scene.proves("web-1", HOST)
        assert (await scene.record("a.pfx")).reason == ""

    async def test_a_failure_is_told_as_long_as_it_stands(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0", outcome=InstallOutcome.FAILED, reason="the disk is full")
        assert (await scene.record("a.pfx")).reason == f"instance web-0, {HOST}:443: the disk is full"
        scene.storage.clock.advance(5)
        await scene.proves("web-0", HOST)
        assert (await scene.record("a.pfx")).reason == ""


UPLOADS = 10_000


async def crowded(scene: Scene, uploads: int = UPLOADS) -> None:
    """As many superseded uploads, two for each host, as if each had been uploaded."""
    await scene.accepted("new.pfx", HOST, day=-1)
    await scene.accepted("old.pfx", HOST, day=-9)
    row, old = await scene.row(HOST), await scene.record("old.pfx")
    storage = scene.storage
    tables = storage.tables[UPLOADS_TABLE], storage.tables[BINDINGS_TABLE]
    stored_upload, stored_row = tables[0][upload_key("old.pfx")], tables[1][binding_key(row.key)]
    for number in range(uploads):
        key = BindingKey(role="*", host=f"h{number}.test", port=443)
        copy = replace(old, name=f"{number}.pfx", hosts=(key.host,), claims=(key,))
        claims = tuple(replace(each, source=copy.name) if each.source == "old.pfx" else each for each in row.claims)
        tables[0][upload_key(copy.name)] = replace(stored_upload, columns=dict(to_entity(copy)))
        placed = replace(row, host=key.host, claims=claims)
        tables[1][binding_key(key)] = replace(stored_row, columns=dict(to_entity(placed)))


def is_told(documents: Sequence[dict[str, Any]]) -> bool:
    return all(each["reason"] == "superseded by new.pfx" for each in documents if each["status"] == "superseded")


class TestCost:
    async def test_ten_thousand_uploads_are_listed_with_pages_of_rows_and_no_read_of_each(self, scene: Scene) -> None:
        await crowded(scene)
        watched = Mortal()
        document = await read_status(opened(scene.seen_by(watched)), None)
        assert len(document["uploads"]) == UPLOADS + 2
        assert is_told(document["uploads"])
        assert watched.steps == {"instances query": 1, "uploads query": 11, "bindings query": 11}

    async def test_so_does_each_page_of_the_status_api_and_it_reads_no_more_rows_than_others(
        self, scene: Scene
    ) -> None:
        await crowded(scene)
        watched = Mortal()
        answer = await status_api.certificates(scene.seen_by(watched), limit="1000")
        assert len(answer.document["uploads"]) == 1000
        assert watched.steps["bindings query"] <= 6
        assert watched.steps["bindings get"] == 0

    async def test_a_page_of_what_is_live_reads_no_row(self, scene: Scene) -> None:
        await scene.join("web-0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("web-0")
        watched = Mortal()
        await status_api.certificates(scene.seen_by(watched))
        assert watched.steps == {"uploads query": 1, "instances query": 1}

    async def test_what_lies_beyond_is_told_without_names_and_not_untruly(self, scene: Scene) -> None:
        await crowded(scene, 7_000)
        document = (await status_api.certificates(scene.outside, limit="1000")).document
        reasons = {each["reason"] for each in document["uploads"] if each["status"] == "superseded"}
        assert reasons <= {"superseded by new.pfx", f"{ANOTHER} for its hosts"}
        assert "superseded by new.pfx" in reasons


def test_a_reason_quotes_no_more_of_a_name_than_fits() -> None:
    record = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.SUPERSEDED, reason=PASSWORD * 1000)
    assert len(record.reason) <= 1_003


@pytest.mark.parametrize("hosts", [1, MOST_READS + 1])
async def test_who_may_not_read_the_desired_rows_is_told_what_stands_in_the_uploads(scene: Scene, hosts: int) -> None:
    names = [f"h{number}.test" for number in range(hosts)]
    await scene.accepted("old.pfx", *names, day=-9)
    await scene.accepted("new.pfx", *names, day=-1)
    denied = AccessDeniedError("reading table bindings: refused (AuthorizationPermissionMismatch)")
    seen = scene.seen_by(Failing({"bindings get": [denied], "bindings query": [denied]}))
    [told] = await with_reasons(seen.state, [await scene.record("old.pfx")], scene.storage.clock())
    assert (told.status, told.reason) == (UploadStatus.SUPERSEDED, "another upload is served for its hosts")
    assert (await scene.told_of("old.pfx")).reason == "superseded by new.pfx"
