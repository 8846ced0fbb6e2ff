"""From desired rows to changes on the server, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from instance_agent.fetching import Bundles, unfit_for
from instance_agent.installing.installer import install
from instance_agent.memory import DONE, REASON_CHARS, Attempt, Memory
from instance_agent.slices import SLICE, fetched_slices
from instance_agent.targets.base import Install, InstalledBinding, Remove
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.errors import CertcastError
from shared.messages import BindingReport, InstallOutcome
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from instance_agent.desired import Desired
    from instance_agent.fetching import Fetched
    from instance_agent.installing.probe import Probe
    from instance_agent.installing.proving import Unseen
    from instance_agent.targets.base import BindingChange, BindingTarget
    from shared.bundle import CertificateBundle
    from shared.ports import BundleVault

_NO_STAGES: Mapping[str, float] = MappingProxyType({})
log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a dry run.

    Attributes:
        action: `install`, `remove` or `keep`.
        row: The desired row.
    """

    action: str
    row: DesiredBinding


class Actor:
    """Acts on desired rows through one target.

    Args:
        target: The web server.
        bundles: Where keys and chains are kept.
        probe: Looks at a listener.
        now: The clock.
    """

    def __init__(
        self, *, target: BindingTarget, bundles: BundleVault, probe: Probe, now: Callable[[], datetime]
    ) -> None:
        self.memory = Memory(now)
        self._target = target
        self._bundles = Bundles(bundles)
        self._probe = probe
        self._now = now
        self._unseen: Unseen = {}

    def forget(self) -> None:
        """Take nothing for done or told any more: everything is looked at again, and reported."""
        self.memory = Memory(self._now)
        self._unseen.clear()

    async def due(self, desired: Desired, *, whole: bool) -> list[DesiredBinding]:
        """Choose the rows that need acting on.

        Args:
            desired: What the tables say.
            whole: Whether these are all rows there are, so that a binding of ours with no row is one to remove.
        """
        wanted = desired.rows
        current = {each.key: each for each in await self._target.current(None if whole else wanted.keys())}
        due = [row for key, row in wanted.items() if not self._is_as_it_should_be(row, current.get(key), whole=whole)]
        if whole and wanted:
            # No row at all more likely means an emptied table than a platform without tenants: then nothing is removed.
            known = wanted.keys() | desired.unknown
            due += [self._orphan(binding) for key, binding in current.items() if key not in known]
        return sorted(due, key=lambda row: (row.host, row.port))

    async def preview(self, desired: Desired) -> list[Step]:
        """Say what would be done."""
        rows = desired.rows.values()
        current = {binding.key: binding for binding in await self._target.current()}
        due = await self.due(desired, whole=True)
        named = {row.key for row in due}
        steps = [Step(action="keep", row=row) for row in rows if row.present and row.key not in named]
        for row in due:
            has = current.get((row.host, row.port))
            if row.present:
                steps.append(Step(action="keep" if _matches(row, has) else "install", row=row))
            elif has is not None:
                steps.append(Step(action="remove", row=row))
        return sorted(steps, key=lambda step: (step.row.host, step.row.port))

    def slices(
        self, due: Sequence[DesiredBinding]
    ) -> AsyncGenerator[tuple[Sequence[DesiredBinding], Mapping[str, Fetched]], None]:
        """The rows with their bundles, a slice at a time where the server takes several batches as well as one."""
        size = SLICE if self._target.in_slices else max(1, len(due))
        return fetched_slices(self._bundles, due, size=size)

    async def act(self, rows: Sequence[DesiredBinding], fetched: Mapping[str, Fetched] | None = None) -> list[Attempt]:
        """Apply everything as one batch and prove it; bundles that were not fetched are fetched first."""
        if fetched is None:
            fetched = await self._bundles.fetch({row.bundle_id for row in rows if row.present})
        by_key = {(row.host, row.port): row for row in rows}
        attempts: list[Attempt] = []
        changes: list[BindingChange] = []
        for row in rows:
            if not row.present:
                changes.append(Remove(host=row.host, port=row.port))
                continue
            bundle = fetched[row.bundle_id].bundle
            if isinstance(bundle, CertcastError):
                attempts.append(self._unfit(row, str(bundle), again=bundle.retriable))
            elif (reason := unfit_for(row, bundle)) is not None:
                attempts.append(self._unfit(row, reason))
            else:
                changes.append(_install_of(row, bundle))
        for result in await install(
            self._target, changes, self._probe, recall=self._bundles.recall, unseen=self._unseen
        ):
            row = by_key[result.change.key]
            fetch_ms = {"fetch": fetched[row.bundle_id].took_ms} if row.present else {}
            attempt = self._attempt(
                row,
                result.outcome,
                result.reason,
                again=result.retriable,
                seen=result.seen_fingerprint_sha256,
                stages_ms={**fetch_ms, **result.stages_ms},
            )
            attempts.append(attempt)
        return attempts

    def _is_as_it_should_be(self, row: DesiredBinding, has: InstalledBinding | None, *, whole: bool) -> bool:
        last = self.memory.last(row)
        if last is None or last.again or (last.unfit and whole):
            return False
        # A refusal or a mismatch stands until the row changes: trying again would only disturb what is served.
        return last.report.outcome not in DONE or _matches(row, has)

    def _unfit(self, row: DesiredBinding, reason: str, *, again: bool = False) -> Attempt:
        """A bundle that is not installed; each whole reconcile looks at it again, which costs the server nothing."""
        return replace(self._attempt(row, InstallOutcome.FAILED, reason, again=again), unfit=True)

    def _orphan(self, binding: InstalledBinding) -> DesiredBinding:
        return DesiredBinding(
            role=ANY_ROLE,
            host=binding.host,
            port=binding.port,
            state=BindingState.ABSENT,
            generation=0,
            changed_at=self._now(),
        )

    def _attempt(
        self,
        row: DesiredBinding,
        outcome: InstallOutcome,
        reason: str,
        *,
        again: bool = False,
        seen: str = "",
        stages_ms: Mapping[str, float] = _NO_STAGES,
    ) -> Attempt:
        report = BindingReport(
            role=row.role,
            host=row.host,
            port=row.port,
            generation=row.generation,
            source=row.source,
            outcome=outcome,
            reason=reason[:REASON_CHARS],
            fingerprint_sha256=seen,
            finished_at=self._now(),
            stages_ms={name: round(took, 1) for name, took in stages_ms.items()},
        )
        return Attempt(report=report, again=again)


def log_outcomes(instance: str, attempts: Iterable[Attempt]) -> None:
    """Say what came of each row; on Windows these lines are entries of the event log."""
    for report in (attempt.report for attempt in attempts):
        log.info(
            "instance %s: %s:%d generation %d %s%s",
            *(instance, report.host, report.port, report.generation, report.outcome.value),
            f" ({report.reason})" if report.reason else "",
        )


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
