"""What looking for trouble finds: checks that run side by side, each within its time, and the findings of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from shared.errors import AccessDeniedError, CertcastError, ConfigurationError, MissingError, NotSetUpError
from shared.phrasing import LOGGED_CHARS, logger, shown

log = logger(__name__)

CHECK_S = 15.0
"""What one check may take; a service that answers at all answers sooner."""
NAMED = 20
"""Findings of one kind that are told one by one; of more, one tells how many there are."""


class Severity(StrEnum):
    """How bad a finding is."""

    WARNING = "warning"
    WRONG = "wrong"


class Result(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    NOT_LOOKED_AT = "not looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or seldom meant.

    Attributes:
        code: Its kind, stable (docs/doctor.md).
        about: Which setting, table, queue, instance.
        detail: What is wrong and what to do.
        severity: How bad it is.
    """

    code: str
    about: str
    detail: str
    severity: Severity = Severity.WRONG

    def __post_init__(self) -> None:
        object.__setattr__(self, "about", shown(self.about, LOGGED_CHARS))
        object.__setattr__(self, "detail", shown(self.detail, LOGGED_CHARS))

    def document(self) -> dict[str, str]:
        """The finding in JSON, in which the severity stands by the list that it is in."""
        return {"code": self.code, "about": self.about, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one check saw.

    Attributes:
        remark: What there is, or why it was not looked at; a phrase.
        findings: What is wrong with it.
        looked: Whether there was anything to look at, and a way to it.
    """

    remark: str = ""
    findings: tuple[Finding, ...] = ()
    looked: bool = True


Look = Callable[[], Awaitable[Seen]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that can be looked at.

    Attributes:
        name: What people call it: `containers`.
        look: Looks at it; an error that it raises is a finding.
        within_s: After so long it is given up, which is a finding too.
        vital: Whether the Function cannot do its work without.
    """

    name: str
    look: Look
    within_s: float = CHECK_S
    vital: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A check that was made.

    Attributes:
        name: Its name.
        seen: What it saw.
        seconds: How long it took.
    """

    name: str
    seen: Seen
    seconds: float = 0.0

    @property
    def result(self) -> Result:
        """What it came to: its worst finding."""
        if any(finding.severity is Severity.WRONG for finding in self.seen.findings):
            return Result.WRONG
        if self.seen.findings:
            return Result.WARNING
        return Result.OK if self.seen.looked else Result.NOT_LOOKED_AT


async def make_checks(checks: Sequence[Check]) -> list[Checked]:
    """Make all checks side by side; none waits for another, nor ends one by failing."""
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(_made(check), name=check.name) for check in checks]
    return [task.result() for task in made]


async def _made(check: Check) -> Checked:
    began = time.monotonic()
    try:
        async with asyncio.timeout(check.within_s):
            seen = await check.look()
    except TimeoutError:
        detail = f"no answer within {check.within_s:g} s: see whether the service is there, and what stands between"
        seen = Seen(findings=(Finding(code="unreachable", about=check.name, detail=detail),))
    except CertcastError as error:
        seen = Seen(findings=(finding_of(error, check.name),))
    except Exception as error:
        log.exception("check %s: it failed unexpectedly", check.name)
        detail = f"looking at it ended in an unexpected {type(error).__name__}: report that as a bug of certcast"
        seen = Seen(findings=(Finding(code="unexpected", about=check.name, detail=detail),))
    return Checked(name=check.name, seen=seen, seconds=time.monotonic() - began)


def finding_of(error: CertcastError, about: str) -> Finding:
    """What an error, met at something, is as a finding."""
    kinds: tuple[tuple[tuple[type[CertcastError], ...], str], ...] = (
        ((MissingError, NotSetUpError), "missing"),
        ((ConfigurationError,), "setting"),
        ((AccessDeniedError,), "refused"),
    )
    code = next((code for kind, code in kinds if isinstance(error, kind)), "unreachable")
    return Finding(code=code, about=about, detail=str(error))


async def each_of(looks: Sequence[tuple[str, Callable[[], Awaitable[object]]]], cure: Callable[[str], str]) -> Seen:
    """Look whether several things are there, at all of them at once.

    Args:
        looks: What each is, and what fails where it is not there.
        cure: What to do where one is missing.
    """

    async def look(about: str, call: Callable[[], Awaitable[object]]) -> Finding | None:
        try:
            await call()
        except (MissingError, NotSetUpError):
            return Finding(code="missing", about=about, detail=f"it is not there: {cure(about)}")
        except CertcastError as error:
            return finding_of(error, about)
        return None

    found = await asyncio.gather(*(look(about, call) for about, call in looks))
    return Seen(remark=", ".join(about.partition(" ")[2] for about, _ in looks), findings=tuple(filter(None, found)))


def bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The first findings of each code, and one that counts the rest."""
    kept: list[Finding] = []
    left: dict[str, list[Finding]] = {}
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.code] = counts.get(finding.code, 0) + 1
        if counts[finding.code] <= NAMED:
            kept.append(finding)
        else:
            left.setdefault(finding.code, []).append(finding)
    for more in left.values():
        first = more[0]
        kept.append(replace(first, about=first.about.partition(" ")[0], detail=f"the same of {len(more)} more"))
    return tuple(kept)


def document_of(checked: Sequence[Checked]) -> dict[str, Any]:
    """The document of `certcast doctor --json` and of the status API's `diagnosis`."""

    def found(severity: Severity) -> list[dict[str, str]]:
        return [
            {"check": each.name, **finding.document()}
            for each in checked
            for finding in each.seen.findings
            if finding.severity is severity
        ]

    return {
        "ok": all(each.result is not Result.WRONG for each in checked),
        "checks": [
            {
                "name": each.name,
                "result": each.result.value,
                "remark": each.seen.remark,
                "seconds": round(each.seconds, 3),
            }
            for each in checked
        ],
        "problems": found(Severity.WRONG),
        "warnings": found(Severity.WARNING),
    }
