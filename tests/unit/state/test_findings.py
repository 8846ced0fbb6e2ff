"""Checks that run side by side, and what they come to."""

import asyncio

import pytest

from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConfigurationError,
    MissingError,
    NotSetUpError,
    UnavailableError,
)
from shared.state.findings import (
    NAMED,
    Check,
    Checked,
    Finding,
    Result,
    Seen,
    Severity,
    bounded,
    document_of,
    each_of,
    make_checks,
)


async def well() -> Seen:
    return Seen(remark="all there")


def raising(error: Exception) -> Check:
    async def look() -> Seen:
        raise error

    return Check(name="broken", look=look)


async def hanging() -> Seen:
    await asyncio.Event().wait()
    return Seen()


async def test_one_that_hangs_or_fails_keeps_no_other_from_being_made() -> None:
    checks = [
        Check(name="hangs", look=hanging, within_s=0.05),
        raising(ZeroDivisionError()),
        Check(name="w", look=well),
    ]
    hung, failed, good = await make_checks(checks)
    assert [finding.code for finding in hung.seen.findings] == ["unreachable"]
    assert "within 0.05 s" in hung.seen.findings[0].detail
    assert [finding.code for finding in failed.seen.findings] == ["unexpected"]
    assert (good.result, good.seen.remark) == (Result.OK, "all there")


async def test_all_are_made_at_the_same_time() -> None:
    meeting = asyncio.Barrier(3)

    async def meet() -> Seen:
        await meeting.wait()
        return Seen()

    made = await make_checks([Check(name=str(number), look=meet, within_s=5) for number in range(3)])
    assert {each.result for each in made} == {Result.OK}


async def test_who_is_interrupted_lets_every_check_clean_up_behind_itself() -> None:
    cleaned = []

    async def look() -> Seen:
        try:
            return await hanging()
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    task = asyncio.create_task(make_checks([Check(name="a", look=look), Check(name="b", look=look)]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(cleaned) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingError("x"), "missing"),
        (NotSetUpError("x"), "missing"),
        (ConfigurationError("x"), "setting"),
        (AccessDeniedError("x"), "refused"),
        (UnavailableError("x"), "unreachable"),
        (CertcastError("x"), "unreachable"),
    ],
    ids=repr,
)
async def test_an_error_is_a_finding_of_its_kind(error: CertcastError, code: str) -> None:
    [made] = await make_checks([raising(error)])
    assert [(finding.code, finding.detail) for finding in made.seen.findings] == [(code, "x")]
    assert made.result is Result.WRONG


def found(severity: Severity, number: int = 0) -> Finding:
    return Finding(code="c", about=f"thing {number}", detail="d", severity=severity)


def test_a_check_comes_to_its_worst_finding_and_not_looked_at_is_no_ok() -> None:
    assert Checked(name="", seen=Seen(looked=False)).result is Result.NOT_LOOKED_AT
    assert Checked(name="", seen=Seen(findings=(found(Severity.WARNING),))).result is Result.WARNING
    both = (found(Severity.WARNING), found(Severity.WRONG))
    assert Checked(name="", seen=Seen(findings=both)).result is Result.WRONG


def test_warnings_alone_leave_a_document_ok() -> None:
    warned = Checked(name="a", seen=Seen(findings=(found(Severity.WARNING),)))
    document = document_of([warned, Checked(name="b", seen=Seen(looked=False, remark="why"))])
    assert (document["ok"], document["problems"]) == (True, [])
    assert document["warnings"] == [{"check": "a", "code": "c", "about": "thing 0", "detail": "d"}]
    assert [(each["result"], each["remark"]) for each in document["checks"]] == [
        ("warning", ""),
        ("not looked at", "why"),
    ]
    assert not document_of([Checked(name="a", seen=Seen(findings=(found(Severity.WRONG),)))])["ok"]


def test_of_many_alike_the_first_are_told_and_the_rest_counted() -> None:
    told = bounded([found(Severity.WRONG, number) for number in range(NAMED + 7)])
    assert len(told) == NAMED + 1
    assert (told[-1].about, told[-1].detail) == ("thing", "the same of 7 more")


def test_what_comes_from_outside_is_one_printable_line() -> None:
    hostile = Finding(code="c", about="upload \u202egnp\x1b[31m", detail="a\nb" + "x" * 5000)
    assert hostile.about.isprintable()
    assert hostile.detail.isprintable()
    assert len(hostile.detail) < 1100


async def test_each_missing_thing_is_named_with_how_it_is_made() -> None:
    async def there() -> None:
        """It is there."""

    async def missing() -> None:
        raise MissingError("looking for queue b: not there")

    async def refused() -> None:
        raise AccessDeniedError("refused")

    looks = [("queue a", there), ("queue b", missing), ("queue c", refused)]
    seen = await each_of(looks, lambda about: f"make {about}")
    assert seen.remark == "a, b, c"
    assert [(each.code, each.about, each.detail) for each in seen.findings] == [
        ("missing", "queue b", "it is not there: make queue b"),
        ("refused", "queue c", "refused"),
    ]
