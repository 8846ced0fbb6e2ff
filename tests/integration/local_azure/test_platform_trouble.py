import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, STANDARD_PORTS, PlatformSettings, Ports
from local_azure.processes.listening import OFFSET_STEP, ensure_free, free_port, port_offsets
from shared.errors import ConfigurationError
from tests.rigs.processes import alive, eventually, linux_only
from tests.rigs.programs import needs

SCRIPT = """
import asyncio
from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings

async def main():
    async with LocalPlatform(PlatformSettings(agents=1, ports=FREE_PORTS)) as cloud:
        parts = [cloud.azurite, cloud.functions, *cloud.agents]
        print(cloud.state, cloud.relay.port, *(part.pid for part in parts), flush=True)
        await cloud.failure()

try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""


@linux_only
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_platforms_process_dies_the_whole_tree_is_gone(with_signal: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        state, _port, *pids = process.stdout.readline().decode().split()
        assert len(pids) == 3
        assert all(alive(int(pid)) for pid in pids)
        process.send_signal(with_signal)
        # Longer than the longest grace: a function in hand may be waiting for the storage that ended with it.
        assert eventually(lambda: not any(alive(int(pid)) for pid in pids), timeout_s=30)
    for file in sorted(Path(state).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    Path(state).rmdir()


@linux_only
def test_ctrl_c_ends_everything_in_order_and_without_noise() -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        state, port, *pids = process.stdout.readline().decode().split()
        process.send_signal(signal.SIGINT)
        out, noise = process.communicate(timeout=60)
        assert (out, noise, process.returncode) == (b"", b"", 0)
    assert not any(alive(int(pid)) for pid in pids)
    assert not Path(state).exists()
    ensure_free(int(port), "the next one")


async def failure_of(settings: PlatformSettings) -> str:
    with pytest.raises(ConfigurationError) as error:
        async with LocalPlatform(settings):
            pass
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("part", "purpose"),
    [
        ("blob", "the blob service"),
        ("queue", "the queue service"),
        ("table", "the table service"),
        ("functions", "the Functions host"),
    ],
)
async def test_a_taken_port_is_named_before_anything_is_started(part: str, purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = replace(FREE_PORTS, **{part: port})
        said = await failure_of(PlatformSettings(agents=1, ports=ports))
    assert said.startswith(f"port {port} for {purpose} is taken by another program")


async def test_a_taken_port_of_an_agent_is_named_too() -> None:
    port = free_port(OFFSET_STEP + 1) + OFFSET_STEP
    with socket.create_server(("127.0.0.1", port)):
        ports = replace(FREE_PORTS, agent_offset=port - 443 - OFFSET_STEP)
        said = await failure_of(PlatformSettings(agents=2, ports=ports))
    assert said.startswith(f"port {port} for agent-1, which serves PortNumber 443 there, is taken")


@pytest.mark.parametrize(
    ("ports", "reason"),
    [
        (replace(FREE_PORTS, blob=70_000), "70000 is no port for the blob service"),
        (replace(FREE_PORTS, queue=-1), "-1 is no port for the queue service"),
        (replace(FREE_PORTS, queue=10_001, table=10_001), "need a port each"),
        (replace(FREE_PORTS, agent_offset=64_950), "offset must be from 0 to 65000"),
    ],
)
async def test_a_port_that_makes_no_sense_is_one_line(ports: Ports, reason: str) -> None:
    assert reason in await failure_of(PlatformSettings(agents=1, ports=ports))


async def test_what_an_agent_says_about_a_wrong_setting_is_reported(tmp_path: Path) -> None:
    settings = PlatformSettings(
        agents=1, ports=FREE_PORTS, state=tmp_path, agent_environment={"CERTCAST_TARGET": "abacus"}
    )
    assert "CERTCAST_TARGET must be one of" in await failure_of(settings)


async def test_what_the_functions_host_says_about_a_wrong_setting_is_reported(tmp_path: Path) -> None:
    assert "host.json cannot be read" in await failure_of(PlatformSettings(agents=0, ports=FREE_PORTS, root=tmp_path))


async def test_missing_core_tools_are_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_azure.functions_process.shutil.which", lambda _program: None)
    said = await failure_of(PlatformSettings(agents=0, ports=FREE_PORTS, host="func"))
    assert said.startswith("Azure Functions Core Tools (func) are not installed: npm install -g")


@pytest.mark.parametrize(
    ("target", "package"),
    [
        ("nginx", "apt-get install nginx libnginx-mod-http-lua"),
        ("haproxy", "apt-get install haproxy"),
        ("caddy", "apt-get install caddy"),
    ],
)
async def test_a_missing_web_server_is_one_line_with_the_cure_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str, package: str
) -> None:
    monkeypatch.setattr("local_azure.servers.base.shutil.which", lambda *_, **__: None)
    settings = PlatformSettings(agents=2, targets=("embedded", target), ports=FREE_PORTS, state=tmp_path / "state")
    assert package in await failure_of(settings)
    assert not (tmp_path / "state").exists()


async def test_a_target_that_the_local_cloud_does_not_have_is_refused() -> None:
    said = await failure_of(PlatformSettings(targets=("embedded", "abacus"), ports=FREE_PORTS))
    assert said == "there is no target 'abacus': choose embedded, nginx, haproxy, caddy"


@pytest.mark.parametrize(("target", "name"), [("haproxy", "with space"), ("nginx", "it's"), ("haproxy", "größe")])
@needs("nginx", "haproxy")
async def test_a_data_folder_that_a_server_cannot_be_given_is_refused(tmp_path: Path, target: str, name: str) -> None:
    settings = PlatformSettings(targets=(target,), ports=FREE_PORTS, state=tmp_path / name)
    assert await failure_of(settings) == (
        f"{target} cannot be configured with files in {tmp_path / name}, because of characters in that path: "
        "choose another data folder"
    )


def test_the_standard_ports_are_those_of_the_emulator_and_of_core_tools() -> None:
    ports = STANDARD_PORTS
    assert (ports.blob, ports.queue, ports.table, ports.functions, ports.agent_offset) == (
        10000,
        10001,
        10002,
        7071,
        8000,
    )


def test_offsets_that_are_reserved_are_given_to_one_alone() -> None:
    with ExitStack() as stack:
        reserved = [stack.enter_context(port_offsets(3)) for _ in range(10)]
        assert len({offset for offsets in reserved for offset in offsets}) == 30
        for offsets in reserved:
            ensure_free(offsets[0] + 443, "a listener")
            with pytest.raises(ConfigurationError):
                ensure_free(offsets[0], "another")
    for offsets in reserved:
        ensure_free(offsets[0], "another")


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass
