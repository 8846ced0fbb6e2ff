"""`Default=true`: beside its hosts an upload claims what answers where no host does; one on each port and role."""

import json
from dataclasses import replace

import pytest

from shared.binding import ANY_ROLE, BindingKey
from shared.errors import HeldError
from shared.function.claiming import places_of
from shared.function.expiry import coming_certificates
from shared.function.intake import look_at
from shared.function.reclaiming import with_room
from shared.function.rules import Rules
from shared.function.status_api import certificate
from shared.function.sweep import sweep
from shared.hostnames import DEFAULT_HOST
from shared.messages import EventType, InstallOutcome
from shared.state.document import upload_document
from shared.state.records import UploadRecord, UploadStatus
from shared.validation.judge import MAX_HOSTS
from shared.verdict import VerdictCode
from tests.fakes.processes import Failing
from tests.rigs.event_schemas import as_sent, check_event
from tests.rigs.scenes import PASSWORD, Scene

FREE = "*.free.example"
DEFAULT = {"CertificatePassword": PASSWORD, "Default": "true"}


async def accepted(scene: Scene, name: str, *hosts: str, day: float = 0, **metadata: str) -> UploadRecord:
    return await scene.looked_at(await scene.upload(name, *hosts, day=day, metadata=DEFAULT | metadata))


def codes(record: UploadRecord) -> list[VerdictCode]:
    return [violation.code for violation in record.violations]


async def test_it_claims_its_hosts_and_the_default_and_is_live_when_all_of_it_is_proved(scene: Scene) -> None:
    await scene.join("web-0")
    record = await accepted(scene, "free.pfx", FREE)
    assert (record.status, record.hosts, record.default) == (UploadStatus.ACCEPTED, (FREE,), True)
    assert set(record.claims) == {BindingKey(role=ANY_ROLE, host=host, port=443) for host in (FREE, DEFAULT_HOST)}
    assert (await scene.row(DEFAULT_HOST)).bundle_id == (await scene.row(FREE)).bundle_id == record.bundle_id
    await scene.proves("web-0", FREE)
    assert (await scene.record("free.pfx")).status is UploadStatus.ACCEPTED
    await scene.proves("web-0", DEFAULT_HOST)
    record = await scene.record("free.pfx")
    assert (record.status, record.live, record.reason) == (UploadStatus.LIVE, 1, "")
    document = upload_document(record)
    assert (document["hosts"], document["default"]) == ([FREE], True)


async def test_the_latest_start_of_validity_has_the_default_and_the_other_goes_on_with_its_hosts(scene: Scene) -> None:
    await scene.join("web-0")
    await accepted(scene, "new.pfx", "*.new.example", day=-1)
    await scene.everyone_obeys("web-0")
    await accepted(scene, "old.pfx", "*.old.example", day=-9)
    await scene.everyone_obeys("web-0")
    stored, told = await scene.record("old.pfx"), await scene.told_of("old.pfx")
    assert (stored.status, told.status, stored.live) == (UploadStatus.LIVE, UploadStatus.LIVE, 1)
    assert stored.reason == "another upload is served for the default of port 443"
    assert told.reason == "the default of port 443 is served from new.pfx"
    assert "the default of port 443 is served from new.pfx" in told.violations[0].detail
    assert "*:443" not in json.dumps(upload_document(told))
    assert (await scene.record("new.pfx")).status is UploadStatus.LIVE


async def test_when_the_winner_goes_the_other_has_the_default_again_and_after_it_nothing(scene: Scene) -> None:
    await scene.join("web-0")
    await accepted(scene, "old.pfx", "*.old.example", day=-9)
    await accepted(scene, "new.pfx", "*.new.example", day=-1)
    await scene.everyone_obeys("web-0")
    await scene.looked_at(await scene.delete("new.pfx"))
    assert (await scene.row(DEFAULT_HOST)).source == "old.pfx"
    await scene.everyone_obeys("web-0")
    record = await scene.record("old.pfx")
    assert (record.status, record.reason) == (UploadStatus.LIVE, "")
    await scene.looked_at(await scene.delete("old.pfx"))
    assert not (await scene.row(DEFAULT_HOST)).present
    await scene.everyone_obeys("web-0")
    assert (await scene.record("old.pfx")).live == 0


