"""Reports that are not true: what a registered instance cannot say is dropped, and what it can is put right by it."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import BrokenMessageError
from shared.function.results import CLOCK_GRAIN, CLOCKS_APART, fold
from shared.function.status_api import certificate
from shared.function.sweep import sweep
from shared.messages import BindingReport, InstallOutcome, InstallReport, decode, encode
from shared.state.records import InstallationRecord, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.rigs.attacked import Attacked
from tests.rigs.rows import report_on
from tests.rigs.scenes import PASSWORD, Scene
from tests.rigs.some import some

HOST = "a.example.com"


async def told(scene: Scene) -> BindingReport:
    """A true report of the one instance there is, which has not been sent."""
    await scene.join("web-0")
    await scene.accepted("a.pfx", HOST)
    return report_on(await scene.row(HOST), at=scene.storage.clock())


async def entries(scene: Scene) -> list[InstallationRecord]:
    return [known.value async for known in scene.outside.state.installations.all()]


async def folded(scene: Scene, *reports: BindingReport, instance: str = "web-0") -> list[InstallationRecord]:
    await fold(scene.cloud, InstallReport(instance=instance, reports=reports))
    return await entries(scene)


UNTRUE: dict[str, dict[str, Any]] = {
    "a host that is not bound": {"host": "b.example.com"},
    "a port that is not bound": {"port": 8443},
    "a role that is not its own": {"role": "db"},
    "a generation to come": {"generation": 2**30},
    "the last generation there can be": {"generation": 2**31 - 1},
    "no generation": {"generation": 0},
    "another upload": {"source": "b.pfx"},
    "no upload": {"source": ""},
    "the year 9999": {"finished_at": datetime(9999, 12, 31, tzinfo=UTC)},
    "a fingerprint that is none": {"fingerprint_sha256": "<script>"},
    "a stage that took no time at all and less": {"stages_ms": {"apply": -1.0}},
    "a stage of a year": {"stages_ms": {"apply": 3e10}},
    "a stage with a name": {"stages_ms": {"<script>": 1.0}},
    "very many stages": {"stages_ms": {f"stage_{'x' * number}": 1.0 for number in range(20)}},
}


@pytest.mark.parametrize("lie", UNTRUE.values(), ids=UNTRUE)
async def test_what_cannot_be_true_is_dropped_with_one_line_and_the_rest_is_kept(
    lie: dict[str, Any], scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    true = await told(scene)
    if "source" not in lie:
        assert await folded(scene, replace(true, **lie), replace(true, **lie)) == []
        assert caplog.text.count("2 of 2 entries of a report are dropped") == 1
    [entry] = await folded(scene, replace(true, **lie), true)
    assert (entry.host, entry.generation, entry.source) == (HOST, true.generation, "a.pfx")
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


async def test_an_instance_that_is_not_registered_says_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    true = await told(scene)
    assert await folded(scene, true, instance="nobody") == []
    assert "instance nobody: a report is dropped, no such instance is registered" in caplog.text
    assert (await scene.record("a.pfx")).live == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_duration_that_is_no_number_is_no_message_and_the_api_stays_json(number: str, scene: Scene) -> None:
    true = await told(scene)
    body = encode(InstallReport(instance="web-0", reports=(replace(true, stages_ms={"apply": 1.0}),)))
    with pytest.raises(BrokenMessageError):
        decode(InstallReport, body.replace('"apply":1.0', f'"apply":{number}'))
    await folded(scene, true)
    answer = await certificate(scene.cloud, "a.pfx")
    json.dumps(answer.document, allow_nan=False)


@pytest.mark.parametrize("generation", [2**62, -(2**40), 1.5, True])
async def test_a_generation_that_no_row_could_hold_is_no_message(generation: object, scene: Scene) -> None:
    true = await told(scene)
    body = json.loads(encode(InstallReport(instance="web-0", reports=(true,))))
    body["reports"][0]["generation"] = generation
    with pytest.raises(BrokenMessageError):
        decode(InstallReport, json.dumps(body))


async def test_a_finish_a_little_ahead_is_a_clocks_and_is_entered_as_now(scene: Scene) -> None:
    true = await told(scene)
    [entry] = await folded(scene, replace(true, finished_at=scene.storage.clock() + CLOCKS_APART))
    assert entry.finished_at == scene.storage.clock()


async def test_a_finish_within_the_grain_of_the_clocks_stays_as_it_was_told(scene: Scene) -> None:
    true = await told(scene)
    ahead = scene.storage.clock() + CLOCK_GRAIN
    [entry] = await folded(scene, replace(true, finished_at=ahead))
    assert entry.finished_at == ahead
    earlier = replace(true, outcome=InstallOutcome.FAILED, finished_at=ahead - timedelta(seconds=1))
    assert await folded(scene, earlier) == [entry], "the later of the two stays, though it is ahead of this clock"


async def test_what_another_said_in_its_name_is_put_right_by_what_the_instance_says_next(scene: Scene) -> None:
    true = await told(scene)
    ahead = scene.storage.clock() + CLOCKS_APART
    reason = "it is on fire\nERROR all is lost\u202e"
    false = replace(true, outcome=InstallOutcome.FAILED, reason=reason, finished_at=ahead)
    [entry] = await folded(scene, false)
    assert "\n" not in entry.reason
    assert "\u202e" not in entry.reason
    assert (await scene.record("a.pfx")).status is UploadStatus.FAILED
    scene.storage.clock.advance(1)
    [entry] = await folded(scene, replace(true, finished_at=scene.storage.clock()))
    assert entry.outcome == "live"
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


async def test_an_entry_that_was_written_into_the_table_is_put_right_too(scene: Scene) -> None:
    true = await told(scene)
    [entry] = await folded(scene, true)
    forged = replace(
        entry,
        outcome=InstallOutcome.FAILED,
        generation=2**31 - 1,
        finished_at=datetime(9999, 1, 1, tzinfo=UTC),
    )
    for lie in (forged, replace(forged, finished_at=entry.finished_at)):
        await scene.outside.state.installations.update((HOST, 443, "web-0"), lambda _, lie=lie: lie)  # type: ignore[misc]
        scene.storage.clock.advance(1)
        [entry] = await folded(scene, replace(true, finished_at=scene.storage.clock()))
        assert (entry.outcome, entry.generation) == ("live", true.generation)


async def test_rows_of_installations_that_belong_to_nothing_are_swept_away(scene: Scene) -> None:
    true = await told(scene)
    [entry] = await folded(scene, true)
    strangers = [
        replace(entry, instance="nobody"),
        replace(entry, host="nowhere.example.com"),
        replace(entry, role="db", port=444),
        replace(entry, generation=entry.generation + 7, instance="web-1"),
    ]
    await scene.join("web-1")
    for each in strangers:
        await scene.outside.state.installations.update(
            (each.host, each.port, each.instance),
            lambda _, each=each: each,  # type: ignore[misc]
        )
    await sweep(scene.cloud)
    assert len(await entries(scene)) == 5, "within the hour they may be of something that is newer than what was read"
    scene.storage.clock.advance(timedelta(minutes=59).total_seconds())
    await scene.beat("web-0", "web-1")
    scene.storage.clock.advance(timedelta(minutes=2).total_seconds())
    await sweep(scene.cloud)
    assert await entries(scene) == [entry]


async def test_reports_that_lie_do_not_hold_up_a_true_one_that_comes_with_them() -> None:
    scene = Scene(FakeStorage())
    true = await told(scene)
    lies = [replace(true, host=f"h{number}.example.com") for number in range(300)]
    await asyncio.gather(*(folded(scene, *lies) for _ in range(3)), folded(scene, true))
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


async def test_reports_from_a_queue_of_the_real_service_are_held_to_the_same(site: Attacked) -> None:
    await site.join("web-0")
    record = await site.looked_at("a.pfx", HOST)
    row = some(await site.account.state.bindings.get(record.claims[0]))
    true = report_on(row, at=site.cloud.now())
    await fold(site.cloud, InstallReport(instance="web-1", reports=(true,)))
    await fold(site.cloud, InstallReport(instance="web-0", reports=(replace(true, generation=2**31 - 1),)))
    assert some(await site.account.state.uploads.get("a.pfx")).status is UploadStatus.ACCEPTED
    await fold(site.cloud, InstallReport(instance="web-0", reports=(true,)))
    assert some(await site.account.state.uploads.get("a.pfx")).status is UploadStatus.LIVE
    assert PASSWORD not in str(await site.metadata("a.pfx"))
