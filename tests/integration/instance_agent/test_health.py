"""What load balancers and Prometheus see of an agent, over HTTP."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from instance_agent import metrics
from instance_agent.agent import Agent
from instance_agent.health import HealthServer
from instance_agent.memory import Attempt
from instance_agent.targets.base import ServerUnavailableError
from shared.errors import ConfigurationError
from shared.messages import BindingReport, InstallOutcome
from tests.fakes.storage import START
from tests.fakes.target import FakeTarget
from tests.rigs.agents import agent
from tests.rigs.scenes import Scene
from tests.rigs.some import some


@dataclass
class Health:
    """An agent and a way to ask how it is."""

    scene: Scene
    agent: Agent
    target: FakeTarget
    url: str
    client: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(f"{self.url}{path}") as answer:
            return answer.status, await answer.text()

    async def when(self, said: str) -> tuple[int, str]:
        """How ready it is, once it says this."""
        async with asyncio.timeout(30):
            while True:
                answer = await self.get("/readyz")
                if said in answer[1]:
                    return answer
                await asyncio.sleep(0.02)

    async def metrics(self) -> dict[str, float]:
        _, text = await self.get("/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {"/".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


@pytest.fixture
async def health() -> AsyncIterator[Health]:
    scene = Scene()
    target = FakeTarget()
    one = agent(scene.storage, target=target)
    server = HealthServer(one, address="127.0.0.1", port=0)
    port = server.start()
    async with aiohttp.ClientSession() as client:
        yield Health(scene=scene, agent=one, target=target, url=f"http://127.0.0.1:{port}", client=client)
    await server.stop()


async def test_it_lives_as_soon_as_it_runs_and_is_ready_when_everything_desired_was_applied(health: Health) -> None:
    await health.scene.accepted("a.pfx", "a.example.com")
    assert await health.get("/livez") == (200, "ok\n")
    assert await health.get("/readyz") == (503, "not every desired binding has been applied yet\n")
    await health.agent.once()
    assert await health.get("/readyz") == (200, "ready\n")
    assert await health.get("/livez") == (200, "ok\n")


async def test_a_binding_that_fails_does_not_keep_the_instance_from_its_other_tenants(health: Health) -> None:
    health.target.refuses = {"a.example.com": "never"}
    await health.scene.accepted("a.pfx", "a.example.com", "b.example.com")
    await health.agent.once()
    assert (await health.get("/readyz"))[0] == 200


async def test_metrics_count_what_was_done(health: Health) -> None:
    assert (await health.metrics())["certcast_ready"] == 0
    await health.agent.once()
    await health.scene.beat("i0")
    health.target.refuses = {"b.example.com": "never"}
    await health.scene.accepted("a.pfx", "a.example.com", "b.example.com")
    health.scene.storage.put(health.agent.settings.queue, None)
    await health.agent.drain()
    after = await health.metrics()
    assert after["certcast_ready"] == 1
    assert after["certcast_bindings_proved"] == 1
    assert after["certcast_bindings_failing"] == 1
    assert after["certcast_messages_received_total"] == 2
    assert after["certcast_messages_poisoned_total"] == 1
    assert after["certcast_batches_total"] == 1
    assert after["certcast_outcomes_total/live"] == 1
    assert after["certcast_outcomes_total/refused"] == 1
    failing = [name for name in after if name.startswith("certcast_binding_failing/")]
    assert [(name, after[name]) for name in failing] == [("certcast_binding_failing/b.example.com/443", 1)]


async def test_metrics_say_what_runs_and_whether_it_can_be_told(health: Health) -> None:
    found = await health.metrics()
    [build] = [name for name in found if name.startswith("certcast_build_info/")]
    assert {"fake", "*"} <= set(build.split("/")), build
    assert (found["certcast_registered"], found["certcast_reports_owed"]) == (0, 0)
    assert found["certcast_proof_cycle_seconds"] == health.agent.settings.proof_cycle_s
    await health.agent.registration.register()
    assert (await health.metrics())["certcast_registered"] == 1


async def test_each_binding_has_its_end_and_the_age_of_its_proof(health: Health) -> None:
    await health.scene.accepted("a.pfx", "a.example.com", "b.example.com")
    await health.agent.once()
    health.scene.storage.clock.advance(100)
    health.agent.actor.proofs.seen(("a.example.com", 443))
    health.scene.storage.clock.advance(20)
    found = await health.metrics()
    ends = some((await health.scene.record("a.pfx")).not_after).timestamp()
    for host, age_s in (("a.example.com", 20), ("b.example.com", 120)):
        assert found[f"certcast_binding_not_after_seconds/{host}/443"] == ends
        assert found[f"certcast_binding_proved_age_seconds/{host}/443"] == age_s
    await health.scene.looked_at(await health.scene.delete("a.pfx"))
    await health.agent.once()
    assert not any("a.example.com" in name for name in await health.metrics())


async def test_what_something_else_changed_is_counted(health: Health) -> None:
    await health.scene.accepted("a.pfx", "a.example.com")
    await health.agent.once()
    health.target.server.replace({})
    await health.agent.reconcile()
    found = await health.metrics()
    assert (found["certcast_drifts_total"], found["certcast_repairs_total"]) == (1, 1)


async def test_ten_thousand_bindings_are_told_quickly(health: Health) -> None:
    reports = [
        BindingReport(
            role="*",
            host=f"shop-{number}.example.com",
            port=443,
            generation=1,
            source="a.pfx",
            outcome=InstallOutcome.LIVE,
            finished_at=START,
            fingerprint_sha256="ab" * 32,
        )
        for number in range(10_000)
    ]
    health.agent.actor.proofs.enter(Attempt(report=report, not_after=START) for report in reports)
    began = time.process_time()
    text = metrics.text_of(health.agent)
    assert time.process_time() - began < 1, "handshakes of a server that asks the agent wait meanwhile"
    assert text.count(b"certcast_binding_proved_age_seconds{") == 10_000


async def test_a_server_that_cannot_be_used_is_said_by_an_agent_that_lives(health: Health) -> None:
    health.target.start_errors = [ServerUnavailableError("nginx.conf is broken: correct it")]
    running = asyncio.ensure_future(health.agent.run())
    status, text = await health.when("cannot be used now")
    assert status == 503
    assert (await health.get("/livez"))[0] == 200
    assert text.endswith("\nthe web server cannot be used now: nginx.conf is broken: correct it\n")
    assert (await health.metrics())["certcast_server_usable"] == 0
    assert await health.when("ready\n") == (200, "ready\n")
    assert (await health.metrics())["certcast_server_usable"] == 1
    health.agent.stop()
    await running


async def test_the_metrics_are_marked_as_what_prometheus_reads(health: Health) -> None:
    async with health.client.get(f"{health.url}/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE certcast_outcomes_total counter" in await answer.text()


async def test_two_agents_of_one_process_have_metrics_of_their_own(health: Health) -> None:
    other = HealthServer(agent(health.scene.storage, "i1"), address="127.0.0.1", port=0)
    other.start()
    await other.stop()
    assert (await health.metrics())["certcast_ready"] == 0


async def test_nothing_else_is_answered(health: Health) -> None:
    for path in ("/", "/admin", "/metrics/x"):
        assert (await health.get(path))[0] == 404
    async with health.client.post(f"{health.url}/readyz") as answer:
        assert answer.status == 405


async def test_a_port_that_is_taken_is_said_with_the_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HealthServer(agent(Scene().storage), address="127.0.0.1", port=port)
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} cannot be listened on .*CERTCAST_HEALTH_PORT"):
            server.start()


async def test_stopping_what_never_started_is_no_error() -> None:
    await HealthServer(agent(Scene().storage), address="127.0.0.1", port=0).stop()
