"""Where spans go by `CERTCAST_TRACES`, in processes of their own: nowhere, to a collector, to Azure Monitor.

Azure Monitor's endpoint is a listener of the test here, which takes what the distribution sends; the real one was not
asked.
"""

import asyncio
import contextlib
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from local_azure.processes.listening import LOOPBACK, free_port
from shared import VERSION
from tests.rigs.collector import collecting
from tests.rigs.deployment import ROOT
from tests.rigs.pages import section

WORK = """
import logging, os, sys, time
{before}
from shared.errors import CertcastError
from shared.phrasing import logger
from shared.telemetry.names import Stage
from shared.telemetry.spans import note, span
from shared.telemetry.tracing import begin

logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
logging.getLogger("azure").setLevel(logging.WARNING)
log = logger("work")
try:
    begin(os.environ, service="certcast-agent", instance="web-0")
except CertcastError as error:
    sys.exit(str(error))
print("opentelemetry" in sys.modules, flush=True)
for _ in range({times}):
    with span(Stage.LOOK, of="00-" + "a1" * 16 + "-" + "b2" * 8 + "-00", upload="a.pfx", generation=2):
        note({{"certcast.verdict": "expired"}})
        log.info("looked at")
        time.sleep({pause})
print("done", flush=True)
"""


def environment(**settings: str) -> dict[str, str]:
    """Little but these settings: what the developer's own environment says of OpenTelemetry must not matter."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


async def work(env: Mapping[str, str], *, before: str = "", times: int = 1, pause: float = 0.0) -> tuple[str, str, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", WORK.format(before=before, times=times, pause=pause)),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, told = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return out.decode(), told.decode(), process.returncode


# What stands for an installation without the extra `traces`.
WITHOUT = """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


async def test_without_the_setting_nothing_of_opentelemetry_is_even_imported() -> None:
    out, told, code = await work(environment(), before=WITHOUT)
    assert (out.split(), code) == (["False", "done"], 0)
    assert told == "INFO looked at\n"


@pytest.mark.parametrize("where", ["otlp", "azure-monitor"])
async def test_with_it_and_without_the_extra_a_sentence_says_what_to_install(where: str) -> None:
    connection = "InstrumentationKey=00000000-0000-0000-0000-000000000001"
    env = environment(CERTCAST_TRACES=where, APPLICATIONINSIGHTS_CONNECTION_STRING=connection)
    _, told, code = await work(env, before=WITHOUT)
    assert told == (
        f"CERTCAST_TRACES is {where}, but what sends spans is not installed: install the packages of certcast's extra "
        "`traces`, which infra/agent/requirements.lock and requirements.txt have, or leave CERTCAST_TRACES empty\n"
    )
    assert code == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"CERTCAST_TRACES": "jaeger"}, "CERTCAST_TRACES must be otlp or azure-monitor, not 'jaeger'"),
        ({"CERTCAST_TRACES": "azure-monitor"}, "APPLICATIONINSIGHTS_CONNECTION_STRING is not set"),
        (
            {"CERTCAST_TRACES": "azure-monitor", "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=hunter2"},
            "CERTCAST_TRACES is azure-monitor: a setting of it is wrong",
        ),
        ({"CERTCAST_LOG_FORMAT": "xml"}, "CERTCAST_LOG_FORMAT must be text or json, not 'xml'"),
    ],
)
async def test_a_wrong_setting_is_a_sentence(settings: dict[str, str], said: str) -> None:
    _, told, code = await work(environment(**settings))
    assert said in told
    assert (code, len(told.splitlines())) == (1, 1)
    assert "hunter2" not in told


