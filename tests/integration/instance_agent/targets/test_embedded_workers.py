"""The embedded target with several workers: the contract, each worker alike, and what becomes of one that is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web

from instance_agent.installing.installer import install
from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.targets.base import ApplyError, Remove, ServerUnavailableError
from instance_agent.targets.embedded.proof import Claim
from instance_agent.targets.embedded.target import ListenerError
from instance_agent.targets.embedded.workers import PoolPace, WorkerPool
from local_azure.processes.listening import free_port
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import OpenConnectionsContract, TlsContract
from tests.rigs.certificates import self_signed
from tests.rigs.embedded import EmbeddedRig, serving, target_on
from tests.rigs.targets import bind, root, seen
from tests.rigs.upstreams import application, raw_client
from tests.rigs.visitors import Busy, visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from instance_agent.targets.embedded.target import EmbeddedTarget
    from tests.rigs.targets import Rig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")

PATIENCE_S = 60.0
LOOKS = 24
"""Handshakes that together meet every one of three workers: the chance that they do not is 2 in 10,000 runs."""


def pool_of(target: EmbeddedTarget) -> WorkerPool:
    assert isinstance(target.front, WorkerPool)
    return target.front


def pids(target: EmbeddedTarget) -> list[int]:
    return [worker.pid for worker in pool_of(target).workers if worker is not None]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.02)


async def many_seen(target: EmbeddedTarget, host: str, port: int = 443) -> set[str]:
    return {await served_fingerprint(target.endpoint(port), host, timeout_s=20) for _ in range(LOOKS)}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest_asyncio.fixture(scope="class", loop_scope="module")
async def three() -> AsyncIterator[EmbeddedTarget]:
    """Three workers, started once: that takes longer than most of the tests of the contract."""
    async with serving(workers=3) as target:
        yield target


@pytest.mark.asyncio(loop_scope="module")
class TestTheContract(TlsContract, OpenConnectionsContract):
    @pytest_asyncio.fixture(loop_scope="module")
    async def rig(self, three: EmbeddedTarget) -> AsyncIterator[Rig]:
        yield EmbeddedRig(three)
        await three.apply([Remove(host=each.host, port=each.port) for each in await three.current()])


class TestAllOfThem:
    async def test_each_worker_has_a_share_of_the_connections_and_every_change_of_the_certificates(self) -> None:
        async with serving(workers=3) as target:
            for port in (443, 444):
                for _ in range(2):
                    issued = root().issue("shop.example.com")
                    await target.apply([bind(issued, "shop.example.com", port)])
                    assert await many_seen(target, "shop.example.com", port) == {issued.fingerprint}
            async with visiting(target.endpoint(443), "shop.example.com", count=LOOKS):
                holders = [pid for pid in pids(target) if established(pid, target.endpoint(443)[1])]
            assert len(holders) == 3

    async def test_a_change_that_one_worker_does_not_show_is_put_back_on_all(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with serving(workers=2) as target:
            old = root().issue("shop.example.com")
            await target.apply([bind(old, "shop.example.com", 443)])
            worker = pool_of(target).workers[1]
            assert worker is not None

            async def another(*_: object, **__: object) -> str:
                return "serves another certificate"

            with monkeypatch.context() as patched:
                patched.setattr(worker, "unproved", another)
                changes = [bind(root().issue("shop.example.com"), "shop.example.com", 443)]
                with pytest.raises(ServerUnavailableError, match=r"worker 2 of 2 serves another.* is put back"):
                    await target.apply(changes)
            assert await many_seen(target, "shop.example.com") == {old.fingerprint}
            assert {each.fingerprint_sha256 for each in await target.current()} == {old.fingerprint}
            assert len(pids(target)) == 2

    async def test_the_look_at_a_worker_sees_what_it_serves_and_not_what_it_says(self) -> None:
        async with serving(workers=2) as target:
            pool = pool_of(target)
            issued, wide = root().issue("shop.example.com"), root().issue("*.example.net")
            await target.apply([bind(issued, "shop.example.com", 443), bind(wide, "*.example.net", 443)])
            for worker in pool._up():
                right = [pool._claim(*key) for key in (("shop.example.com", 443), ("*.example.net", 443))]
                assert await worker.unproved(right, timeout_s=20) == ""
                wrong = [Claim(host="shop.example.com", port=443, fingerprint_sha256=wide.fingerprint)]
                assert f"serves {issued.fingerprint[:16]}" in await worker.unproved(wrong, timeout_s=20)
                closed = [Claim(host="shop.example.com", port=999, fingerprint_sha256="00")]
                assert "fails the TLS handshake" in await worker.unproved(closed, timeout_s=20)

    async def test_a_certificate_no_worker_will_serve_is_refused_with_its_host_and_leaves_no_trace(self) -> None:
        async with serving(workers=2) as target:
            weak = bind(self_signed("old.example.com", key="rsa1024"), "old.example.com", 444)
            with pytest.raises(ApplyError, match=r"old\.example\.com:444 cannot be served: .*key too small") as caught:
                await target.apply([bind(root().issue("a.example.com"), "a.example.com", 443), weak])
            assert caught.value.culprit == weak.key
            assert await target.current() == frozenset()
            with pytest.raises(ProbeError, match="cannot be connected to"):
                await served_fingerprint(target.endpoint(444), None, timeout_s=5)

    async def test_a_port_of_another_program_is_named_even_if_that_would_share_it(self) -> None:
        async with serving(workers=2) as target:
            with socket.create_server(target.endpoint(444), reuse_port=True):
                change = bind(root().issue("a.example.com"), "a.example.com", 444)
                with pytest.raises(ListenerError, match="another program listens there") as caught:
                    await target.apply([change])
                assert caught.value.culprit == change.key
            await target.apply([change])
            assert await seen(EmbeddedRig(target), 444, "a.example.com") == change.bundle.fingerprint_sha256

    async def test_starting_on_a_port_that_another_agents_workers_have_is_refused(self) -> None:
        async with serving(workers=2) as target:
            other = target_on(target.endpoint(443)[1], workers=2)
            with pytest.raises(ConfigurationError, match="CERTCAST_EMBEDDED_PORT_OFFSET"):
                await other.start()
            await other.stop()

    async def test_a_fallback_that_cannot_be_served_ends_the_start_and_leaves_no_worker(self) -> None:
        target = target_on(free_port(1), workers=2, fallback=self_signed("old.example.com", key="rsa1024").bundle())
        with pytest.raises(ConfigurationError, match="CERTCAST_EMBEDDED_FALLBACK cannot be served"):
            await target.start()
        assert pids(target) == []

    async def test_stopping_lets_answers_in_hand_be_sent_and_leaves_no_worker(self) -> None:
        async with serving(workers=2) as target:
            running = pids(target)
            address = target.endpoint(443)
            async with visiting(address, "a.example", count=4) as working, visiting(address, "a", count=9) as idle:
                busy = Busy(working)
                await busy.answered(20)
                await target.stop()
                await busy.stop()
                for error in busy.errors:
                    assert not getattr(error, "partial", b""), "an answer was cut short"
                for visitor in idle:
                    with pytest.raises((OSError, EOFError)):
                        await visitor.get()
            assert not any(is_running(pid) for pid in running)

    async def test_no_worker_has_the_agents_credentials_and_no_key_is_where_others_could_read_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CERTCAST_STORAGE", "AccountKey=only-the-agents")
        async with serving(workers=2) as target:
            await target.apply([bind(root().issue("shop.example.com"), "shop.example.com", 443)])
            for pid in pids(target):
                shown = shown_by(pid)
                assert "only-the-agents" not in shown
                assert "PRIVATE KEY" not in shown
                assert not [name for name in opened_by(pid) if "memfd" in name or "certcast-" in name]

    async def test_each_passes_requests_on_and_finishes_them_when_all_stop(self) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/slow":
                begun.set()
                await go_on.wait()
            return web.Response(text=request.headers["X-Forwarded-For"])

        head = b"GET %s HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
        async with application(answer) as upstream, serving(workers=2, upstream=upstream) as target:
            await target.apply([bind(root().issue("shop.example.com"), "shop.example.com", 443)])
            for _ in range(LOOKS):
                async with raw_client(target.endpoint(443), "shop.example.com") as client:
                    assert (await client.ask(head % b"/")).body == b"127.0.0.1"
            async with raw_client(target.endpoint(443), "shop.example.com") as client:
                await client.send(head % b"/slow")
                await begun.wait()
                stopping = asyncio.create_task(target.stop())
                await until(lambda: not any(listens(pid, target.endpoint(443)[1]) for pid in pids(target)))
                go_on.set()
                assert (await client.reply()).status == 200
                await stopping


class TestOneThatIsLost:
    async def test_a_worker_that_dies_is_replaced_and_serves_everything_from_its_first_connection(self) -> None:
        async with serving(workers=2) as target:
            issued = {f"h{i}.example.com": root().issue(f"h{i}.example.com") for i in range(5)}
            await target.apply([bind(each, host, 443) for host, each in issued.items()])
            await target.apply(
                [bind(issued["h0.example.com"], "h0.example.com", 444), Remove(host="h1.example.com", port=443)]
            )
            before = pids(target)
            os.kill(before[0], signal.SIGKILL)
            found: set[str] = set()
            async with asyncio.timeout(PATIENCE_S):
                while len(pids(target)) < 2 or pids(target)[0] == before[0]:
                    with contextlib.suppress(ProbeError):  # what the kernel had given to the one that died
                        found.add(await served_fingerprint(target.endpoint(443), "h2.example.com", timeout_s=20))
            assert found <= {issued["h2.example.com"].fingerprint}
            assert pids(target)[1] == before[1]
            worker = pool_of(target).workers[0]
            assert worker is not None
            claims = [pool_of(target)._claim(f"h{i}.example.com", 443) for i in range(5)]
            assert await worker.unproved([*claims, pool_of(target)._claim("h0.example.com", 444)], timeout_s=20) == ""
            assert claims[1].fingerprint_sha256 == target.fallback.fingerprint_sha256
            assert await many_seen(target, "h0.example.com", 444) == {issued["h0.example.com"].fingerprint}

    async def test_a_worker_that_hangs_is_replaced_and_the_batch_is_live_on_all_that_serve(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(workers=2) as target:
            pool_of(target)._pace = PoolPace(answer_s=3.0)
            old, new = root().issue("shop.example.com"), root().issue("shop.example.com")
            await target.apply([bind(old, "shop.example.com", 443)])
            hung = pids(target)[0]
            os.kill(hung, signal.SIGSTOP)
            (result,) = await install(target, [bind(new, "shop.example.com", 443)], served_fingerprint)
            assert result.outcome is Outcome.LIVE
            assert not is_running(hung)
            assert "did not answer within" in caplog.text
            pool_of(target)._pace = PoolPace()
            await until(lambda: len(pids(target)) == 2)
            assert await many_seen(target, "shop.example.com") == {new.fingerprint}

    async def test_a_worker_that_hangs_without_a_change_is_found_and_replaced(self) -> None:
        target = target_on(free_port(2), workers=2)
        pool_of(target)._pace = PoolPace(answer_s=10.0, ping_s=0.1)
        await target.start()
        try:
            hung = pids(target)[1]
            os.kill(hung, signal.SIGSTOP)
            await until(lambda: not is_running(hung))
            await until(lambda: len(pids(target)) == 2)
        finally:
            await target.stop()

    async def test_when_every_worker_is_lost_the_batch_fails_for_now_and_all_come_back(self) -> None:
        async with serving(workers=2) as target:
            old = root().issue("shop.example.com")
            await target.apply([bind(old, "shop.example.com", 443)])
            new = bind(root().issue("shop.example.com"), "shop.example.com", 443)
            for pid in pids(target):
                os.kill(pid, signal.SIGKILL)
            (result,) = await install(target, [new], served_fingerprint)
            assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
            await until(lambda: len(pids(target)) == 2)
            assert await many_seen(target, "shop.example.com") == {old.fingerprint}
            await target.apply([new])
            assert await many_seen(target, "shop.example.com") == {new.bundle.fingerprint_sha256}

    async def test_changes_made_while_a_worker_begins_are_on_it_too(self) -> None:
        async with serving(workers=2) as target:
            os.kill(pids(target)[0], signal.SIGKILL)
            latest = ""
            rounds = 0
            async with asyncio.timeout(PATIENCE_S):
                while rounds < 5 or len(pids(target)) < 2:
                    issued = root().issue("shop.example.com")
                    await target.apply([bind(issued, "shop.example.com", 443)])
                    latest = issued.fingerprint
                    rounds += 1
            assert await many_seen(target, "shop.example.com") == {latest}

    async def test_connections_of_the_other_workers_do_not_notice_a_death(self) -> None:
        async with serving(workers=2) as target:
            await target.apply([bind(root().issue("shop.example.com"), "shop.example.com", 443)])
            async with visiting(target.endpoint(443), "shop.example.com", count=LOOKS) as visitors:
                victim = pids(target)[0]
                lost = len(established(victim, target.endpoint(443)[1]))
                assert 0 < lost < LOOKS
                os.kill(victim, signal.SIGKILL)
                outcomes = []
                for visitor in visitors:
                    try:
                        outcomes.append((await visitor.get()).status)
                    except (OSError, EOFError):
                        outcomes.append(0)
                assert outcomes.count(200) == LOOKS - lost


AGENT = """
import asyncio, sys
from instance_agent.targets.embedded.target import EmbeddedTarget
from instance_agent.targets.embedded.settings import EmbeddedSettings

