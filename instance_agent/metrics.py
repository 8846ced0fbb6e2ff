"""One agent's counts in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from shared import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from instance_agent.acting import Actor
    from instance_agent.agent import Agent

KIND = "text/plain; version=0.0.4; charset=utf-8"


def text_of(agent: Agent) -> bytes:
    """The counts at this moment."""
    registry = CollectorRegistry()
    registry.register(_AgentMetrics(agent))
    return generate_latest(registry)


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
        yield CounterMetricFamily("certcast_batches", "Batches applied.", agent.work.batches)
        registration = agent.registration
        labels = {"instance_id": registration.instance, "asked_id": registration.asked_id}
        yield InfoMetricFamily("certcast_agent", "Under which id it runs, and which it was to have.", labels)
        build = {"version": VERSION, "target": agent.settings.target, "role": agent.settings.role}
        yield InfoMetricFamily("certcast_build", "certcast's version, and what it installs on.", build)
        told = float(registration.is_registered and not registration.trouble), float(agent.actor.memory.owes)
        yield GaugeMetricFamily("certcast_registered", "0 while the agent cannot be told of changes.", told[0])
        yield GaugeMetricFamily("certcast_reports_owed", "1 while reports could not be made yet.", told[1])
        cycle_s = float(agent.settings.proof_cycle_s)
        yield GaugeMetricFamily(
            "certcast_proof_cycle_seconds", "Within which each binding is looked at again.", cycle_s
        )
        drifts, usable = agent.actor.drifts, not agent.actor.usability.trouble
        yield GaugeMetricFamily("certcast_server_usable", "0 while the web server cannot be used.", float(usable))
        yield CounterMetricFamily("certcast_drifts", "Bindings that something else changed.", drifts.found)
        yield CounterMetricFamily("certcast_repairs", "Bindings put right after that.", drifts.repaired)
        outcomes = CounterMetricFamily("certcast_outcomes", "Results by outcome.", labels=["outcome"])
        for outcome, count in sorted(agent.work.outcomes.items()):
            outcomes.add_metric([outcome], count)
        yield outcomes
        yield from _of_bindings(agent.actor)


def _of_bindings(actor: Actor) -> Iterator[Metric]:
    labels = ["host", "port"]
    ends = GaugeMetricFamily(
        "certcast_binding_not_after_seconds", "End of the certificate last seen served, since 1970.", labels=labels
    )
    ages = GaugeMetricFamily(
        "certcast_binding_proved_age_seconds", "Since its certificate was last seen served.", labels=labels
    )
    failing = GaugeMetricFamily("certcast_binding_failing", "1 for each desired binding not served.", labels=labels)
    for report in (attempt.report for attempt in actor.memory.failures):
        failing.add_metric((report.host, str(report.port)), 1.0)
    now = actor.now().timestamp()
    for (host, port), proof in actor.proofs.known.items():
        place = (host, str(port))
        if proof.not_after is not None:
            ends.add_metric(place, proof.not_after.timestamp())
        if proof.at is not None:
            ages.add_metric(place, max(0.0, now - proof.at))
    yield failing
    yield ends
    yield ages