async def test_spans_of_a_process_that_ends_at_once_reach_the_collector() -> None:
    async with collecting() as collector:
        out, told, _ = await work(
            environment(CERTCAST_TRACES="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url), times=3
        )
    assert out.split() == ["True", "done"]
    assert told == "INFO looked at\n" * 3
    assert len(collector.spans) == 3
    [look, *_] = collector.spans
    assert (look.trace, look.parent) == ("a1" * 16, "b2" * 8)
    assert look.attributes == {
        "certcast.upload": "a.pfx",
        "certcast.instance": "web-0",
        "certcast.generation": 2,
        "certcast.verdict": "expired",
    }
    about = {name: look.resource[name] for name in look.resource if name.startswith("service.")}
    assert about == {
        "service.version": VERSION,
        "service.name": "certcast-agent",
        "service.namespace": "certcast",
        "service.instance.id": "web-0",
    }


async def test_the_standards_own_settings_go_before_ours() -> None:
    async with collecting() as collector:
        env = environment(
            CERTCAST_TRACES="otlp",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/elsewhere",
            OTEL_SERVICE_NAME="shop-certificates",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.instance.id=named",
        )
        await work(env)
        await work(env | {"OTEL_TRACES_SAMPLER": "always_off"})
    assert collector.paths == {"/elsewhere"}
    [look] = collector.spans
    assert look.resource["service.name"] == "shop-certificates"
    assert look.resource["deployment.environment.name"] == "test"
    assert look.resource["service.instance.id"] == "named"


async def test_a_collector_that_is_away_makes_one_line_and_ends_the_process_within_seconds() -> None:
    address = f"http://{LOOPBACK}:{free_port()}/secret-token"
    env = environment(CERTCAST_TRACES="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY="50")
    began = time.monotonic()
    out, told, code = await work(env, times=40, pause=0.1)
    took_s = time.monotonic() - began
    assert (out.split(), code) == (["True", "done"], 0)
    lost = [line for line in told.splitlines() if line != "INFO looked at"]
    assert len(lost) == 1
    assert lost[0].startswith("WARNING traces: spans may be lost, and nothing else is: ")
    assert "secret-token" not in told
    assert took_s < 4 + 2 + 6, "the work, the wait for the last spans, and the start of a process"


@contextlib.asynccontextmanager
async def ingestion() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """What stands for Azure Monitor's ingestion endpoint: answers as its track API does, and keeps what came."""
    items: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        came = json.loads(text)
        items.extend(came)
        return web.json_response({"itemsReceived": len(came), "itemsAccepted": len(came), "errors": []})

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield f"http://{LOOPBACK}:{port}/", items
    finally:
        await runner.cleanup()


async def test_azure_monitors_distribution_sends_spans_and_an_agents_lines_with_our_names_as_properties() -> None:
    async with ingestion() as (url, items):
        connection = f"InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={url}"
        out, told, code = await work(
            environment(CERTCAST_TRACES="azure-monitor", APPLICATIONINSIGHTS_CONNECTION_STRING=connection)
        )
    assert (out.split(), code) == (["True", "done"], 0), told
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        by_kind.setdefault(item["data"]["baseType"], []).append(item)
    [look] = by_kind["RemoteDependencyData"]
    assert look["data"]["baseData"]["name"] == "certcast.look"
    properties = look["data"]["baseData"]["properties"]
    assert (properties["certcast.upload"], properties["certcast.verdict"]) == ("a.pfx", "expired")
    assert look["tags"]["ai.operation.id"] == "a1" * 16
    assert look["tags"]["ai.operation.parentId"] == "b2" * 8
    assert look["tags"]["ai.cloud.role"] == "certcast.certcast-agent"
    assert look["tags"]["ai.cloud.roleInstance"] == "web-0"
    lines = [item for item in by_kind["MessageData"] if item["data"]["baseData"]["message"] == "looked at"]
    assert [line["data"]["baseData"]["properties"]["certcast.upload"] for line in lines] == ["a.pfx"]
    assert lines[0]["tags"]["ai.operation.id"] == "a1" * 16
    assert "MetricData" not in by_kind


async def test_azure_monitor_that_is_away_holds_up_the_end_for_seconds_at_most() -> None:
    url = f"http://{LOOPBACK}:{free_port()}/"
    connection = f"InstrumentationKey=00000000-0000-0000-0000-000000000002;IngestionEndpoint={url}"
    began = time.monotonic()
    out, told, code = await work(
        environment(CERTCAST_TRACES="azure-monitor", APPLICATIONINSIGHTS_CONNECTION_STRING=connection),
        times=20,
        pause=0.1,
    )
    assert (out.split(), code) == (["True", "done"], 0)
    assert time.monotonic() - began < 20
    assert len([line for line in told.splitlines() if line != "INFO looked at"]) <= 1, told


async def test_the_collector_that_the_page_shows_prints_a_line_for_each_span(tmp_path: Path) -> None:
    [shown] = re.findall(r"```python\n(.*?)```", section(Path("docs/observability/README.md"), "## Traces"), re.DOTALL)
    port = free_port()
    script = tmp_path / "collector.py"
    assert "port=4318" in shown
    script.write_text(shown.replace("port=4318", f"port={port}"))
    env = environment(PYTHONUNBUFFERED="1")
    running = await asyncio.create_subprocess_exec(sys.executable, script, env=env, stdout=subprocess.PIPE)
    assert running.stdout is not None
    try:
        assert b"Running on" in await asyncio.wait_for(running.stdout.readline(), 30)
        await running.stdout.readline()  # how to stop it
        await work(environment(CERTCAST_TRACES="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{LOOPBACK}:{port}"))
        line = (await asyncio.wait_for(running.stdout.readline(), 30)).decode()
    finally:
        running.terminate()
        await running.wait()
    assert re.fullmatch(rf"{'a1' * 16} [0-9a-f]{{16}} {'b2' * 8} certcast\.look [\d.]+ ms\n", line), line