async def main():
    target = EmbeddedTarget(EmbeddedSettings(port_offset=int(sys.argv[1]) - 443, workers=2))
    await target.start()
    print(*(worker.pid for worker in target.front.workers), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


class TestTheAgentsEnd:
    @pytest.mark.parametrize("kind", ["workers that run", "a worker that hangs"])
    async def test_an_agent_that_is_killed_leaves_no_worker(self, kind: str) -> None:
        with subprocess.Popen(  # noqa: ASYNC220 - the signal is the test's
            [sys.executable, "-c", textwrap.dedent(AGENT), str(free_port(2))], stdout=subprocess.PIPE
        ) as agent:
            assert agent.stdout is not None
            workers = [int(word) for word in (await asyncio.to_thread(agent.stdout.readline)).split()]
            assert len(workers) == 2
            if kind == "a worker that hangs":
                os.kill(workers[0], signal.SIGSTOP)
            agent.kill()
        await until(lambda: not any(is_running(pid) for pid in workers))

    async def test_what_the_service_manager_sends_to_the_workers_too_is_left_to_the_agent(self) -> None:
        async with serving(workers=2) as target:
            before = pids(target)
            for pid in before:
                for number in (signal.SIGTERM, signal.SIGINT):
                    os.kill(pid, number)
            issued = root().issue("shop.example.com")
            await target.apply([bind(issued, "shop.example.com", 443)])
            assert await many_seen(target, "shop.example.com") == {issued.fingerprint}
            assert pids(target) == before


def shown_by(pid: int) -> str:
    """What every process of the account can see of another."""
    return "".join(Path(f"/proc/{pid}/{file}").read_text("utf-8") for file in ("environ", "cmdline"))


def opened_by(pid: int) -> set[str]:
    """What a process has open; nothing when it has ended."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(path.readlink()))
    return found


def sockets(pid: int, port: int, state: str) -> list[str]:
    """The inodes of a process's sockets on this port that are in this state (proc_pid_net(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    found = [row[9] for row in rows if row[3] == state and int(row[1].split(":")[1], 16) == port]
    opened = opened_by(pid)
    return [inode for inode in found if f"socket:[{inode}]" in opened]


def established(pid: int, port: int) -> list[str]:
    """Those of its open connections that were accepted on the port."""
    return sockets(pid, port, "01")


def listens(pid: int, port: int) -> bool:
    """Whether it listens on the port."""
    return bool(sockets(pid, port, "0A"))
