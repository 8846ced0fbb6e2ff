"""The whole of certcast on virtual time: uploaders, Event Grid, the Function, instances, and what they may suffer.

Nothing here is certain but the storage account: events are lost, doubled and come in any order, processes stop at any
step and are never heard of again, and every step of every process waits until it is chosen.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from instance_agent.agent import Agent
from shared.bundle import bundle_id
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.intake import handle_notice, recheck
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.messages import RECHECK_QUEUE, RESULTS_QUEUE, InstallReport, RecheckUpload, decode
from shared.ports import ReceivedMessage
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import ProcessDiedError
from tests.fakes.target import FakeServer
from tests.fakes.virtual_time import VirtualLoop
from tests.rigs.agents import agent
from tests.rigs.conducting import Conductor, Process, Trouble
from tests.rigs.scenes import issued, pfx
from tests.rigs.truth import Truth

T = TypeVar("T")

HELD_S = 600
"""How long the Functions host keeps a message it took from others (learn.microsoft.com, queue trigger)."""
RETRY_S = 5
"""host.json's `visibilityTimeout`."""
TAKES = 16
MAX_DEQUEUE = 5

_PAGE = 2


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is uploaded.

    Attributes:
        hosts: What it is for.
        day: Days from the start of the run that it is valid from.
        serial: Tells renewals apart.
        ends_at: Minutes from the start of the run that it is valid until; None for months.
    """

    hosts: tuple[str, ...]
    day: float
    serial: int
    ends_at: int | None = None

    @property
    def lasts(self) -> float:
        """Days."""
        return 90 if self.ends_at is None else self.ends_at / 1440 + 1 / 24 - self.day

    @property
    def content(self) -> bytes:
        return pfx(*self.hosts, day=self.day, lasts=self.lasts, serial=self.serial)

    @property
    def bundle_id(self) -> str:
        leaf = issued(*self.hosts, day=self.day, lasts=self.lasts, serial=self.serial)
        return bundle_id(leaf.bundle(), self.content)

    @property
    def ends(self) -> datetime:
        return issued(*self.hosts, day=self.day, lasts=self.lasts, serial=self.serial).certificate.not_valid_after_utc


@dataclass(eq=False)
class Machine:
    """An instance: its server outlives its agents."""

    name: str
    role: str
    server: FakeServer = field(default_factory=FakeServer)
    starts: int = 0
    agent: Agent | None = None
    process: Process | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running


class Simulation:
    """One platform, from its first upload to the settling of the dust."""

    def __init__(self, roles: dict[str, str]) -> None:
        self.loop = VirtualLoop()
        self.storage = FakeStorage(self.loop.clock)
        self.outside = self.storage.cloud()
        self.conductor = Conductor(self.loop)
        self.trouble = Trouble()
        self.machines = [Machine(name=name, role=role) for name, role in roles.items()]
        self.events: list[Notice] = []
        self.runs: list[Process] = []
        self.uploaded: dict[str, list[Certificate]] = {}
        self.surprises: list[BaseException | None] = []
        self._begun = 0
        clock = SimpleNamespace(monotonic=self.loop.time, perf_counter=self.loop.time)
        self._patience = mock.patch("instance_agent.installing.sighting.time", clock)
        self._patience.start()

    # What people do.

    def upload(self, name: str, certificate: Certificate, metadata: dict[str, str]) -> None:
        etag = self._at_once(self.outside.uploads.write(name, certificate.content, metadata))
        self.uploaded.setdefault(name, []).append(certificate)
        self.events.append(Notice(name=name, etag=etag, at=self.storage.clock()))

    def edit(self, name: str, changes: dict[str, str | None]) -> None:
        blob = self.storage.uploads.get(name)
        if blob is not None:
            metadata = {key: value for key, value in {**blob.metadata, **changes}.items() if value is not None}
            self._at_once(self.outside.uploads.set_metadata(name, metadata, etag=blob.etag))

    def delete(self, name: str) -> None:
        if self._at_once(self.outside.uploads.delete(name)):
            self.events.append(Notice(name=name, at=self.storage.clock(), deletion=True))

    # What Event Grid and the Functions host do.

    def deliver(self, which: int, *, keep: bool) -> None:
        """Start the Function on one of the events that wait; keeping it is delivering it once more later."""
        if self.events:
            notice = self.events[which % len(self.events)]
            if not keep:
                self.events.remove(notice)
            self._start(lambda cloud: handle_notice(cloud, notice), else_again=notice)

    def deliver_all(self) -> None:
        while self.events:
            self.deliver(0, keep=False)

    def lose_event(self, which: int) -> None:
        if self.events:
            self.events.pop(which % len(self.events))

    def start_sweep(self) -> None:
        self._start(sweep)

    def poll(self) -> None:
        """Start the Function on the messages that can be seen."""
        for queue in (RECHECK_QUEUE, RESULTS_QUEUE):
            for message in self._at_once(self.outside.queues.receive(queue, limit=TAKES, visibility_s=HELD_S)):
                self._take(queue, message)

    def _take(self, queue: str, message: ReceivedMessage) -> None:
        body = message.body or ""

        async def run(cloud: Cloud) -> None:
            if queue == RECHECK_QUEUE:
                await recheck(cloud, decode(RecheckUpload, body))
            else:
                await fold(cloud, decode(InstallReport, body))

        def ended(task: asyncio.Task[Any]) -> None:
            messages = self.storage.queues[queue]
            if task.cancelled() or isinstance(task.exception(), ProcessDiedError):
                return  # held until the host's lease of it ends
            if task.exception() is None or message.dequeue_count >= MAX_DEQUEUE:
                messages.pop(message.message_id, None)
            else:
                messages[message.message_id].visible_at = self.storage.clock() + timedelta(seconds=RETRY_S)

        self._start(run).add_done_callback(ended)

    def kill_run(self, which: int) -> None:
        """End one run of the Function where it stands."""
        running = [process for process in self.runs if process.running]
        if running:
            self._kill(running[which % len(running)])

    # What becomes of instances.

    def start_agent(self, which: int) -> None:
        machine = self.machines[which % len(self.machines)]
        if machine.running:
            return
        machine.starts += 1
        process = Process(name=f"{machine.name}#{machine.starts}")
        machine.agent = agent(
            self.storage,
            machine.name,
            role=machine.role,
            server=machine.server,
            step=self.conductor.step(process, self.trouble),
            poll_max_ms=5000,
            page=_PAGE,
        )
        process.task = self.loop.create_task(machine.agent.run())
        process.task.add_done_callback(self._agent_ended)
        machine.process = process

    def _agent_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and not isinstance(task.exception(), ProcessDiedError | None):
            self.surprises.append(task.exception())

    def stop_agent(self, which: int) -> None:
        agent = self.machines[which % len(self.machines)].agent
        if agent is not None:
            agent.stop()

    def kill_agent(self, which: int) -> None:
        machine = self.machines[which % len(self.machines)]
        if machine.running and machine.process is not None:
            self._kill(machine.process)

    def toggle_server(self, which: int) -> None:
        """Take a web server down, or bring it up again."""
        server = self.machines[which % len(self.machines)].server
        server.down = not server.down

    # What becomes of requests.

    def fail_requests(self, what: str, times: int) -> None:
        self.trouble.left[what] = times

    def lose_answers(self, times: int) -> None:
        self.storage.doubtful_writes = times

    # Time.

    def play(self, script: Sequence[tuple[int, int]]) -> None:
        self.conductor.play(script, at_most_s=20)

    def let_pass(self, seconds: float) -> None:
        self.conductor.let_pass(seconds)

    def settle_down(self) -> None:
        """Everything that can still happen happens, without further mishap, and the Function sweeps once."""
        self.trouble.left.clear()
        self.storage.doubtful_writes = 0
        for machine in self.machines:
            machine.server.down = False
        # Longer than a message is held for a run that died, so that it is taken again.
        self._host_for(HELD_S + 60)
        self.start_sweep()
        self._host_for(90)

    def truth(self) -> Truth:
        """The platform as it is now."""

        async def read() -> Truth:
            records = [known.value async for known in self.outside.state.uploads.all()]
            rows = [known.value async for known in self.outside.state.bindings.all()]
            return Truth(self, records, rows, [known.value async for known in self.outside.state.history.all()])

        return self._at_once(read())

    def close(self) -> None:
        for process in [*self.runs, *(machine.process for machine in self.machines if machine.process)]:
            if process.running:
                self._kill(process)
        self.conductor.let_pass(60)
        self._patience.stop()
        self.loop.close()

    def _host_for(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            self.poll()
            self.conductor.let_pass(3)

    def _start(
        self, work: Callable[[Cloud], Coroutine[Any, Any, object]], *, else_again: Notice | None = None
    ) -> asyncio.Task[Any]:
        self._begun += 1
        process = Process(name=f"run {self._begun}")
        step = self.conductor.step(process, self.trouble)
        cloud = self.storage.cloud(step, page=_PAGE)
        process.task = self.loop.create_task(work(cloud))

        def ended(task: asyncio.Task[Any]) -> None:
            if (task.cancelled() or task.exception() is not None) and else_again is not None:
                self.events.append(else_again)

        process.task.add_done_callback(ended)
        self.runs = [*(run for run in self.runs if run.running), process]
        return process.task

    def _kill(self, process: Process) -> None:
        process.dead = True
        assert process.task is not None
        process.task.cancel()

    @staticmethod
    def _at_once(work: Coroutine[Any, Any, T]) -> T:
        """Something that takes no time and no turn of its own."""
        try:
            work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("it had to wait")
