"""Does to the local cloud what the plan says, and keeps the books of it."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from copy import deepcopy
from datetime import UTC, datetime, timedelta

from local_azure.instances import Instance
from local_azure.processes.child import ChildEndedError
from local_azure.servers.by_hand import ByHand as Hand
from shared.errors import CertcastError, UnavailableError
from tests.rigs.certificates import Authority, authority
from tests.soak.drifts import Drift
from tests.soak.following import follow, name_for
from tests.soak.model import Model, Uploaded
from tests.soak.plan import Action, ByHand, KillAgent, Plan, Put, Remove, RestartServer
from tests.soak.stage import Stage

PASSWORD = "a soak is long"
_ACTION_S = 120
_SETTLED_S = 4.0
_HANDMADE_AT_MOST = 2
"""Changes of one binding on one instance within an hour that certcast puts right without waiting between them."""


class Conductor:
    """Acts.

    Args:
        stage: Where.
        plan: What is to be done.

    Attributes:
        done: How often what was done.
        took_s: How long servers were down, and agents not ready.
    """

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.done = Counter[str]()
        self.took_s: dict[str, list[float]] = defaultdict(list)
        self._stage = stage
        self._plan = plan
        self._authority: Authority = authority()
        self._began = datetime.now(UTC).replace(microsecond=0)
        self._issued = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Make the upload that the load asks for."""
        await self._put(self._plan.first())

    async def act(self) -> None:
        """Do one thing after the other until the time is over."""
        until = self._stage.now() + self._stage.options.seconds
        while self._stage.now() < until:
            async with asyncio.timeout(_ACTION_S):
                await self._do(self._plan.next())
            await asyncio.sleep(self._plan.pause_s() * self._stage.options.mean_s)

    async def finish(self) -> None:
        """Wait until servers and agents are there again, and changes by hand are put right or given up."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def abandon(self) -> None:
        """Let go of all that is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _do(self, action: Action) -> None:
        match action:
            case Put():
                await self._put(action)
            case Remove():
                await self._remove(action)
            case ByHand():
                await self._by_hand(action)
            case RestartServer():
                self._restart(action)
            case KillAgent():
                self._kill(action)

    async def _put(self, put: Put) -> None:
        self._issued += 1
        # No two certificates begin at once, so that what is elected follows from that alone.
        days = 40 if put.older else 2
        begins = self._began - timedelta(days=days) + timedelta(seconds=self._issued)
        issued = self._authority.issue(
            *put.hosts, key=put.key, not_before=begins, not_after=begins + timedelta(days=90)
        )
        upload = Uploaded(name=put.name, fingerprint=issued.fingerprint, hosts=put.claimed, not_before=begins)
        metadata = {"CertificatePassword": PASSWORD}
        metadata |= {"HostHeader": ", ".join(put.hosts)} if put.named else {}
        metadata |= {"Default": "true"} if put.default else {}
        self.done["renewals" if put.name in self._stage.model.uploads else "uploads of new names"] += 1
        await self._ahead(lambda model: model.put(upload))
        await self._stage.account.uploads.write(put.name, issued.pfx(PASSWORD), metadata)

    async def _remove(self, remove: Remove) -> None:
        self.done["removals"] += 1
        await self._ahead(lambda model: model.remove(remove.name))
        await self._stage.account.uploads.delete(remove.name)

    async def _ahead(self, change: Callable[[Model], None]) -> None:
        """Enter a change of what must be served, just before it is made: what is open there is overtaken by it."""
        stage, after = self._stage, deepcopy(self._stage.model)
        change(after)
        moved = frozenset(host for host in after.hosts if after.elected(host) != stage.model.elected(host))
        stage.drifts.overtake("an upload or removal changed what must be served", hosts=moved)
        # Where certcast cannot put a change right, what is uploaded meanwhile cannot be installed either.
        for each in stage.drifts.all:
            if each.stays and each.host in moved:
                await each.over.wait()
        change(stage.model)
        stage.changed |= dict.fromkeys(moved, stage.now())

    async def _by_hand(self, action: ByHand) -> None:
        stage, instance = self._stage, self._stage.instances[action.instance]
        somebody = instance.by_hand
        if somebody is None or (reason := await self._kept_from(action, instance, somebody)):
            self.done[f"changes by hand left out: {reason}"] += 1
            return
        theirs = self._authority.issue(action.host) if action.how == "replaced" else None
        drift = Drift(
            instance=instance.name,
            target=instance.target,
            host=action.host,
            how=action.how,
            made=stage.now(),
            fingerprint=theirs.fingerprint if theirs else "",
            stays=somebody.stays,
        )
        try:
            with stage.disturbing(instance.name, "somebody changes it") if somebody.stays else nullcontext():
                await (somebody.replace(action.host, theirs.bundle()) if theirs else somebody.untie(action.host))
        except UnavailableError as error:
            stage.wrong.append(f"{drift} was not possible: {error}")
            return
        stage.drifts.begun(drift)
        self._begin(follow(stage, drift, instance, somebody))

    async def _kept_from(self, action: ByHand, instance: Instance, somebody: Hand) -> str:
        """Why a change by hand would tell nothing now; empty where it would."""
        stage, host = self._stage, action.host
        if stage.is_disturbed(instance.name):
            return "its server or agent is away"
        if action.how == "taken away" and not somebody.can_untie:
            return "nothing can be taken away there"
        if somebody.stays and (host.startswith("*") or stage.drifts.is_open(instance.name)):
            return "one at a time is enough there"
        if stage.drifts.is_open(instance.name, host):
            return "it is changed already"
        if stage.drifts.count(instance.name, host) >= _HANDMADE_AT_MOST:
            return "certcast would wait before it puts it right again"
        settled = stage.now() - stage.changed.get(host, 0) > _SETTLED_S and stage.model.elected(host) is not None
        return "" if settled and await stage.is_right(instance, name_for(host)) else "it is not settled"

    def _restart(self, action: RestartServer) -> None:
        instance = self._stage.instances[action.instance]
        server = instance.server
        if server is None or self._stage.is_disturbed(instance.name):
            self.done["restarts left out"] += 1
            return

        async def restart() -> None:
            await (server.kill() if action.killed else server.stop())
            await server.start()

        self._begin(self._away(instance, "server restarts", restart()))

    def _kill(self, action: KillAgent) -> None:
        instance = self._stage.instances[action.instance]
        if self._stage.is_disturbed(instance.name):
            self.done["kills left out"] += 1
            return

        async def kill() -> None:
            await instance.agent.kill()
            await instance.agent.start()

        self._begin(self._away(instance, "agents killed", kill()))

    async def _away(self, instance: Instance, what: str, doing: Coroutine[None, None, None]) -> None:
        stage = self._stage
        stage.drifts.overtake(what, instance=instance.name)
        self.done[what] += 1
        with stage.disturbing(instance.name, what):
            began = stage.now()
            try:
                await doing
            except (ChildEndedError, CertcastError) as error:
                stage.wrong.append(f"{instance.name} ({instance.target}) did not come back: {error}")
            self.took_s[what].append(stage.now() - began)
        stage.drifts.overtake(what, instance=instance.name)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stage.wrong.append(f"the soak itself failed: {error!r}")
