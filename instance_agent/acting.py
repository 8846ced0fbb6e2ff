"""From desired rows to changes on the server, and what came of each."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from instance_agent.doubts import Doubts, is_in_doubt
from instance_agent.fetching import Bundles, unfit_for
from instance_agent.installing.installer import install
from instance_agent.installing.sighting import Expectation, Looker, Pace
from instance_agent.memory import DONE, Attempt, Memory
from instance_agent.proof.drifts import Change, Drifts
from instance_agent.proof.proofs import Proofs
from instance_agent.slices import SLICE, fetched_slices
from instance_agent.targets.base import Install, InstalledBinding, Remove, ServerUnavailableError
from instance_agent.usability import Usability
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.errors import CertcastError
from shared.messages import InstallOutcome
from shared.telemetry import names
from shared.telemetry.names import Stage
from shared.telemetry.spans import fail, note, span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime

    from instance_agent.desired import Desired
    from instance_agent.fetching import Fetched
    from instance_agent.installing.probe import Probe
    from instance_agent.installing.proving import Unseen
    from instance_agent.targets.base import BindingChange, BindingTarget, Key
    from shared.bundle import CertificateBundle
    from shared.ports import BundleVault
    from shared.state.wholeness import Wholeness


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

    Attributes:
        memory: How each row ended.
        proofs: When each binding was last seen served.
        drifts: What something else changed.
        usability: Whether the server can be used now.
        looker: Looks at its listeners.
        put_off: Whether the last whole look left rows to a later repair.
        found_serving: Whether the server had bindings of ours at the first whole look; None before that.
    """

    def __init__(
        self, *, target: BindingTarget, bundles: BundleVault, probe: Probe, now: Callable[[], datetime]
    ) -> None:
        self.memory = Memory(now)
        self.proofs = Proofs(now)
        self.drifts = Drifts(now)
        self.usability = Usability(now)
        self.looker = Looker(target, probe, Pace())
        self.put_off = False
        self.found_serving: bool | None = None
        self._target = target
        self._bundles = Bundles(bundles)
        self._doubts = Doubts(self.wholeness, now)
        self._probe = probe
        self.now = now
        self._unseen: Unseen = {}

    def forget(self) -> None:
        """Take nothing for done or told any more: everything is looked at again, and reported."""
        self.memory = Memory(self.now)
        self.proofs = Proofs(self.now)
        self._unseen.clear()

    async def due(self, desired: Desired, *, whole: bool) -> list[DesiredBinding]:
        """Choose the rows that need acting on.

        Of a server that cannot be used, these are the ones of which nothing is known, once that has lasted; whether it
        can be used again is found out by a whole look.

        Args:
            desired: What the tables say.
            whole: Whether these are all rows there are, so that a binding of ours with no row is one to remove.

        Raises:
            ServerUnavailableError: The server did not tell a look that is not whole.
        """
        usability = self.usability
        if usability.is_started and (whole or not usability.trouble):
            try:
                due = await self._due(desired, whole=whole)
            except ServerUnavailableError as error:
                if not whole:
                    raise
                usability.broke(str(error))
            else:
                if whole:
                    usability.is_well()
                return due
        if not usability.is_lasting:
            return []
        return [row for row in desired.rows.values() if row.present and self.memory.last(row) is None]

    async def _due(self, desired: Desired, *, whole: bool) -> list[DesiredBinding]:
        doubtful = {key for key in desired.rows if is_in_doubt(key, desired, self.memory)}
        if whole:
            self._target.forget()
            self.put_off = False
        current = {each.key: each for each in await self._target.current(None if whole else desired.rows.keys())}
        orphans: set[Key] = set()
        if whole:
            if self.found_serving is None:
                self.found_serving = bool(current)
            # No row at all more likely means an emptied table than a platform without tenants.
            orphans = current.keys() - desired.rows.keys() - desired.unknown
            left = await self._doubts.left(doubtful | orphans)
            doubtful &= set(left)
            orphans = orphans - set(left) if desired.rows else set()
        wanted = {key: row for key, row in desired.rows.items() if key not in doubtful}
        due = [row for key, row in wanted.items() if not self._is_as_it_should_be(row, current.get(key), whole=whole)]
        due += [self._orphan(current[key]) for key in orphans]
        return sorted(due, key=lambda row: (row.host, row.port))

    async def wholeness(self) -> Wholeness | None:
        """What the last sweep said of the tables; None where that is not known."""
        return await self._bundles.wholeness()

    async def has_bundles(self) -> bool:
        """Whether anything was ever sealed to be served."""
        return await self._bundles.any()

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
        """Apply everything as one batch and prove it; bundles that were not fetched are fetched first.

        What waits for its repair is left; where the server cannot be used, it is looked at whether it serves all the
        same.
        """
        attempts: list[Attempt] = []
        to_do: list[DesiredBinding] = []
        for row in rows:
            if self.drifts.put_off(row):
                attempts.append(self._put_off(row))
            else:
                to_do.append(row)
        began_ns = time.time_ns()
        done = await (self._looked_at(to_do) if self.usability.trouble else self._applied(to_do, fetched))
        _record(to_do, done, began_ns)
        return attempts + [self.drifts.concluded(attempt) for attempt in done]

    def found_otherwise(self, row: DesiredBinding) -> Attempt:
        """Enter that a look showed another certificate for a row that the server says it has.

        Returns:
            What to tell of it where it is not put right at once.
        """
        if self.usability.is_started:
            self._target.forget()
        if (last := self.memory.last(row)) is not None:
            self.drifts.find(last.report, Change.REPLACED)
        return self._put_off(row)

    def _put_off(self, row: DesiredBinding) -> Attempt:
        failed = self.memory.attempt(row, InstallOutcome.FAILED, self.drifts.waiting(row), again=True)
        return self.drifts.concluded(failed, tried=False)

    async def _looked_at(self, rows: Sequence[DesiredBinding]) -> list[Attempt]:
        """What rows come to while the server cannot be used: some may be served as they should be."""
        trouble = self.usability.trouble
        met = [row for row in rows if row.present and self._target.endpoint(row.port) is not None]
        looks = [Expectation(host=row.host, port=row.port, fingerprint_sha256=row.fingerprint_sha256) for row in met]
        sightings = await self.looker.look(looks, patience_s=0)
        seen = {(row.host, row.port): sighting for row, sighting in zip(met, sightings, strict=True)}
        attempts: list[Attempt] = []
        for row in rows:
            sighting = seen.get((row.host, row.port))
            if sighting is not None and sighting.met:
                reason = f"it is served, but the server cannot be changed now: {trouble}"
                outcome = InstallOutcome.LIVE
            else:
                reason = f"the server cannot be used now, which is tried again: {trouble}"
                outcome = InstallOutcome.FAILED
            found = sighting.fingerprint_sha256 if sighting is not None else ""
            attempts.append(self.memory.attempt(row, outcome, reason, again=True, seen=found))
        return attempts

    async def _applied(self, rows: Sequence[DesiredBinding], fetched: Mapping[str, Fetched] | None) -> list[Attempt]:
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
            attempt = self.memory.attempt(
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
        if last is not None and last.again and self.drifts.put_off(row):
            self.put_off = True
            return True
        if last is None or last.again or (last.unfit and whole):
            return False
        # A refusal or a mismatch stands until the row changes: trying again would only disturb what is served.
        if last.report.outcome not in DONE or _matches(row, has):
            return True
        change = Change.REPLACED if row.present else Change.RETURNED
        self.drifts.find(last.report, Change.LOST if has is None else change)
        return False

    def _unfit(self, row: DesiredBinding, reason: str, *, again: bool = False) -> Attempt:
        """A bundle that is not installed; each whole reconcile looks at it again, which costs the server nothing."""
        return replace(self.memory.attempt(row, InstallOutcome.FAILED, reason, again=again), unfit=True)

    def _orphan(self, binding: InstalledBinding) -> DesiredBinding:
        return DesiredBinding(
            role=ANY_ROLE,
            host=binding.host,
            port=binding.port,
            state=BindingState.ABSENT,
            generation=0,
            changed_at=self.now(),
        )


def _record(rows: Sequence[DesiredBinding], attempts: Sequence[Attempt], began_ns: int) -> None:
    """Record in each row's own trace what came of it in a batch, in which the traces of several uploads may meet."""
    by_key = {(row.host, row.port): row for row in rows}
    for told in (attempt.report for attempt in attempts):
        trace = by_key[told.host, told.port].traceparent or None
        with span(
            Stage.INSTALL, of=trace, began_ns=began_ns, upload=told.source, host=told.host, generation=told.generation
        ):
            note({names.OUTCOME: told.outcome.value, names.PORT: told.port})
            if told.outcome not in DONE:
                note({names.REASON: told.reason})
                fail(told.reason)


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
    return has.fingerprint_sha256 == row.fingerprint_sha256 and has.bundle_id in {"", row.bundle_id}
