"""The demo as a person runs it; and, while it runs, somebody who reads along whatever can be read."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from operator_cli.demo_certificates import DEMO_PASSWORD, WRONG_PASSWORD
from tests.command_line import clean_environment
from tests.eavesdropper import Eavesdropper, forms_of_bytes, forms_of_key, forms_of_text

STEPS = ["upload", "renewal", "wrong_password", "host_not_covered", "late_metadata", "removal"]
AGENTS = 3
LIMIT_S = 150


@dataclass(frozen=True)
class DemoRun:
    code: int
    out: str
    err: str
    state: Path
    overheard: Eavesdropper

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    def step(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(step for step in self.document["steps"] if step["step"] == name)
        return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    return asyncio.run(run_demo(tmp_path_factory.mktemp("demo")))


async def run_demo(state: Path) -> DemoRun:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "demo", "--json", "--agents", str(AGENTS), "--state", state),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            said = ""
            connection_string = None
            while connection_string is None:
                line = (await process.stderr.readline()).decode()
                assert line, f"the demo ended before it was up: {said}"
                said += line
                connection_string = re.search(r'CERTCAST_STORAGE="([^"]+)"', line)
            overheard = Eavesdropper(connection_string[1])
            async with overheard.listening():
                out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    overheard.hear_folder(state / "logs")
    overheard.hear("output", out)
    overheard.hear("output", said.encode() + err)
    return DemoRun(code=code, out=out.decode(), err=said + err.decode(), state=state, overheard=overheard)


def test_every_step_was_seen_from_outside(demo: DemoRun) -> None:
    assert demo.code == 0, demo.err
    assert demo.document["ok"] is True
    assert demo.document["not_seen"] == []
    assert [step["step"] for step in demo.document["steps"]] == STEPS
    for step in demo.document["steps"]:
        assert step["ok"] is True
        assert all(observation["seen"] for observation in step["observations"])


@pytest.mark.parametrize("name", ["upload", "renewal", "late_metadata"])
def test_the_way_of_an_accepted_upload_is_told_with_every_instance(demo: DemoRun, name: str) -> None:
    timeline = demo.step(name)["timeline"]
    at = {
        stage: [moment["ms"] for moment in timeline if moment["stage"] == stage]
        for stage in ("uploaded", "event", "accepted", "queued", "installed", "proved", "live")
    }
    assert [len(at[stage]) for stage in ("uploaded", "event", "accepted", "queued", "live")] == [1] * 5
    assert len(at["installed"]) == len(at["proved"]) == AGENTS
    assert at["event"] <= at["accepted"] <= at["queued"] <= [min(at["installed"])] <= [min(at["proved"])]
    assert [max(at["proved"])] <= at["live"]


@pytest.mark.parametrize("name", ["upload", "renewal", "late_metadata", "removal"])
def test_handshakes_with_every_agent_are_the_evidence(demo: DemoRun, name: str) -> None:
    handshakes = [each for each in demo.step(name)["observations"] if each["what"].startswith("a TLS handshake shows")]
    assert sorted(each["instance"] for each in handshakes) == [f"agent-{number}" for number in range(AGENTS)]


def test_metadata_that_comes_later_is_waited_for(demo: DemoRun) -> None:
    step = demo.step("late_metadata")
    [metadata] = [moment["ms"] for moment in step["timeline"] if moment["stage"] == "metadata"]
    [waiting] = [each["ms"] for each in step["observations"] if "waiting_for_metadata" in each["what"]]
    assert waiting < metadata
    assert metadata >= 3000


def test_the_eavesdropper_heard_something_everywhere(demo: DemoRun) -> None:
    heard = demo.overheard
    assert heard.places() >= {"bundle", "log", "output", "process", "queue", "table", "tags"}
    named = set(heard.heard.values())
    assert named >= {f"table {table}" for table in ("uploads", "bindings", "instances", "installations")}
    assert {"log azurite.log", "log events.log", "log functions.log", "log agent-0.log"} <= named
    assert any(where.startswith("queue cert-agent-") for where in named)
    assert any(b"instance_agent run" in text for text, where in heard.heard.items() if where == "process")
    assert len(heard.uploads) >= 5


def test_no_password_is_in_a_log_message_row_tag_or_process_argument(demo: DemoRun) -> None:
    secrets = chain(forms_of_text(DEMO_PASSWORD), forms_of_text(WRONG_PASSWORD))
    assert demo.overheard.found(secrets) == []


def test_no_private_key_is_in_a_log_message_row_tag_or_process_argument(demo: DemoRun) -> None:
    keys = demo.overheard.private_keys(DEMO_PASSWORD)
    assert keys
    sealing = (demo.state / "key-encryption.key").read_bytes()
    secrets = chain(forms_of_bytes(sealing), *(forms_of_key(key) for key in keys))
    assert demo.overheard.found(secrets) == []


def test_the_search_would_find_what_it_looks_for(demo: DemoRun) -> None:
    [key, *_] = demo.overheard.private_keys(DEMO_PASSWORD)
    for secret in chain(forms_of_text(DEMO_PASSWORD), forms_of_key(key)):
        listener = Eavesdropper("")
        listener.hear("log planted", b"before " + secret + b" after")
        assert listener.found(iter([secret])) == ["log planted"]
    assert all(len(secret) > 8 for secret in chain(forms_of_text(DEMO_PASSWORD), forms_of_key(key)))
