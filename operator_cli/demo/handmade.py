"""The demo's step on real web servers: somebody changes a certificate there by hand, and certcast finds out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from instance_agent.targets.parts.fallback import self_signed
from operator_cli.demo.report import Observation
from shared.errors import UnavailableError
from shared.messages import InstallOutcome
from shared.phrasing import shown
from shared.upload import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from local_azure.servers.by_hand import ByHand
    from operator_cli.demo.watch import Watch
    from shared.state.records import InstallationRecord
    from shared.state.tables import State

BEHIND = "changed behind certcast's back"
"""Begins what is told of a change that an agent did not make."""
_VALID = timedelta(days=30)
_SHOWN_CHARS = 120


class HandmadeChange:
    """One host's certificate, replaced on one instance's server by that server's own means.

    Args:
        host: The host.
        instance: The instance.
        somebody: Who is at its server.
        ours: Fingerprint of what certcast has bound there.
        state: The tables that `certcast status` reads.
    """

    def __init__(self, host: str, instance: str, somebody: ByHand, *, ours: str, state: State) -> None:
        self._host = host
        self._instance = instance
        self._somebody = somebody
        self._ours = ours
        self._state = state
        self._since = datetime.now(UTC)

    async def play(self, watch: Watch) -> None:
        """Change it, and see it found, told, and served again: put right by certcast, or taken back where it cannot."""
        theirs = self_signed(self._host, self._since, _VALID)
        told = asyncio.create_task(self._served(watch, "somebody's", theirs.fingerprint_sha256))
        if await self._did(watch, self._somebody.replace(self._host, theirs)):
            watch.happened("changed", instance=self._instance)
        await told
        if self._somebody.stays:
            await self._told(watch, "failed, and why", self._is_told_to_stay)
            await self._did(watch, self._somebody.take_back())
            await self._served(watch, "certcast's", self._ours)
            await self._told(watch, "live again", self._is_live)
        else:
            await self._served(watch, "certcast's", self._ours, before=theirs.fingerprint_sha256)
            await self._told(watch, "live, and when it was changed", self._is_put_right)

    async def _served(self, watch: Watch, whose: str, fingerprint: str, *, before: str = "") -> None:
        what = f"a TLS handshake shows {whose} certificate"
        # What somebody does to a server may well fail a handshake; what certcast does may not.
        until = {self._instance: before} if before else None
        await watch.everywhere(what, self._host, {self._instance: fingerprint}, before=until, only=[self._instance])

    async def _did(self, watch: Watch, doing: Coroutine[None, None, None]) -> bool:
        try:
            await doing
        except UnavailableError as error:
            what = "somebody at the server could change it"
            watch.report.add(Observation(what=what, seen=False, ms=watch.ms, where=self._instance, instead=str(error)))
            return False
        return True

    async def _told(self, watch: Watch, what: str, fits: Callable[[InstallationRecord], bool]) -> None:
        async def look() -> str | None:
            reports = await self._state.reports_on(self._host, DEFAULT_PORT)
            mine = next((report for report in reports if report.instance == self._instance), None)
            if mine is not None and fits(mine):
                if mine.drifted_at is not None:
                    watch.happened("found", mine.drifted_at, self._instance)
                return None
            return "no report" if mine is None else f"{mine.outcome.value}: {shown(mine.reason, _SHOWN_CHARS)}"

        await watch.sees(f"`certcast status` says {what}", look, where=self._instance)

    def _is_put_right(self, report: InstallationRecord) -> bool:
        return self._is_live(report) and self._drifted(report) and BEHIND in report.reason

    def _is_told_to_stay(self, report: InstallationRecord) -> bool:
        return report.outcome not in {InstallOutcome.LIVE, InstallOutcome.REMOVED} and bool(report.reason)

    @staticmethod
    def _is_live(report: InstallationRecord) -> bool:
        return report.outcome is InstallOutcome.LIVE

    def _drifted(self, report: InstallationRecord) -> bool:
        # The service's clock has whole seconds.
        return report.drifted_at is not None and report.drifted_at >= self._since - timedelta(seconds=2)
