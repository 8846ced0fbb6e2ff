"""The embedded target's worker processes, kept alike: a change is on every one or on none; one that dies is replaced.

Each listens on the same ports (SO_REUSEPORT), and the kernel spreads connections over them. The agent tells them what
to serve and is the only one who knows all of it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.targets.base import Install, Remove, ServerUnavailableError
from instance_agent.targets.embedded import wire
from instance_agent.targets.embedded.building import refuse_strangers_keys
from instance_agent.targets.embedded.listeners import HTTPS_PORT
from instance_agent.targets.embedded.ports import ListenerError, listener_trouble
from instance_agent.targets.embedded.proof import Claim
from instance_agent.targets.embedded.worker_process import WorkerLostError, WorkerProcess
from shared.errors import CertcastError, ConfigurationError
from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.embedded.listeners import Serving

_CHUNK = 500  # bindings in one message to a new worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPace:
    """How long workers may take.

    Attributes:
        start_s: To begin.
        answer_s: To do what a message says, besides `per_change_s`.
        per_change_s: For each change in a message.
        look_s: For one handshake.
        stop_s: To finish the answers in hand and end.
        ping_s: Between two questions whether a worker is well.
        again_s: Waits before a worker that keeps dying is started once more; the last one repeats.
    """

    start_s: float = 60.0
    answer_s: float = 30.0
    per_change_s: float = 0.05
    look_s: float = 30.0
    stop_s: float = 45.0
    ping_s: float = 15.0
    again_s: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)


_USUAL_PACE = PoolPace()


class WorkerPool:
    """The workers, from start to stop."""

    def __init__(self, serving: Serving, count: int, pace: PoolPace = _USUAL_PACE) -> None:
        self.workers: list[WorkerProcess | None] = [None] * count
        self._serving = serving
        self._pace = pace
        self._table: dict[tuple[str, int], Install] = {}
        self._ports = [HTTPS_PORT]
        self._changing = asyncio.Lock()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all workers.

        Raises:
            ConfigurationError: The port or address cannot be had, or the fallback cannot be served.
        """
        try:
            await self._see_free(HTTPS_PORT)
        except OSError as error:
            raise ConfigurationError(self._trouble(HTTPS_PORT, error)) from error
        slots = range(len(self.workers))
        failures = await asyncio.gather(*(self._bring_up(slot) for slot in slots), return_exceptions=True)
        for failure in failures:
            if failure is not None:
                await self._end_all()
                if isinstance(failure, WorkerLostError):
                    raise ConfigurationError(f"{failure}: see the log") from None
                raise failure
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in slots]

    async def stop(self) -> None:
        """Have every worker finish the answers in hand and end."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        pace = self._pace
        workers = self._up()
        await asyncio.gather(
            *(each.ask({"do": "stop"}, within_s=pace.stop_s) for each in workers), return_exceptions=True
        )
        await asyncio.gather(*(each.end(patience_s=pace.answer_s) for each in workers))
        self.workers = [None] * len(self.workers)

    async def swap(self, changes: Sequence[BindingChange]) -> None:
        """Make the changes on every worker, all or none, and see each of them on each with a handshake.

        A worker that is lost on the way is ended, so that it serves nothing, and begins again with what is then to be
        served: it does not hold up the others.

        Raises:
            ApplyError: The workers are as they were before.
        """
        refuse_strangers_keys(changes)
        async with self._changing:
            before = {change.key: self._table.get(change.key) for change in changes}
            await self._see_free_for(changes)
            await self._prepare(changes)
            await self._commit(changes)
            problem = await self._unproved(changes)
            if problem:
                await self._put_back(before)
                raise ServerUnavailableError(f"{problem}; what was served before is put back on every worker")

    async def _prepare(self, changes: Sequence[BindingChange]) -> None:
        """Have every worker ready for the changes, or none."""
        if not self._up():
            raise ServerUnavailableError("no worker of the embedded target is up; they are started again")
        outcomes = await self._ask_all({"do": "prepare", **wire.told_changes(changes)}, len(changes))
        refusals = [outcome for outcome in outcomes.values() if isinstance(outcome, CertcastError)]
        if refusals:
            ready = [each for each, outcome in outcomes.items() if not isinstance(outcome, CertcastError)]
            await self._ask_all({"do": "abort"}, 0, ready)
            raise refusals[0]
        if not outcomes:
            raise ServerUnavailableError("every worker of the embedded target was lost; they are started again")

    async def _commit(self, changes: Sequence[BindingChange]) -> None:
        """Swap on every worker; the agent's table is the truth from here on."""
        for change in changes:
            self._table.pop(change.key, None)
            if isinstance(change, Install):
                self._table[change.key] = change
                if change.port not in self._ports:
                    self._ports.append(change.port)
        for worker, outcome in (await self._ask_all({"do": "commit"}, len(changes))).items():
            try:
                self._see_equal(worker, "" if isinstance(outcome, CertcastError) else outcome["digest"])
            except WorkerLostError as error:
                await self._replace(worker, str(error))

    async def _unproved(self, changes: Sequence[BindingChange]) -> str:
        """Look at every change on every worker; a sentence about what does not hold."""
        claims = [self._claim(*change.key) for change in changes if change.port in self._ports]
        workers = self._up()
        looks = (worker.unproved(claims, timeout_s=self._pace.look_s) for worker in workers)
        for worker, found in zip(workers, await asyncio.gather(*looks, return_exceptions=True), strict=True):
            if isinstance(found, WorkerLostError):
                await self._replace(worker, str(found))
            elif isinstance(found, BaseException):
                raise found
            elif found:
                return f"worker {worker.number} of {len(self.workers)} {found}"
        return ""

    async def _put_back(self, before: Mapping[tuple[str, int], Install | None]) -> None:
        back: list[BindingChange] = [
            Remove(host=key[0], port=key[1]) if install is None else install for key, install in before.items()
        ]
        await self._ask_all({"do": "prepare", **wire.told_changes(back)}, len(back))
        await self._commit(back)

    async def _ask_all(
        self, message: wire.Message, size: int, workers: Sequence[WorkerProcess] | None = None
    ) -> dict[WorkerProcess, wire.Message | CertcastError]:
        """Ask workers at once; those that are lost are replaced and have no answer here."""
        asked = self._up() if workers is None else workers
        within_s = self._pace.answer_s + size * self._pace.per_change_s
        asks = (worker.ask(message, within_s=within_s) for worker in asked)
        answers: dict[WorkerProcess, wire.Message | CertcastError] = {}
        for worker, answer in zip(asked, await asyncio.gather(*asks, return_exceptions=True), strict=True):
            if isinstance(answer, WorkerLostError):
                await self._replace(worker, str(answer))
            elif isinstance(answer, BaseException) and not isinstance(answer, CertcastError):
                raise answer
            else:
                answers[worker] = answer
        return answers

    async def _replace(self, worker: WorkerProcess, why: str) -> None:
        """End a worker; its keeper starts another."""
        _log.warning("%s: it is ended and started again", why)
        await worker.end()
        self.workers = [None if each is worker else each for each in self.workers]

    async def _keep(self, slot: int) -> None:
        """See that a slot has a worker that is well."""
        failed = 0
        while True:
            worker = self.workers[slot]
            if worker is None:
                waits = self._pace.again_s
                await asyncio.sleep(waits[min(failed, len(waits) - 1)])
                failed += 1
                try:
                    await self._bring_up(slot)
                except (CertcastError, OSError) as error:
                    _log.warning("worker %d of the embedded target cannot be started: %s", slot + 1, error)
                continue
            if await self._is_well(worker):
                failed = 0
                continue
            async with self._changing:
                if self.workers[slot] is worker:
                    await self._replace(worker, f"worker {slot + 1} of the embedded target died or hangs")

    async def _is_well(self, worker: WorkerProcess) -> bool:
        """Wait until it is time to ask, or the worker dies; ask."""
        try:
            async with asyncio.timeout(self._pace.ping_s):
                await worker.gone()
        except TimeoutError:
            try:
                await worker.ask({"do": "ping"}, within_s=self._pace.answer_s)
            except WorkerLostError:
                return False
            return True
        return False

    async def _bring_up(self, slot: int) -> None:
        """Start a worker; it listens once it has all that it must serve.

        Raises:
            CertcastError: It could not be had.
        """
        worker = await WorkerProcess.spawn(slot + 1, self._serving, within_s=self._pace.start_s)
        try:
            loaded = dict(self._table)
            await self._load(worker, list(loaded.values()))
            async with self._changing:
                gone = [Remove(host=key[0], port=key[1]) for key in loaded if key not in self._table]
                new = [each for key, each in self._table.items() if loaded.get(key) is not each]
                found = await self._load(worker, [*gone, *new])
                self._see_equal(worker, found)
                listen = {"do": "listen", "ports": self._ports}
                await worker.ask(listen, within_s=self._pace.answer_s)
                self.workers[slot] = worker
        except BaseException:
            await worker.end()
            raise
        _log.info(
            "worker %d of the embedded target serves %d bindings (process %d)", slot + 1, len(self._table), worker.pid
        )

    async def _load(self, worker: WorkerProcess, changes: Sequence[BindingChange]) -> str:
        """Tell a worker that does not listen yet; the digest of what it then serves."""
        answer: wire.Message = {}
        for first in range(0, max(len(changes), 1), _CHUNK):
            part = changes[first : first + _CHUNK]
            within_s = self._pace.answer_s + len(part) * self._pace.per_change_s
            answer = await worker.ask({"do": "load", **wire.told_changes(part)}, within_s=within_s)
        return str(answer["digest"])

    async def _see_free_for(self, changes: Sequence[BindingChange]) -> None:
        for change in changes:
            if isinstance(change, Install) and change.port not in self._ports:
                try:
                    await self._see_free(change.port)
                except OSError as error:
                    text = self._trouble(change.port, error)
                    raise ListenerError(text, culprit=change.key) from error

    async def _see_free(self, port: int) -> None:
        """Bind a port alone for a moment: another program of this account could share it, and take the workers' calls.

        Raises:
            OSError: Somebody has it.
        """
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, self._serving.address or None, port + self._serving.port_offset, start_serving=False
        )
        server.close()
        await server.wait_closed()

    def _trouble(self, port: int, error: OSError) -> str:
        return listener_trouble(self._serving.address, port + self._serving.port_offset, error)

    async def _end_all(self) -> None:
        await asyncio.gather(*(worker.end() for worker in self._up()))
        self.workers = [None] * len(self.workers)

    def _up(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if worker is not None]

    def _claim(self, host: str, port: int) -> Claim:
        """What must be seen for a host now."""
        install = self._table.get((host, port)) or self._table.get((wildcard_of(host) or "", port))
        bundle = self._serving.fallback if install is None else install.bundle
        return Claim(host=host, port=port, fingerprint_sha256=bundle.fingerprint_sha256)

    def _see_equal(self, worker: WorkerProcess, found: str) -> None:
        """Compare what a worker says that it serves with what it must.

        Raises:
            WorkerLostError: They differ.
        """
        served = ((*key, install.bundle.fingerprint_sha256) for key, install in self._table.items())
        if found != wire.digest(served):
            raise WorkerLostError(f"worker {worker.number} does not serve what it was told")
