"""What load balancers and Prometheus see of an agent, over HTTP."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from instance_agent.agent import Agent
from instance_agent.health import HealthServer
from shared.errors import ConfigurationError
from tests.fakes.target import FakeTarget
from tests.rigs.agents import agent
from tests.rigs.scenes import Scene


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
