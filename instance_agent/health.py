"""`/livez`, `/readyz` and `/metrics` of one agent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from instance_agent.targets.parts.small_http import Request, Response
from instance_agent.targets.parts.small_server import SmallServer
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
        self._server = SmallServer(self._respond)

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ConfigurationError: The port is taken or the address is not this machine's.
        """
        try:
            return self._server.listen(self._address, self._port)
        except OSError as error:
            raise ConfigurationError(
                f"the agent's health port {self._address}:{self._port} cannot be listened on ({error.strerror}): set "
                "CERTCAST_HEALTH_PORT to a free one, or 0 for any"
            ) from None

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.close()

    def _respond(self, request: Request) -> Response:
        match request.path:
            case "/livez":
                return Response(body=b"ok\n")
            case "/readyz":
                return self._readiness()
            case "/metrics":
                return Response(body=generate_latest(self._registry), kind=_PROMETHEUS_TEXT)
        return Response(status=HTTPStatus.NOT_FOUND)

    def _readiness(self) -> Response:
        trouble = self._agent.registration.trouble
        also = f"{trouble}\n" if trouble else ""
        if self._agent.ready:
            return Response(body=f"ready\n{also}".encode())
        body = f"not every desired binding has been applied yet\n{also}".encode()
        return Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body)
