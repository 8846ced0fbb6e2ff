"""`/livez`, `/readyz` and `/metrics` of one agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from instance_agent.agent import Agent

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class _AgentMetrics(Collector):
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        """Read the agent's counts at the moment of asking."""
        agent = self._agent
        yield GaugeMetricFamily("certcast_ready", "1 once every desired binding has been applied.", float(agent.ready))
        yield GaugeMetricFamily("certcast_bindings_proved", "Bindings seen served.", agent.actor.memory.proved)
        yield GaugeMetricFamily("certcast_bindings_failing", "Desired bindings not served.", agent.actor.memory.failing)
        yield CounterMetricFamily("certcast_messages_received", "Messages taken.", agent.inbox.received)
        yield CounterMetricFamily("certcast_messages_poisoned", "Messages put aside.", agent.inbox.poisoned)
        yield CounterMetricFamily("certcast_batches", "Batches applied.", agent.batches)
        registration = agent.registration
        labels = {"instance_id": registration.instance, "asked_id": registration.asked_id}
        yield InfoMetricFamily("certcast_agent", "Under which id it runs, and which it was to have.", labels)
        outcomes = CounterMetricFamily("certcast_outcomes", "Results by outcome.", labels=["outcome"])
        for outcome, count in sorted(agent.outcomes.items()):
            outcomes.add_metric([outcome], count)
        yield outcomes


class HealthServer:
    """Answers load balancers and Prometheus.

    Args:
        agent: Whose health it is.
        address: Address to listen on.
        port: 0 takes any free port.
    """

    def __init__(self, agent: Agent, *, address: str, port: int) -> None:
        self._agent = agent
        self._address = address
        self._port = port
        self._registry = CollectorRegistry()
        self._registry.register(_AgentMetrics(agent))
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ConfigurationError: The port is taken or the address is not this machine's.
        """
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address, self._port)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise ConfigurationError(
                f"the agent's health port {self._address}:{self._port} cannot be listened on ({error.strerror}): set "
                "CERTCAST_HEALTH_PORT to a free one, or 0 for any"
            ) from None
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        trouble = self._agent.registration.trouble
        also = f"{trouble}\n" if trouble else ""
        if self._agent.ready:
            return web.Response(text=f"ready\n{also}")
        return web.Response(text=f"not every desired binding has been applied yet\n{also}", status=503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _PROMETHEUS_TEXT})
