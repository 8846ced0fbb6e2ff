"""From desired rows to changes on the server and reports about them; what was done before is remembered here."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from instance_agent.installing.installer import Result, install
from instance_agent.targets.base import Install, InstalledBinding, Remove
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.bounded import gather_bounded
from shared.bundle import CertificateBundle
from shared.errors import CertcastError
from shared.hostnames import covering
from shared.messages import BindingReport, InstallOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from instance_agent.installing.probe import Probe
    from instance_agent.targets.base import BindingChange, BindingTarget
    from shared.ports import BundleVault

log = logging.getLogger(__name__)

Key = tuple[str, int]

_REASON_CHARS = 1000
"""A server's own words may be a page; a report must fit a queue message whatever they are."""

REPEAT_AFTER = timedelta(seconds=60)
"""A hint about what was told longer ago asks for it once more: the report may be lost. Sooner, it is a doubled hint."""

_DONE = frozenset({InstallOutcome.LIVE, InstallOutcome.REMOVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a dry run.

    Attributes:
        action: `install`, `remove` or `keep`.
        row: The desired row.
    """

    action: str
    row: DesiredBinding


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one desired row.

    Attributes:
        row: The row.
        report: What is to be told about it.
        again: Whether trying the same again later may succeed.
    """

    row: DesiredBinding
    report: BindingReport
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    bundle: CertificateBundle | None
    took_ms: float
    problem: str = ""
    again: bool = False


class Actor:
    """Acts on desired rows through one target and remembers how each ended.

    Args:
        target: The web server.
        bundles: Where key and chain are had.
        probe: Looks at a listener.
        now: The clock.
    """

    def __init__(
        self, *, target: BindingTarget, bundles: BundleVault, probe: Probe, now: Callable[[], datetime]
    ) -> None:
        self._target = target
        self._bundles = bundles
        self._probe = probe
        self._now = now
        self._last: dict[Key, Attempt] = {}
        self._told_at: dict[Key, datetime] = {}
        self._ended: Counter[InstallOutcome] = Counter()

    @property
    def proved(self) -> int:
        """Bindings seen served."""
        return self._ended[InstallOutcome.LIVE]

    @property
    def failing(self) -> int:
        """Desired rows that are not as they should be."""
        return sum(number for outcome, number in self._ended.items() if outcome not in _DONE)

    async def due(self, rows: Iterable[DesiredBinding], *, whole: bool) -> list[DesiredBinding]:
        """Choose the rows that need acting on.

        Args:
            rows: Desired rows.
            whole: Whether these are all there are, so that a binding of ours with no row is one to remove.
        """
        wanted = {(row.host, row.port): row for row in rows}
        current = {each.key: each for each in await self._target.current(None if whole else wanted.keys())}
        due = [row for key, row in wanted.items() if not self._is_settled(row, current.get(key))]
        if whole and wanted:
            # No row at all more likely means an emptied table than a platform without tenants: then nothing is removed.
            due += [self._orphan(binding) for key, binding in current.items() if key not in wanted]
        return sorted(due, key=lambda row: (row.host, row.port))

    async def preview(self, rows: Iterable[DesiredBinding]) -> list[Step]:
        """Say what would be done."""
        rows = list(rows)
        current = {binding.key: binding for binding in await self._target.current()}
        due = await self.due(rows, whole=True)
        named = {row.key for row in due}
        steps = [Step(action="keep", row=row) for row in rows if row.present and row.key not in named]
        for row in due:
            has = current.get((row.host, row.port))
            if row.present:
                steps.append(Step(action="keep" if _matches(row, has) else "install", row=row))
            elif has is not None:
                steps.append(Step(action="remove", row=row))
        return sorted(steps, key=lambda step: (step.row.host, step.row.port))

    async def act(self, rows: Sequence[DesiredBinding]) -> list[Attempt]:
        """Fetch bundles, apply everything as one batch, prove it."""
        fetched = await self._fetch({row.bundle_id for row in rows if row.present})
        attempts: list[Attempt] = []
        changes: dict[Key, tuple[DesiredBinding, BindingChange]] = {}
        for row in rows:
            if not row.present:
                changes[row.host, row.port] = (row, Remove(host=row.host, port=row.port))
                continue
            had = fetched[row.bundle_id]
            if had.bundle is None:
                attempts.append(self._failed(row, had.problem, again=had.again))
            elif covering(row.host, had.bundle.dns_names) is None:
                names = ", ".join(had.bundle.dns_names[:3]) or "nothing"
                attempts.append(
                    self._failed(row, f"the certificate is for {names}, not for {row.host}; not installed", again=False)
                )
            else:
                changes[row.host, row.port] = (row, _install_of(row, had.bundle))
        results = await install(
            self._target, [change for _, change in changes.values()], self._probe, recall=self._recall
        )
        for result in results:
            row, _ = changes[result.change.key]
            took = fetched[row.bundle_id].took_ms if row.present else 0.0
            attempts.append(self._attempt(row, result, took))
        return attempts

    def unreported(self, attempts: Iterable[Attempt], asked: Iterable[Key] = ()) -> list[Attempt]:
        """Choose what is to be told.

        Args:
            attempts: What was done now; those that say something new are told. Rows that exist only on the server are
                nobody's to report on.
            asked: Hosts and ports somebody asks about, whose rows were read just now; what was told of them long ago
                is told again.
        """
        made = {(attempt.row.host, attempt.row.port): attempt for attempt in attempts if attempt.row.generation > 0}
        news = {key: attempt for key, attempt in made.items() if not self._is_old_news(attempt)}
        now = self._now()
        for key in asked:
            known = made.get(key) or self._last.get(key)
            if known is not None and key not in news and now - self._told_at.get(key, now) >= REPEAT_AFTER:
                news[key] = replace(known, report=replace(known.report, finished_at=now))
        return list(news.values())

    def remember(self, attempts: Iterable[Attempt], told: Iterable[Attempt]) -> None:
        """Keep how each row ended and what was told; to be called once that was reported."""
        for attempt in (*attempts, *told):
            key = attempt.row.host, attempt.row.port
            if (before := self._last.get(key)) is not None:
                self._ended[before.report.outcome] -= 1
            self._last[key] = attempt
            self._ended[attempt.report.outcome] += 1
        for attempt in told:
            self._told_at[attempt.row.host, attempt.row.port] = self._now()

    def _is_settled(self, row: DesiredBinding, has: InstalledBinding | None) -> bool:
        last = self._last.get((row.host, row.port))
        if last is None or (last.row.role, last.row.generation) != (row.role, row.generation) or last.again:
            return False
        # A refusal or a mismatch stands until the row changes: trying again would only disturb what is served.
        return last.report.outcome not in _DONE or _matches(row, has)

    def _is_old_news(self, attempt: Attempt) -> bool:
        last = self._last.get((attempt.row.host, attempt.row.port))
        return last is not None and _essence(last) == _essence(attempt)

    async def _fetch(self, ids: Iterable[str]) -> dict[str, _Fetched]:
        wanted = sorted(ids)
        return dict(zip(wanted, await gather_bounded((self._fetch_one(one) for one in wanted), limit=16), strict=True))

    async def _fetch_one(self, bundle_id: str) -> _Fetched:
        began = time.perf_counter()
        try:
            bundle = CertificateBundle.from_pem(await self._bundles.open(bundle_id))
        except CertcastError as error:
            return _Fetched(bundle=None, took_ms=_ms_since(began), problem=str(error), again=error.retriable)
        return _Fetched(bundle=bundle, took_ms=_ms_since(began))

    async def _recall(self, binding: InstalledBinding) -> CertificateBundle | None:
        """The bundle of what was served before, for putting it back."""
        return (await self._fetch_one(binding.bundle_id)).bundle if binding.bundle_id else None

    def _orphan(self, binding: InstalledBinding) -> DesiredBinding:
        return DesiredBinding(
            role=ANY_ROLE,
            host=binding.host,
            port=binding.port,
            state=BindingState.ABSENT,
            generation=0,
            changed_at=self._now(),
        )

    def _attempt(self, row: DesiredBinding, result: Result, fetch_ms: float) -> Attempt:
        stages = {"fetch": round(fetch_ms, 1)} if row.present else {}
        stages |= {name: round(took, 1) for name, took in result.stages_ms.items()}
        report = BindingReport(
            role=row.role,
            host=row.host,
            port=row.port,
            generation=row.generation,
            source=row.source,
            outcome=result.outcome,
            reason=result.reason[:_REASON_CHARS],
            fingerprint_sha256=result.seen_fingerprint_sha256,
            finished_at=self._now(),
            stages_ms=stages,
        )
        return Attempt(row=row, report=report, again=result.retriable)

    def _failed(self, row: DesiredBinding, reason: str, *, again: bool) -> Attempt:
        report = BindingReport(
            role=row.role,
            host=row.host,
            port=row.port,
            generation=row.generation,
            source=row.source,
            outcome=InstallOutcome.FAILED,
            reason=reason[:_REASON_CHARS],
            finished_at=self._now(),
        )
        return Attempt(row=row, report=report, again=again)


def _install_of(row: DesiredBinding, bundle: CertificateBundle) -> Install:
    return Install(
        host=row.host,
        port=row.port,
        bundle_id=row.bundle_id,
        bundle=bundle,
        site=row.site,
        generation=row.generation,
    )


def _matches(row: DesiredBinding, has: InstalledBinding | None) -> bool:
    if not row.present or has is None:
        return not row.present and has is None
    if has.bundle_id:
        return has.bundle_id == row.bundle_id
    return has.fingerprint_sha256 == row.fingerprint_sha256


def _essence(attempt: Attempt) -> tuple[object, ...]:
    report = attempt.report
    return (report.role, report.generation, report.outcome, report.reason, report.fingerprint_sha256)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