async def test_editing_the_metadata_releases_the_claim_and_takes_it_up_again(scene: Scene) -> None:
    await scene.join("web-0")
    await accepted(scene, "free.pfx", FREE)
    await scene.everyone_obeys("web-0")
    for value, present in (("false", False), ("TRUE", True), ("", False), ("true", True)):
        await scene.edit("free.pfx", Default=value)
        record = await scene.looked_at("free.pfx")
        assert (record.default, record.status) == (present, UploadStatus.ACCEPTED if present else UploadStatus.LIVE)
        assert (await scene.row(DEFAULT_HOST)).present is present
        assert ((DEFAULT_HOST, 443) in {(key.host, key.port) for key in record.claims}) is present
        assert [key.host for key in await scene.told("web-0")].count(DEFAULT_HOST) == 1
        row, wild = await scene.row(DEFAULT_HOST), await scene.row(FREE)
        await scene.report("web-0", [row, wild])
        await scene.fold()
        assert (await scene.record("free.pfx")).status is UploadStatus.LIVE


async def test_it_is_told_apart_by_port_and_role_and_an_instance_obeys_that_of_its_own_role(scene: Scene) -> None:
    await scene.join("web-0", role="web")
    await scene.join("db-0", role="db")
    await accepted(scene, "all.pfx", "*.all.example", day=-1)
    await accepted(scene, "web.pfx", "*.web.example", day=-9, Role="web")
    await accepted(scene, "port.pfx", "*.port.example", day=-9, PortNumber="8443")
    assert (await scene.row(DEFAULT_HOST)).source == "all.pfx"
    assert (await scene.row(DEFAULT_HOST, role="web")).source == "web.pfx"
    assert (await scene.row(DEFAULT_HOST, port=8443)).source == "port.pfx"
    await scene.everyone_obeys("web-0", "db-0")
    for name, live in (("all.pfx", 2), ("web.pfx", 1), ("port.pfx", 2)):
        record = await scene.record(name)
        assert (record.status, record.live, record.reason) == (UploadStatus.LIVE, live, "")


async def test_a_target_that_cannot_have_a_default_says_so_of_the_default_alone(scene: Scene) -> None:
    await scene.join("web-0", "iis-0")
    await accepted(scene, "free.pfx", FREE)
    await scene.everyone_obeys("web-0")
    await scene.proves("iis-0", FREE)
    why = "this server has no certificate for unknown names: leave Default out, or give the upload a role without it"
    await scene.report("iis-0", [await scene.row(DEFAULT_HOST)], outcome=InstallOutcome.REFUSED, reason=why)
    await scene.fold()
    record = await scene.record("free.pfx")
    assert (record.status, record.live, record.total) == (UploadStatus.PARTIALLY_LIVE, 1, 2)
    assert record.reason == f"instance iis-0, the default of port 443: {why}"


@pytest.mark.parametrize("value", ["yes", "1", "on", "tru e", "wahr"])
async def test_any_other_value_is_rejected_and_says_what_to_write(scene: Scene, value: str) -> None:
    record = await accepted(scene, "free.pfx", FREE, Default=value)
    assert (record.status, codes(record)) == (UploadStatus.REJECTED, [VerdictCode.INVALID_METADATA])
    assert record.violations[0].detail == f"Default is '{value}': write true, or false, as where it is left out."


async def test_it_is_no_host_that_is_counted_or_must_be_covered(scene: Scene) -> None:
    hosts = [f"h{number}.example" for number in range(MAX_HOSTS)]
    record = await accepted(scene, "many.pfx", *hosts)
    assert (record.status, len(record.hosts), len(record.claims)) == (UploadStatus.ACCEPTED, MAX_HOSTS, MAX_HOSTS + 1)
    none = await accepted(scene, "none.pfx", "a.example", HostHeader="b.example")
    assert codes(none) == [VerdictCode.HOST_NOT_COVERED]
    star = await accepted(scene, "star.pfx", "a.example", HostHeader="*")
    assert codes(star) == [VerdictCode.INVALID_HOST]


