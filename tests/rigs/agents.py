"""Agents over the fake cloud and a fake web server, as many as a test needs."""

from instance_agent.acting import Actor
from instance_agent.agent import Agent
from instance_agent.config import DEFAULT_PROOF_CYCLE_S, AgentSettings
from instance_agent.desired import Desired
from shared.binding import ANY_ROLE, DesiredBinding
from shared.config import StorageAccess
from tests.fakes.edges import FakeBundles, FakeQueues, FakeStorage, Step, unhindered
from tests.fakes.target import FakeServer, FakeTarget


def settings(
    instance: str = "i0",
    *,
    role: str = ANY_ROLE,
    host: str = "",
    poll_max_ms: int = 500,
    proof_cycle_s: int = DEFAULT_PROOF_CYCLE_S,
) -> AgentSettings:
    return AgentSettings(
        storage=StorageAccess(connection_string="AccountName=fake;"),
        key_encryption_key="file:key",
        instance=instance,
        role=role,
        host=host or f"machine-of-{instance}",
        target="fake",
        poll_max_ms=poll_max_ms,
        health_address="127.0.0.1",
        health_port=0,
        proof_cycle_s=proof_cycle_s,
    )


def actor(storage: FakeStorage, target: FakeTarget, step: Step = unhindered) -> Actor:
    return Actor(target=target, bundles=FakeBundles(storage, step), probe=target.server.probe, now=storage.clock)


def agent(
    storage: FakeStorage,
    instance: str = "i0",
    *,
    role: str = ANY_ROLE,
    host: str = "",
    server: FakeServer | None = None,
    target: FakeTarget | None = None,
    step: Step = unhindered,
    poll_max_ms: int = 500,
    proof_cycle_s: int = DEFAULT_PROOF_CYCLE_S,
    page: int = 1000,
) -> Agent:
    """One agent; give the server of an earlier one to stand for its successor on the same machine."""
    target = target or FakeTarget(server)
    return Agent(
        settings=settings(instance, role=role, host=host, poll_max_ms=poll_max_ms, proof_cycle_s=proof_cycle_s),
        state=storage.state(step, page=page),
        queues=FakeQueues(storage, step),
        target=target,
        actor=actor(storage, target, step),
        now=storage.clock,
    )


def desired(*rows: DesiredBinding) -> Desired:
    """What the tables say where these are the rows."""
    return Desired(rows={(row.host, row.port): row for row in rows})


def served(server: FakeServer) -> dict[str, str]:
    """Which bundle the server has for which host, on port 443."""
    return {host: binding.bundle_id for (host, port), binding in server.bound.items() if port == 443}
