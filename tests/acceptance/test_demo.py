"""The demo as a person runs it, and an eavesdropper who reads along whatever can be read."""

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from operator_cli.demo.certificates import DEMO_PASSWORD, WRONG_PASSWORD
from operator_cli.demo.command import command
from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.eavesdropper import Eavesdropper, forms_of_bytes, forms_of_key, forms_of_text
from tests.rigs.programs import needs

STEPS = [
    *("upload", "renewal", "metadata_edit", "wrong_password", "host_not_covered", "late_metadata"),
    *("instance_joins", "instance_leaves", "removal"),
]
AGENTS = 3
FROM_THE_START = [f"agent-{number}" for number in range(AGENTS)]
NEWCOMER = f"agent-{AGENTS}"
INSTANCES = {
    **dict.fromkeys(STEPS, FROM_THE_START),
    "instance_joins": [*FROM_THE_START, NEWCOMER],
    "instance_leaves": [*FROM_THE_START[1:], NEWCOMER],
    "removal": [*FROM_THE_START[1:], NEWCOMER],
}
LIMIT_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRun(Ran):
    state: Path
    overheard: Eavesdropper

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


@pytest.mark.parametrize(
    ("name", "noticed"),
    [
        ("upload", "event"),
        ("renewal", "event"),
        ("metadata_edit", "sweep"),
        ("late_metadata", "noticed"),
        ("instance_joins", "event"),
        ("instance_leaves", "event"),
    ],
)
def test_the_way_of_an_accepted_upload_is_told_with_every_instance(demo: DemoRun, name: str, noticed: str) -> None:
    timeline = demo.step(name)["timeline"]
    stages = ("uploaded", "metadata", noticed, "accepted", "queued", "installed", "proved", "live")
    at = {stage: [moment["ms"] for moment in timeline if moment["stage"] == stage] for stage in stages}
    assert len(at["uploaded"] + at["metadata"]) == (2 if name == "late_metadata" else 1)
    assert [len(at[stage]) for stage in (noticed, "accepted", "queued", "live")] == [1] * 4
    installed = [moment["instance"] for moment in timeline if moment["stage"] == "installed"]
    assert installed == [moment["instance"] for moment in timeline if moment["stage"] == "proved"] == INSTANCES[name]
    # A sweep that comes upon an upload in hand judges it once more, and enters when.
    assert at[noticed] <= at["accepted"] <= at["live"]
    assert at["queued"] <= [min(at["installed"])] <= [min(at["proved"])]
    assert [max(at["proved"])] <= at["live"]


@pytest.mark.parametrize("name", ["upload", "renewal", "late_metadata", "instance_joins", "instance_leaves", "removal"])
def test_handshakes_with_every_instance_are_the_evidence(demo: DemoRun, name: str) -> None:
    shown = ("a TLS handshake shows the new certificate", "a TLS handshake shows the fallback again")
    handshakes = [each for each in demo.step(name)["observations"] if each["what"] in shown]
    assert sorted(each["instance"] for each in handshakes) == INSTANCES[name]


def test_an_edit_of_which_no_event_tells_is_found_by_the_sweep(demo: DemoRun) -> None:
    step = demo.step("metadata_edit")
    seen = {what: [each["instance"] for each in step["observations"] if each["what"] == what] for what in whats(step)}
    assert seen["the sweep says that it found something"] == [None]
    assert seen["Event Grid was given no event meanwhile"] == [None]
    for host, shown in (("added", "it"), ("dropped", "the fallback")):
        assert sorted(seen[f"a TLS handshake shows {shown} for the {host} host"]) == FROM_THE_START
    assert sorted(seen["the host that stayed is served as before"]) == FROM_THE_START
    assert "event" not in {moment["stage"] for moment in step["timeline"]}


def test_an_instance_that_joins_serves_what_is_live_and_is_counted(demo: DemoRun) -> None:
    step = demo.step("instance_joins")
    by_it = [each["what"] for each in step["observations"] if each["what"].startswith("a TLS handshake with the new")]
    assert [what.rpartition(" ")[2].partition(".")[0] for what in by_it] == ["shop", "basket", "late", "host"]
    assert f"the blob's tags say live {AGENTS + 1}/{AGENTS + 1}" in whats(step)
    assert {f"by now, {name}'s tags say live {AGENTS + 1}/{AGENTS + 1}" for name in ("shop.pfx", "late.pfx")} <= whats(
        step
    )
    [joined] = [moment for moment in step["timeline"] if moment["stage"] == "joined"]
    assert joined["instance"] == NEWCOMER


def test_an_instance_that_was_stopped_is_not_waited_for(demo: DemoRun) -> None:
    step = demo.step("instance_leaves")
    assert {
        "nothing answers any more where it listened",
        "`certcast status` says of agent-0: stopped",
        f"the blob's tags say live {AGENTS}/{AGENTS}",
    } <= whats(step)


def whats(step: dict[str, Any]) -> set[str]:
    return {observation["what"] for observation in step["observations"]}


@needs("nginx", "haproxy", "caddy")
async def test_every_step_is_seen_with_real_web_servers() -> None:
    ran = await certcast("demo", "--json", "--target", "nginx,haproxy", "--target", "caddy", env=clean_environment())
    assert ran.code == 0, ran.err
    assert [step["step"] for step in ran.document["steps"]] == [*STEPS[:-1], "handmade_change", STEPS[-1]]
    assert ran.document["targets"] == ["nginx", "haproxy", "caddy"]


def test_a_demo_in_which_something_is_not_seen_fails_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operator_cli.demo.command.SWEEP_SCHEDULE", "0 0 0 29 2 *")
    monkeypatch.setattr("operator_cli.demo.watch.PATIENCE_S", 20.0)
    ran = CliRunner().invoke(command, ["--json", "--agents", "1"], standalone_mode=False)
    assert ran.return_value == 1, ran.output
    document = json.loads(ran.stdout)
    assert document["ok"] is False
    assert [step["ok"] for step in document["steps"]] == [True, True, False]
    assert (
        "HostHeader is edited afterwards, of which no event tells: the sweep says that it found something "
        "(instead: no sweep found anything)"
    ) in document["not_seen"]
    assert "certcast: not seen: HostHeader is edited afterwards" in ran.stderr


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
