"""One upload is one trace, from its event to the probes of every agent, across processes; log lines name it."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from local_azure.eventgrid.schemas import EventSchema, notification
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.binding import ANY_ROLE, BindingKey
from shared.state.records import UploadRecord
from shared.telemetry.log_lines import FIELDS
from shared.telemetry.names import Stage
from shared.telemetry.traceparents import trace_of
from tests.rigs.certificates import authority
from tests.rigs.collector import Collector, Taken, collecting
from tests.rigs.some import some
from tests.rigs.witness import BLOB_DELETED, PASSWORD, Witness, eventually, witnessed

AGENTS = 2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

BY_FUNCTION = {
    *(Stage.NOTICE, Stage.LOOK, Stage.READ, Stage.JUDGE, Stage.SEAL, Stage.CLAIM, Stage.FAN_OUT, Stage.SCRUB),
    *(Stage.FOLD, Stage.ENTER, Stage.SETTLE, Stage.PUBLISH),
}
BY_AGENT = {Stage.ACT, Stage.FETCH, Stage.APPLY, Stage.PROBE, Stage.INSTALL, Stage.REPORT}
# A retry, another settling and a repeated hint may come before or after these.
PARENTS = {
    Stage.LOOK: {Stage.NOTICE, Stage.RECHECK},
    Stage.READ: {Stage.LOOK},
    Stage.JUDGE: {Stage.LOOK},
    Stage.SEAL: {Stage.LOOK},
    Stage.CLAIM: {Stage.LOOK},
    Stage.FAN_OUT: {Stage.LOOK},
    Stage.SCRUB: {Stage.LOOK},
    Stage.ACT: {Stage.FAN_OUT},
    Stage.FETCH: {Stage.ACT},
    Stage.APPLY: {Stage.ACT},
    Stage.PROBE: {Stage.ACT},
    Stage.INSTALL: {Stage.ACT},
    Stage.REPORT: {Stage.ACT},
    Stage.FOLD: {Stage.REPORT},
    Stage.ENTER: {Stage.FOLD},
    Stage.SETTLE: {Stage.ENTER, Stage.LOOK},
    Stage.PUBLISH: {Stage.SETTLE, Stage.LOOK, Stage.ENTER},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The local cloud, and who is told of its spans."""

    cloud: Witness
    collector: Collector

    async def trace(self, record: UploadRecord) -> dict[str, Taken]:
        """The spans of an upload's trace by their ids, once its end is told."""
        trace = trace_of(record.traceparent)

        async def whole() -> bool:
            names = [span.name for span in self.collector.of(trace)]
            ends = {Stage.SETTLE.value: 1, Stage.REPORT.value: AGENTS, Stage.FOLD.value: AGENTS, Stage.LOOK.value: 1}
            live = any(span.attributes.get("certcast.status") == "live" for span in self.collector.of(trace))
            return live and all(names.count(name) >= count for name, count in ends.items())

        await eventually(whole, f"the trace of {record.name}")
        return {span.id: span for span in self.collector.of(trace)}

    async def generation(self, host: str) -> int:
        """That of the host's row."""
        key = BindingKey(role=ANY_ROLE, host=host, port=443)
        return some(await self.cloud.account.state.bindings.get(key)).generation

    def lines(self, part: str) -> list[dict[str, object]]:
        """The log lines of a part that are JSON."""
        found = [line for who, line in self.cloud.lines if who == part and line.startswith("{")]
        return [json.loads(line) for line in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene() -> AsyncIterator[Scene]:
    async with collecting() as collector:
        telemetry = {
            "CERTCAST_TRACES": "otlp",
            "CERTCAST_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=blue",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }
        settings = PlatformSettings(
            agents=AGENTS, ports=FREE_PORTS, function_environment=telemetry, agent_environment=telemetry
        )
        async with witnessed(settings) as cloud:
            yield Scene(cloud=cloud, collector=collector)


async def event_about(name: str, scene: Scene, *, traceparent: str = "") -> None:
    """Have an event delivered as Event Grid does it, by a host whose invocation has a trace of its own."""
    event = {
        "id": "1",
        "topic": "/subscriptions/local",
        "subject": f"/blobServices/default/containers/certificates/blobs/{name}",
        "eventType": BLOB_DELETED,
        "eventTime": "2026-03-04T05:06:07Z",
        "data": {},
        "dataVersion": "",
        "metadataVersion": "1",
    }
    request = notification(EventSchema.EVENT_GRID, event, deliveries=0)
    headers = dict(request.headers) | ({"traceparent": traceparent} if traceparent else {})
    assert await scene.cloud.post("on_blob_event", request.body, headers) == 202


async def test_an_upload_is_one_trace_of_three_processes_from_its_event_to_the_probes(scene: Scene) -> None:
    record = await scene.cloud.goes_live("traced.pfx", authority().issue("traced.test"), live=AGENTS)
    spans = await scene.trace(record)
    by_process: dict[object, set[str]] = {}
    for span in spans.values():
        name = span.resource["service.name"]
        who = span.resource["service.instance.id"] if name == "certcast-agent" else name
        by_process.setdefault(who, set()).add(span.name)
    wanted = {name.value for name in BY_FUNCTION}
    assert wanted <= by_process.pop("certcast-function")
    assert by_process.keys() == {"agent-0", "agent-1"}
    assert all({name.value for name in BY_AGENT} <= names for names in by_process.values())
    assert {span.scope for span in spans.values()} == {"certcast"}


async def test_each_span_hangs_on_the_work_that_led_to_it(scene: Scene) -> None:
    spans = await scene.trace(await scene.cloud.record("traced.pfx"))
    for span in spans.values():
        if span.name == Stage.NOTICE.value:
            continue
        assert span.parent in spans, f"{span.name} hangs on nothing that came"
        above = Stage(spans[span.parent].name)
        assert above in PARENTS[Stage(span.name)], f"{span.name} below {above}"
    assert len([span for span in spans.values() if span.name == Stage.NOTICE.value]) == 1
    # Report and fold are of the same instance.
    for span in spans.values():
        if span.name == Stage.FOLD.value:
            assert span.attributes["certcast.instance"] == spans[span.parent].attributes["certcast.instance"]


async def test_spans_say_what_they_are_about_and_nothing_that_is_secret(scene: Scene) -> None:
    spans = await scene.trace(await scene.cloud.record("traced.pfx"))
    [look] = [span for span in spans.values() if span.name == Stage.LOOK.value]
    assert look.attributes["certcast.upload"] == "traced.pfx"
    assert (look.attributes["certcast.status"], look.attributes["certcast.verdict"]) == ("accepted", "") or (
        look.attributes["certcast.status"] == "live"
    )
    installs = [span for span in spans.values() if span.name == Stage.INSTALL.value]
    assert {span.attributes["certcast.instance"] for span in installs} == {"agent-0", "agent-1"}
    for span in installs:
        about = {key: span.attributes[key] for key in ("certcast.host", "certcast.generation", "certcast.outcome")}
        generation = await scene.generation("traced.test")
        assert about == {"certcast.host": "traced.test", "certcast.generation": generation, "certcast.outcome": "live"}
        assert span.attributes["server.port"] == 443
        assert not span.failed
    lived = [span.attributes.get("certcast.seconds_to_live") for span in spans.values()]
    assert [seconds for seconds in lived if isinstance(seconds, float)]
    told = repr(scene.collector.spans)
    assert PASSWORD not in told
    assert "PRIVATE KEY" not in told
    assert scene.collector.headers["x-tenant"] == "blue"
    assert scene.collector.paths == {"/v1/traces"}


async def test_the_hosts_invocation_is_gone_on_with(scene: Scene) -> None:
    above = f"00-{'a' * 31}1-{'b' * 15}2-00"
    await event_about("gone.pfx", scene, traceparent=above)

    async def noticed() -> list[Taken]:
        return scene.collector.named(Stage.NOTICE.value, upload="gone.pfx")

    [notice] = await eventually(noticed, "the span of an event")
    assert (notice.trace, notice.parent, notice.kind) == ("a" * 31 + "1", "b" * 15 + "2", "CONSUMER")


async def test_a_rejection_says_its_codes(scene: Scene) -> None:
    content = authority().issue("bad.test").pfx(PASSWORD)
    await scene.cloud.upload("rejected.pfx", content, HostHeader="elsewhere.test")
    await scene.cloud.becomes("rejected.pfx", "rejected")

    async def judged() -> list[Taken]:
        return scene.collector.named(Stage.LOOK.value, upload="rejected.pfx", status="rejected")

    [look] = await eventually(judged, "the span of a look")
    assert look.attributes["certcast.verdict"] == "host_not_covered"


async def test_traces_that_meet_in_a_batch_are_linked_and_each_has_its_install(scene: Scene) -> None:
    names = [f"burst-{number}.pfx" for number in range(6)]
    issued = {name: authority().issue(name.replace(".pfx", ".test")).pfx(PASSWORD) for name in names}
    await asyncio.gather(*(scene.cloud.upload(name, content) for name, content in issued.items()))
    records = [await scene.cloud.becomes(name, "live", live=AGENTS) for name in names]
    assert len({trace_of(record.traceparent) for record in records}) == len(names)

    async def all_installed() -> bool:
        acts = {span.id for span in scene.collector.named(Stage.ACT.value)}
        found = {
            (span.trace, span.attributes["certcast.instance"])
            for name in names
            for span in scene.collector.named(Stage.INSTALL.value, upload=name, outcome="live")
            if not acts.isdisjoint((span.parent, *span.links))
        }
        return {(trace_of(r.traceparent), f"agent-{n}") for r in records for n in range(AGENTS)} <= found

    await eventually(all_installed, "installs in each upload's trace, below the batch that made them or linked to it")


async def test_log_lines_are_json_with_fixed_fields_that_name_upload_host_instance_and_trace(scene: Scene) -> None:
    record = await scene.cloud.record("traced.pfx")
    trace = trace_of(record.traceparent)
    accepted = [line for line in scene.lines("functions") if "traced.pfx: accepted for" in str(line["message"])]
    assert [(line["upload"], line["trace_id"], line["level"]) for line in accepted] == [("traced.pfx", trace, "INFO")]
    assert re.fullmatch(r"[0-9a-f]{16}", str(accepted[0]["span_id"]))
    for number in range(AGENTS):
        lines = scene.lines(f"agent-{number}")
        assert all(tuple(line) == FIELDS for line in lines)
        assert {line["instance"] for line in lines} == {f"agent-{number}"}
        [installed] = [line for line in lines if line["host"] == "traced.test"]
        about = (installed["upload"], installed["generation"], installed["trace_id"])
        assert about == ("traced.pfx", await scene.generation("traced.test"), trace)
    assert all(tuple(line) == FIELDS for line in scene.lines("functions"))


async def test_a_collector_that_is_away_holds_nothing_up_and_is_spoken_of_once(scene: Scene) -> None:
    await scene.collector.stop()
    began = time.monotonic()
    for number in range(4):
        name = f"away-{number}"
        await scene.cloud.goes_live(f"{name}.pfx", authority().issue(f"{name}.test"), live=AGENTS)
    took_s = time.monotonic() - began

    async def said() -> bool:
        # What a thread says is told by the next span.
        await event_about("gone.pfx", scene)
        return any("spans may be lost" in line for who, line in scene.cloud.lines if who == "functions")

    await eventually(said, "a line about the collector")
    await asyncio.sleep(3)
    await said()
    for who in ("functions", "agent-0", "agent-1"):
        lines = [line for part, line in scene.cloud.lines if part == who and "spans may be lost" in line]
        assert len(lines) <= 1, lines
    assert not [line for _, line in scene.cloud.lines if "Failed to export" in line and "spans may be lost" not in line]
    assert took_s < 30
    began = time.monotonic()
    await scene.cloud.platform.agents[0].stop()
    assert time.monotonic() - began < 10
    await scene.cloud.platform.agents[0].start()
    await scene.collector.start()
