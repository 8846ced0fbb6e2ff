"""The Function's health: looked at seldom, however often it is asked, and never for long."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from shared import VERSION
from shared.errors import ConfigurationError, UnavailableError
from shared.function.diagnosis import diagnosis, health, health_of, not_opened
from shared.function.health import DIAGNOSIS_KEPT_S, HEALTH_KEPT_S, WITHIN_S, Health
from shared.state.findings import Check, Finding, Seen, Severity
from tests.fakes.edges import fake_cloud


class Counted:
    """A check that counts how often it looks, and fails where told."""

    def __init__(self, name: str = "vault key", *, vital: bool = True) -> None:
        self.looks = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.check = Check(name=name, look=self._look, vital=vital)

    async def _look(self) -> Seen:
        self.looks += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Seen(remark="well")


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return self.passed


async def test_one_look_serves_all_who_ask_at_once_and_for_half_a_minute() -> None:
    counted, seconds = Counted(), Seconds()
    kept = Health([counted.check], seconds)
    counted.gate.clear()
    asked = [asyncio.create_task(kept.failing()) for _ in range(50)]
    await asyncio.sleep(0)
    counted.gate.set()
    assert await asyncio.gather(*asked) == [[]] * 50
    seconds.passed = HEALTH_KEPT_S - 1
    await kept.failing()
    assert counted.looks == 1
    seconds.passed = HEALTH_KEPT_S
    counted.error = UnavailableError("no answer")
    assert await kept.failing() == ["vault key"]
    assert counted.looks == 2


async def test_who_goes_away_ends_the_look_for_no_other() -> None:
    counted = Counted()
    kept = Health([counted.check])
    counted.gate.clear()
    first, other = asyncio.create_task(kept.failing()), asyncio.create_task(kept.failing())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    counted.gate.set()
    assert await other == []
    assert (first.cancelled(), counted.looks) == (True, 1)


async def test_a_look_is_bounded_in_time_whatever_its_check_would_allow() -> None:
    kept = Health([Counted().check])
    assert {check.within_s for check in kept._vital._checks} == {WITHIN_S}


async def test_to_anybody_it_names_the_parts_that_fail_and_nothing_about_them() -> None:
    failing, well, extra = Counted(), Counted("tables"), Counted("clock", vital=False)
    failing.error = extra.error = UnavailableError("https://secret.vault.azure.net does not answer")
    cloud = replace(fake_cloud(), health=Health([failing.check, well.check, extra.check]))
    answer = await health(cloud)
    assert (answer.status, answer.document) == (503, {"status": "failing", "parts": {"vault key": "failing"}})
    assert extra.looks == 0


async def test_a_warning_does_not_make_it_fail() -> None:
    async def warned() -> Seen:
        return Seen(findings=(Finding(code="missing", about="table history", detail="", severity=Severity.WARNING),))

    cloud = replace(fake_cloud(), health=Health([Check(name="tables", look=warned)]))
    answer = await health(cloud)
    assert (answer.status, answer.document) == (200, {"status": "ok"})


async def test_with_a_key_it_tells_why_and_soon_looks_again() -> None:
    counted, seconds = Counted(), Seconds()
    counted.error = UnavailableError("the vault does not answer")
    cloud = replace(fake_cloud(), health=Health([counted.check], seconds))
    document = (await diagnosis(cloud)).document
    assert [problem["detail"] for problem in document["problems"]] == ["the vault does not answer"]
    assert document["version"] == VERSION
    counted.error, seconds.passed = None, DIAGNOSIS_KEPT_S
    assert (await diagnosis(cloud)).document["ok"]


async def test_what_a_setting_keeps_from_being_opened_fails_as_settings() -> None:
    answer = not_opened(ConfigurationError("CERTCAST_PORTS: 'x'"), datetime(2030, 1, 1, tzinfo=UTC))
    assert answer.status == 200
    assert answer.document["as_of"].startswith("2030-01-01T00:00:00")
    assert [(each["check"], each["code"], each["detail"]) for each in answer.document["problems"]] == [
        ("settings", "setting", "CERTCAST_PORTS: 'x'")
    ]
    assert health_of(["settings"]).document["parts"] == {"settings": "failing"}
