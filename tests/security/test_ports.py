"""Uploads open no port of every instance that the operator has not opened."""

import json

import pytest

from shared.codec import from_document, to_document
from shared.config import PORTS_SETTING, Settings
from shared.errors import ConfigurationError
from shared.state.records import UploadStatus
from shared.upload import PortRanges, UploadMetadata
from shared.validation.judge import ValidationPolicy, judge_bundle
from shared.validation.trust import Trust
from shared.verdict import VerdictCode
from tests.fakes.storage import START
from tests.rigs.scenes import PASSWORD, Scene, issued

ENV = {"CERTCAST_STORAGE": "UseDevelopmentStorage=true", "CERTCAST_KEY_ENCRYPTION_KEY": "file:key"}


def test_only_443_may_be_asked_for_unless_the_operator_says_more() -> None:
    assert str(Settings.from_env(ENV).ports) == "443"
    assert str(Settings.from_env({**ENV, PORTS_SETTING: " 9000-9010, 443,8443 "}).ports) == "443, 8443, 9000-9010"


@pytest.mark.parametrize(
    "text", ["x", "0", "65536", "443-", "-443", "9010-9000", "443 8443", ",", "443,x", "1-70000", "٤٤٣"]
)
def test_a_setting_that_names_no_ports_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{PORTS_SETTING}: .*443,8443,9000-9010"):
        Settings.from_env({**ENV, PORTS_SETTING: text})


@pytest.mark.parametrize(
    ("port", "allowed"), [(443, True), (444, False), (8999, False), (9000, True), (9010, True), (22, False)]
)
def test_a_range_has_its_ends(port: int, *, allowed: bool) -> None:
    assert (port in PortRanges.parse("443,9000-9010")) is allowed


def test_they_travel_as_plain_data() -> None:
    ports = PortRanges.parse("443,9000-9010")
    assert from_document(PortRanges, json.loads(json.dumps(to_document(ports)))) == ports


@pytest.mark.parametrize("port", ["22", "8484", "9443"])
async def test_another_port_is_refused_and_nothing_is_bound(scene: Scene, port: str) -> None:
    metadata = {"CertificatePassword": PASSWORD, "PortNumber": port}
    await scene.handle(await scene.upload("a.pfx", "a.example.com", metadata=metadata))
    record = await scene.record("a.pfx")
    assert record.status is UploadStatus.REJECTED
    (violation,) = record.violations
    assert violation.code is VerdictCode.INVALID_PORT
    assert f"PortNumber is {port}" in violation.detail
    assert "443, 8443" in violation.detail
    assert PORTS_SETTING in violation.detail
    assert not [row async for row in scene.cloud.state.bindings.all()]


async def test_metadata_edited_after_acceptance_is_held_to_it_too(scene: Scene) -> None:
    await scene.accepted("a.pfx", "a.example.com")
    await scene.edit("a.pfx", PortNumber="22")
    record = await scene.looked_at("a.pfx")
    assert [violation.code for violation in record.violations] == [VerdictCode.INVALID_PORT]


def test_443_itself_is_refused_where_it_is_not_among_them() -> None:
    policy = ValidationPolicy(trust=Trust.from_setting("off"), ports=PortRanges.parse("8443"))
    judgement = judge_bundle(issued("a.test").bundle(), UploadMetadata(), policy=policy, now=START)
    (violation,) = judgement.violations
    assert "PortNumber is 443, which stands where none is given" in violation.detail
