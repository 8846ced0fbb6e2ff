"""Looks that end anywhere, and looks that overlap in any way: the state at the end is that of one undisturbed look."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import UnavailableError
from shared.function.blob_event import Notice
from shared.function.in_process import SETTLE_AFTER_S, Later
from shared.function.intake import look_at
from shared.function.results import fold
from shared.function.sweep import RESEND_AFTER, sweep
from shared.state.records import UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Mortal, ProcessDiedError, StandingStill
from tests.fakes.virtual_time import Bursts, Interleaving, VirtualLoop, run
from tests.rigs.effort import examples
from tests.rigs.scenes import Scene, pfx

INSTANCES = ("i0", "i1")


async def picture(scene: Scene) -> dict[str, Any]:
    """Everything that matters in the end, without times, revisions and generations."""
    state = scene.outside.state
    uploads = {}
    async for known in state.uploads.all():
        record = known.value
        version = await scene.outside.uploads.version(record.name)
        uploads[record.name] = {
            "status": record.status,
            "codes": [violation.code for violation in record.violations],
            "reason": record.reason,
            "hosts": record.hosts,
            "claims": record.claims,
            "bundle": record.bundle_id,
            "counts": (record.live, record.total, record.expected),
            "done": record.etag == (version.etag if version else "deleted"),
            "judged": record.source_etag,
            "metadata": version.metadata if version else None,
            "status tag": ((await scene.tags(record.name)).get("certcast_status") if version else None),
        }
    rows = {
        known.value.key: (
            known.value.state,
            known.value.source,
            known.value.bundle_id,
            known.value.site,
            sorted(claim.source for claim in known.value.claims if claim.withdrawn_at is None),
        )
        async for known in state.bindings.all()
        if known.value.present or known.value.source
    }
    return {"uploads": uploads, "rows": rows}


@dataclass(frozen=True)
class Case:
    """Something to be noticed, after everything before it was handled undisturbed."""

    before: Callable[[Scene], Awaitable[object]]
    then: Callable[[Scene], Awaitable[Notice]]


async def nothing(_: Scene) -> None:
    pass


async def two_hosts_live(scene: Scene) -> None:
    await scene.accepted("a.pfx", "a.example.com", "b.example.com", day=-20)
    await scene.everyone_obeys(*INSTANCES)


async def superseding_another(scene: Scene) -> None:
    await two_hosts_live(scene)
    await scene.accepted("new.pfx", "a.example.com", "b.example.com", day=-5)
    await scene.everyone_obeys(*INSTANCES)


async def edited(scene: Scene, **changes: str) -> Notice:
    await scene.edit("a.pfx", **changes)
    return Notice(name="a.pfx")


CASES = {
    "a first upload": Case(nothing, lambda scene: scene.upload("a.pfx", "a.example.com", "b.example.com")),
    "an overwrite": Case(two_hosts_live, lambda scene: scene.upload("a.pfx", "a.example.com", "b.example.com")),
    "an overwrite for other hosts": Case(
        two_hosts_live, lambda scene: scene.upload("a.pfx", "b.example.com", "c.example.com")
    ),
    "a host header edited": Case(two_hosts_live, lambda scene: edited(scene, HostHeader="b.example.com")),
    "a site named": Case(two_hosts_live, lambda scene: edited(scene, SiteName="shop")),
    "a takeover": Case(two_hosts_live, lambda scene: scene.upload("new.pfx", "a.example.com", "b.example.com", day=-1)),
    "a takeover of one host": Case(two_hosts_live, lambda scene: scene.upload("new.pfx", "a.example.com", day=-1)),
    "an older certificate": Case(two_hosts_live, lambda scene: scene.upload("old.pfx", "a.example.com", day=-40)),
    "a rejection": Case(
        two_hosts_live, lambda scene: scene.upload("a.pfx", content=b"?", metadata={"CertificatePassword": "p"})
    ),
    "an upload without password": Case(
        nothing, lambda scene: scene.upload("a.pfx", content=pfx("a.example.com"), metadata={})
    ),
    "a schedule": Case(two_hosts_live, lambda scene: scene.upload("a.pfx", "a.example.com", day=3)),
    "a deletion": Case(two_hosts_live, lambda scene: scene.delete("a.pfx")),
    "a deletion of the winner": Case(superseding_another, lambda scene: scene.delete("new.pfx")),
    "a deletion of the loser": Case(superseding_another, lambda scene: scene.delete("a.pfx")),
}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


async def prepared(case: Case) -> tuple[Scene, Notice]:
    scene = Scene()
    await scene.join(*INSTANCES)
    await case.before(scene)
    scene.storage.clock.advance(20)
    await scene.beat(*INSTANCES)
    return scene, await case.then(scene)


def copied(scene: Scene) -> Scene:
    """The same platform once more, to try something else on."""
    return Scene(copy.deepcopy(scene.storage))


async def told_and_done(scene: Scene) -> tuple[dict[str, Any], dict[str, Any]]:
    """The picture as it is, and once every instance has done what it was told."""
    at_once = await picture(scene)
    await scene.everyone_obeys(*INSTANCES)
    return at_once, await picture(scene)


async def undisturbed(scene: Scene, notice: Notice) -> tuple[dict[str, Any], dict[str, Any]]:
    scene = copied(scene)
    await look_at(scene.cloud, notice)
    return await told_and_done(scene)


@each_case
async def test_a_look_that_dies_anywhere_and_is_repeated_ends_as_one_that_lived(case: Case) -> None:
    before, notice = await prepared(case)
    expected = await undisturbed(before, notice)
    dies_at, died = 0, True
    while died:
        dies_at += 1
        died = False
        scene = copied(before)
        try:
            await look_at(scene.seen_by(Mortal(dies_at=dies_at)), notice)
        except ProcessDiedError:
            died = True
        scene.storage.clock.advance(15)
        await scene.beat(*INSTANCES)
        await look_at(scene.cloud, notice)
        assert await told_and_done(scene) == expected, f"died at step {dies_at}"
    assert dies_at > 5


@pytest.mark.parametrize("name", ["a first upload", "an overwrite for other hosts", "a takeover", "a deletion"])
async def test_a_look_that_a_service_fails_anywhere_is_made_good_by_recheck_and_sweep(name: str) -> None:
    before, notice = await prepared(CASES[name])
    expected = await undisturbed(before, notice)

    class FailingOnce(Mortal):
        """One request fails, the others are answered."""

        async def __call__(self, what: str) -> None:
            self.steps[what] += 1
            if self.steps.total() == self.dies_at:
                raise UnavailableError(f"{what} was not answered")

    fails_at = 0
    while True:
        fails_at += 1
        scene = copied(before)
        step = FailingOnce(dies_at=fails_at)
        scene.cloud = scene.seen_by(step)
        await scene.handle(notice)
        if step.steps.total() < fails_at:
            break
        scene.cloud = scene.outside
        scene.storage.clock.advance(2)
        await scene.beat(*INSTANCES)
        await scene.recheck_due()
        # An instance whose hint was not sent is told by the sweep; the others are not to wait for that.
        scene.storage.clock.advance(RESEND_AFTER.total_seconds())
        await scene.beat(*INSTANCES)
        await sweep(scene.cloud)
        assert await told_and_done(scene) == expected, f"failed at step {fails_at}"
    assert fails_at > 5


@each_case
@given(data=st.data())
@settings(max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.differing_executors])
def test_two_looks_at_once_end_as_one(case: Case, data: st.DataObject) -> None:
    async def work(loop: VirtualLoop) -> None:
        scene, notice = await prepared_on(case, loop)
        expected = await undisturbed(scene, notice)
        order = Interleaving(loop, Bursts(data))
        looks = [scene.seen_by(order.step(str(number)), page=2) for number in range(2)]
        await asyncio.gather(*(look_at(cloud, notice) for cloud in looks))
        await sweep(scene.cloud)
        assert without_reasons(await told_and_done(scene)) == without_reasons(expected)

    run(work)


@pytest.mark.parametrize(
    "before", ["blob download", "bundle seal", "bindings get", "bindings insert", "instances query"]
)
@pytest.mark.parametrize("then", ["deleted", "for another host", "a rejected file"])
async def test_a_look_that_stood_still_brings_back_nothing_of_what_it_had_read(before: str, then: str) -> None:
    scene = Scene()
    await scene.join(*INSTANCES)
    still = StandingStill(before)
    first = asyncio.ensure_future(look_at(scene.seen_by(still), await scene.upload("a.pfx", "a.example.com")))
    await still.reached.wait()
    if then == "deleted":
        await scene.looked_at(await scene.delete("a.pfx"))
    elif then == "for another host":
        await scene.accepted("a.pfx", "b.example.com")
    else:
        await scene.looked_at(await scene.upload("a.pfx", content=b"?", metadata={"CertificatePassword": "p"}))
        await scene.looked_at(await scene.delete("a.pfx"))
    still.go_on.set()
    await first
    rows = {known.value.host: known.value async for known in scene.outside.state.bindings.all()}
    assert {host for host, row in rows.items() if row.present} == ({"b.example.com"} if "another" in then else set())
    assert (await scene.record("a.pfx")).etag


VERSIONS = (
    {"hosts": ("a.example.com",), "day": -3},
    {"hosts": ("b.example.com",), "day": -9},
    {"hosts": ("a.example.com", "b.example.com"), "day": -1},
)


@given(data=st.data())
@settings(max_examples=examples(100), deadline=None)
def test_looks_overlapping_with_overwrites_and_a_deletion_leave_the_last_word_to_the_blob(
    data: st.DataObject,
) -> None:
    async def work(loop: VirtualLoop) -> None:
        scene = Scene(FakeStorage(loop.clock))
        await scene.join(*INSTANCES)
        order = Interleaving(loop, Bursts(data))
        ends_deleted = data.draw(st.booleans(), label="deleted in the end")

        async def uploader() -> None:
            step = order.step("uploader")
            for version in VERSIONS:
                await step("upload")
                notice = await scene.upload("a.pfx", *version["hosts"], day=version["day"])  # type: ignore[misc,arg-type]
                events.append(asyncio.ensure_future(look(notice)))
            if ends_deleted:
                await step("delete")
                events.append(asyncio.ensure_future(look(await scene.delete("a.pfx"))))

        async def look(notice: Notice) -> None:
            await look_at(scene.seen_by(order.step(f"look {len(events)}"), page=2), notice)

        events: list[asyncio.Future[None]] = []
        await uploader()
        await asyncio.gather(*events)
        await sweep(scene.cloud)
        record = await scene.record("a.pfx")
        rows = [known.value async for known in scene.outside.state.bindings.all()]
        served = {row.host: row.bundle_id for row in rows if row.present}
        if ends_deleted:
            assert record.status is UploadStatus.REMOVED
            assert served == {}
        else:
            assert record.hosts == VERSIONS[-1]["hosts"]
            assert served == dict.fromkeys(record.hosts, record.bundle_id)
        for row in rows:
            standing = [claim for claim in row.claims if claim.withdrawn_at is None]
            assert len(standing) == (1 if row.host in served else 0)
        await scene.everyone_obeys(*INSTANCES)
        await sweep(scene.cloud)
        after = await scene.record("a.pfx")
        assert after.live == (0 if ends_deleted else len(INSTANCES))

    run(work)


@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_looks_at_rivals_for_one_host_at_once_elect_the_same_one(data: st.DataObject) -> None:
    async def work(loop: VirtualLoop) -> None:
        scene = Scene(FakeStorage(loop.clock))
        await scene.join(*INSTANCES)
        order = Interleaving(loop, Bursts(data))
        names = ("x.pfx", "y.pfx", "z.pfx")
        notices = [
            await scene.upload(name, "a.example.com", day=day) for name, day in zip(names, (-5, -1, -3), strict=True)
        ]
        clouds = [replace(scene.seen_by(order.step(each.name)), later=Later()) for each in notices]
        await asyncio.gather(*(look_at(cloud, each) for cloud, each in zip(clouds, notices, strict=True)))
        # One that lost before its own look had entered its status is settled a second later.
        await asyncio.sleep(SETTLE_AFTER_S + 1)
        await scene.everyone_obeys(*INSTANCES)
        statuses = {name: (await scene.record(name)).status for name in names}
        assert statuses == {
            "x.pfx": UploadStatus.SUPERSEDED,
            "y.pfx": UploadStatus.LIVE,
            "z.pfx": UploadStatus.SUPERSEDED,
        }
        for name in names:
            assert (await scene.tags(name))["certcast_status"] == statuses[name].value
            assert "CertificatePassword" not in await scene.metadata(name)
        assert (await scene.row("a.example.com")).source == "y.pfx"

    run(work)


@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_reports_folded_while_the_upload_is_looked_at_are_not_lost(data: st.DataObject) -> None:
    async def work(loop: VirtualLoop) -> None:
        scene = Scene(FakeStorage(loop.clock))
        await scene.join(*INSTANCES)
        await scene.accepted("a.pfx", "a.example.com", day=-5)
        await scene.obey(*INSTANCES)
        order = Interleaving(loop, Bursts(data))
        notice = await scene.upload("b.pfx", "a.example.com", "b.example.com", day=-1)

        async def instance(name: str) -> None:
            step = order.step(name)
            for _ in range(3):
                await step("obey")
                await scene.obey(name)
            for report in await scene.reports():
                await fold(scene.seen_by(step), report)

        await asyncio.gather(
            look_at(scene.seen_by(order.step("look")), notice), *(instance(name) for name in INSTANCES)
        )
        await scene.everyone_obeys(*INSTANCES)
        a, b = await scene.record("a.pfx"), await scene.record("b.pfx")
        assert (b.status, b.live, b.total) == (UploadStatus.LIVE, 2, 2)
        assert a.status is UploadStatus.SUPERSEDED
        assert (await scene.tags("b.pfx"))["certcast_live"] == "2/2"
        assert (await scene.tags("a.pfx"))["certcast_status"] == "superseded"

    run(work)


async def prepared_on(case: Case, loop: VirtualLoop) -> tuple[Scene, Notice]:
    scene = Scene(FakeStorage(loop.clock))
    await scene.join(*INSTANCES)
    await case.before(scene)
    await asyncio.sleep(20)
    return scene, await case.then(scene)


def without_reasons(pictures: tuple[dict[str, Any], ...]) -> list[Any]:
    """Of two looks that end at once either may have told the tags; the words of a reason are not compared."""
    return [
        {**each, "uploads": {name: {**one, "reason": ""} for name, one in each["uploads"].items()}} for each in pictures
    ]
