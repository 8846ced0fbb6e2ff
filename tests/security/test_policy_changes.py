"""A policy that changes: what it refuses now is taken down, what it allows now is looked at, by the next sweep."""

from dataclasses import replace

import pytest

from shared.errors import BusyError
from shared.function.cloud import Cloud
from shared.function.intake import handle_notice, look_at
from shared.function.rules import Rules
from shared.function.sweep import sweep
from shared.state.records import UploadStatus
from shared.verdict import VerdictCode
from tests.rigs.scenes import Scene

HOST = "www.alice.example"
REST = '[[uploads]]\nprefix = ""\nhosts = ["*"]\n'


class Changing:
    """A policy's text, which a test writes anew."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.passed = 0.0

    async def read(self) -> str:
        return self.text

    def clock(self) -> float:
        self.passed += 1000
        return self.passed


def ruled(scene: Scene, text: str) -> tuple[Cloud, Changing]:
    changing = Changing(text)
    return replace(scene.cloud, rules=Rules(changing.read, changing.clock)), changing


async def test_a_certificate_that_is_never_to_be_served_is_taken_down_and_another_takes_over(scene: Scene) -> None:
    cloud, policy = ruled(scene, "version = 1\n" + REST)
    await scene.join("web-0")
    await look_at(cloud, await scene.upload("sound.pfx", HOST, day=-3))
    await look_at(cloud, await scene.upload("leaked.pfx", HOST, day=-1))
    await scene.everyone_obeys("web-0")
    leaked = await scene.record("leaked.pfx")
    assert leaked.status is UploadStatus.LIVE
    policy.text = f'version = 1\nnever = ["{leaked.fingerprint_sha256}"]\n' + REST
    report = await sweep(cloud)
    assert report.problems == []
    row = await scene.row(HOST)
    assert (row.present, row.source) == (True, "sound.pfx")
    record = await scene.record("leaked.pfx")
    assert (record.status, record.claims) == (UploadStatus.REJECTED, ())
    assert [violation.code for violation in record.violations] == [VerdictCode.NOT_ALLOWED]
    assert (await scene.record("sound.pfx")).status is UploadStatus.ACCEPTED
    assert [key.host for key in await scene.told("web-0")] == [HOST]
    again = await sweep(cloud)
    assert (again.looked_at, again.problems) == ([], [])
    policy.text = "version = 1\n" + REST
    await sweep(cloud)
    assert (await scene.row(HOST)).source == "leaked.pfx"
    assert (await scene.record("leaked.pfx")).status is UploadStatus.ACCEPTED


async def test_a_prefix_that_is_narrowed_takes_down_what_lies_beyond_it_and_nothing_else(scene: Scene) -> None:
    wide = '[[uploads]]\nprefix = "alice/"\nhosts = ["*"]\n[[uploads]]\nprefix = "bob/"\nhosts = ["*.bob.example"]\n'
    cloud, policy = ruled(scene, "version = 1\n" + wide)
    await look_at(cloud, await scene.upload("alice/a.pfx", HOST))
    await look_at(cloud, await scene.upload("alice/taken.pfx", "www.bob.example"))
    await look_at(cloud, await scene.upload("bob/b.pfx", "shop.bob.example"))
    policy.text = "version = 1\n" + wide.replace('hosts = ["*"]', 'hosts = ["*.alice.example"]')
    await sweep(cloud)
    assert (await scene.row(HOST)).source == "alice/a.pfx"
    assert not (await scene.row("www.bob.example")).present
    assert (await scene.row("shop.bob.example")).source == "bob/b.pfx"
    assert (await scene.record("alice/taken.pfx")).status is UploadStatus.REJECTED


async def test_an_older_certificate_in_place_is_taken_down_though_its_renewal_was_rejected(scene: Scene) -> None:
    cloud, policy = ruled(scene, "version = 1\n" + REST)
    await look_at(cloud, await scene.upload("a.pfx", HOST))
    fingerprint = (await scene.record("a.pfx")).fingerprint_sha256
    await look_at(cloud, await scene.upload("a.pfx", HOST, metadata={"CertificatePassword": "wrong"}))
    assert (await scene.row(HOST)).present
    policy.text = f'version = 1\nnever = ["{fingerprint}"]\n' + REST
    await sweep(cloud)
    assert not (await scene.row(HOST)).present
    record = await scene.record("a.pfx")
    assert "stays in place" not in record.reason


async def test_an_older_certificate_in_place_is_taken_down_though_its_renewal_is_for_later(scene: Scene) -> None:
    cloud, policy = ruled(scene, "version = 1\n" + REST)
    await look_at(cloud, await scene.upload("a.pfx", HOST))
    fingerprint = (await scene.record("a.pfx")).fingerprint_sha256
    await look_at(cloud, await scene.upload("a.pfx", HOST, day=10))
    assert (await scene.record("a.pfx")).status is UploadStatus.SCHEDULED
    assert (await scene.row(HOST)).present
    policy.text = f'version = 1\nnever = ["{fingerprint}"]\n' + REST
    await sweep(cloud)
    assert not (await scene.row(HOST)).present
    assert (await sweep(cloud)).looked_at == []
    scene.storage.clock.advance(11 * 86_400)
    await sweep(cloud)
    assert (await scene.row(HOST)).present, "the renewal is another certificate"


async def test_while_a_policy_cannot_be_used_nothing_is_accepted_and_nothing_taken_down(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, policy = ruled(scene, "version = 1\n" + REST)
    await look_at(cloud, await scene.upload("a.pfx", HOST))
    policy.text = "version = 2"
    with pytest.raises(BusyError, match="CERTCAST_POLICY"):
        await look_at(cloud, await scene.upload("b.pfx", "b.example"))
    await handle_notice(cloud, await scene.upload("c.pfx", "c.example"))
    assert await scene.rechecks()
    await sweep(cloud)
    assert (await scene.row(HOST)).present
    assert (await scene.outside.state.uploads.get("c.pfx")) is None or (
        await scene.record("c.pfx")
    ).status is UploadStatus.RECEIVED
    assert "nothing is accepted until it can be used" in caplog.text
    policy.text = "version = 1\n" + REST
    await sweep(cloud)
    assert (await scene.record("c.pfx")).status is UploadStatus.ACCEPTED


async def test_a_reason_that_the_policy_would_not_give_any_more_is_given_as_it_is_now_once(scene: Scene) -> None:
    bob = '[[uploads]]\nprefix = "bob/"\nhosts = ["*.bob.example"]\n'
    cloud, policy = ruled(scene, "version = 1\n" + bob)
    record = await scene.looked_at(await scene.upload("bob/a.pfx", HOST), cloud)
    assert "may claim *.bob.example" in record.violations[0].detail
    assert (await sweep(cloud)).looked_at == []
    policy.text = "version = 1\n" + bob.replace("*.bob.example", "*.carol.example")
    assert (await sweep(cloud)).looked_at == ["bob/a.pfx"]
    assert "may claim *.carol.example" in (await scene.record("bob/a.pfx")).violations[0].detail
    assert (await sweep(cloud)).looked_at == []


async def test_what_was_refused_is_looked_at_when_there_is_no_policy_any_more(scene: Scene) -> None:
    cloud, _ = ruled(scene, 'version = 1\n[[uploads]]\nprefix = "bob/"\nhosts = ["*"]\n')
    refused = await scene.looked_at(await scene.upload("a.pfx", HOST), cloud)
    assert refused.status is UploadStatus.REJECTED
    assert (await sweep(scene.cloud)).looked_at == ["a.pfx"]
    assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED


async def test_one_refused_unopened_whose_earlier_certificate_is_never_served_is_not_looked_at_for_ever(
    scene: Scene,
) -> None:
    cloud, policy = ruled(scene, "version = 1\n" + REST)
    await look_at(cloud, await scene.upload("a.pfx", HOST))
    fingerprint = (await scene.record("a.pfx")).fingerprint_sha256
    policy.text = f'version = 1\nnever = ["{fingerprint}"]\n[[uploads]]\nprefix = "bob/"\nhosts = ["*"]\n'
    await look_at(cloud, await scene.upload("a.pfx", HOST, day=-3))
    for _ in range(3):
        report = await sweep(cloud)
    assert (report.looked_at, report.problems) == ([], [])