async def test_one_that_cannot_be_read_still_says_that_it_asks_for_it(scene: Scene) -> None:
    scene.cloud = scene.seen_by(
        Failing({"blob download": [HeldError("reading blob free.pfx: refused (BlobArchived)")]})
    )
    record = await accepted(scene, "free.pfx", FREE)
    assert (record.status, record.default) == (UploadStatus.REJECTED, True)


async def test_it_waits_for_its_turn_at_the_default_and_for_room_there(scene: Scene) -> None:
    record = await accepted(scene, "free.pfx", FREE)
    assert places_of(record) == (FREE, DEFAULT_HOST)
    assert coming_certificates([replace(record, status=UploadStatus.SCHEDULED)]).keys() == set(record.claims)
    crowded = replace(record, status=UploadStatus.REJECTED, claims=(), violations=())
    assert with_room([crowded], {}, scene.storage.clock()) == []


async def test_the_warning_before_its_end_names_hosts_and_default_apart(scene: Scene) -> None:
    await scene.join("web-0")
    await scene.looked_at(await scene.upload("free.pfx", FREE, lasts=20, metadata=DEFAULT))
    await scene.everyone_obeys("web-0")
    await sweep(scene.cloud)
    [event] = [event for event in scene.storage.published if event.kind is EventType.EXPIRING]
    check_event(as_sent(event))
    document = json.loads(event.document)
    assert (document["hosts"], document["default"]) == ([FREE], True)


async def test_a_sweep_enters_a_claim_on_the_default_that_was_lost(scene: Scene) -> None:
    await accepted(scene, "free.pfx", FREE)
    row = await scene.row(DEFAULT_HOST)
    await scene.outside.state.bindings.update(row.key, lambda known: replace(known, claims=()) if known else None)
    assert (await sweep(scene.cloud)).problems == []
    assert (await scene.row(DEFAULT_HOST)).claim_of("free.pfx") is not None


async def test_the_policy_allows_it_where_a_rule_says_so_and_takes_it_down_when_none_does(scene: Scene) -> None:
    text = 'version = 1\n[[uploads]]\nprefix = "{prefix}"\nhosts = ["*"]\n{more}'
    policy = {"text": text.format(prefix="platform/", more="default = true")}

    async def read() -> str:
        return policy["text"]

    passed = iter(range(0, 10**9, 1000))
    cloud = replace(scene.cloud, rules=Rules(read, lambda: next(passed)))
    await look_at(cloud, await scene.upload("platform/free.pfx", FREE, metadata=DEFAULT))
    assert (await scene.record("platform/free.pfx")).status is UploadStatus.ACCEPTED
    policy["text"] = text.format(prefix="platform/", more="")
    await sweep(cloud)
    record = await scene.record("platform/free.pfx")
    assert codes(record) == [VerdictCode.NOT_ALLOWED]
    assert record.violations[0].detail.startswith(
        "Uploads under 'platform/' may claim * on port 443, and not the default of port 443."
    )
    assert not (await scene.row(DEFAULT_HOST)).present
    assert (await scene.row(FREE)).present
    policy["text"] = text.format(prefix="platform/", more="default = true")
    await sweep(cloud)
    assert (await scene.row(DEFAULT_HOST)).source == "platform/free.pfx"


async def test_the_status_api_tells_of_it(scene: Scene) -> None:
    await scene.join("web-0")
    await accepted(scene, "free.pfx", FREE)
    await scene.everyone_obeys("web-0")
    document = (await certificate(scene.cloud, "free.pfx")).document
    assert document["default"] is True
    assert [each["host"] for each in document["installations"]] == [DEFAULT_HOST, FREE]
