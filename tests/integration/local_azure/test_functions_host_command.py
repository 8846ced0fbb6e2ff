import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from local_azure.functions_host.host import READY
from local_azure.functions_host.keys import keys_in
from local_azure.processes.child import ChildEndedError, ChildProcess, start_child

APP = """
import os

import azure.functions as func

import beside

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("where")
def where(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(f"{os.getcwd()} {beside.WORD} {os.environ.get('A')} {os.environ.get('B')}")
"""
SLOW_APP = """
import asyncio

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
counted = []


@app.route("count")
async def count(req: func.HttpRequest) -> func.HttpResponse:
    counted.append(1)
    return func.HttpResponse(str(len(counted)))


@app.route("slow")
async def slow(req: func.HttpRequest) -> func.HttpResponse:
    try:
        await asyncio.sleep(60)
    finally:
        print("cancelled", flush=True)
"""
LISTENING = re.compile(rf"^{READY}(\S+)$")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "function_app.py").write_text(APP, encoding="utf-8")
    (tmp_path / "beside.py").write_text("WORD = 'beside'\n", encoding="utf-8")
    (tmp_path / "host.json").write_text('{"version": "2.0"}', encoding="utf-8")
    return tmp_path


@asynccontextmanager
async def command(root: Path, *arguments: str, **environment: str) -> AsyncIterator[ChildProcess]:
    line = [sys.executable, "-W", "error", "-m", "local_azure.functions_host", "--root", str(root), *arguments]
    child = await start_child("functions", line, environment={"PYTHONDONTWRITEBYTECODE": "1", **environment})
    try:
        yield child
    finally:
        await child.stop()


async def test_the_app_runs_in_its_folder_with_the_local_settings_beneath_the_environment(root: Path) -> None:
    values = {"IsEncrypted": False, "Values": {"A": "file", "B": "file"}}
    (root / "local.settings.json").write_text(json.dumps(values), encoding="utf-8")
    async with command(root, "--port", "0", A="environment") as child:
        ready = await child.line_matching(LISTENING, timeout_s=30)
        async with aiohttp.ClientSession() as session, session.get(f"http://{ready[1]}/api/where") as answer:
            assert await answer.text() == f"{root} beside environment file"
        assert await child.stop() == 0
        assert child.last_lines[-1].startswith("INFO certcast.host: where succeeded in")
    keys_file = root / ".certcast" / "functions-keys.json"
    assert keys_file.stat().st_mode & 0o777 == 0o600
    assert keys_file.parent.stat().st_mode & 0o777 == 0o700
    master = keys_in(keys_file).master
    assert not any(master in line for line in child.last_lines)


async def test_keys_may_be_kept_elsewhere(root: Path) -> None:
    kept = keys_in(root / "elsewhere.json")
    async with command(root, "--port", "0", "--keys", str(root / "elsewhere.json")) as child:
        ready = await child.line_matching(LISTENING, timeout_s=30)
        url = f"http://{ready[1]}/admin/functions/there-is-none"
        async with aiohttp.ClientSession() as session:
            statuses = []
            for key in (kept.master, kept.function):
                async with session.post(url, headers={"x-functions-key": key}) as answer:
                    statuses.append(answer.status)
    assert statuses == [404, 401], "its own key is known, and goes no further than it may"


async def test_what_is_wrong_with_the_app_is_one_line_and_exit_code_2(root: Path) -> None:
    (root / "beside.py").write_text("WORD = missing_name\n", encoding="utf-8")
    async with command(root, "--port", "0") as child:
        assert await child.wait() == 2
    (line,) = child.last_lines
    assert line.startswith("functions host: ")
    assert "NameError: name 'missing_name' is not defined" in line
    assert line.endswith("beside.py, line 1)")


async def test_a_taken_port_is_one_line_and_exit_code_2(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with command(root, "--port", str(port)) as child:
            with pytest.raises(ChildEndedError):
                await child.line_matching(LISTENING, timeout_s=30)
    assert child.returncode == 2
    (line,) = child.last_lines
    assert line.startswith(f"functions host: port {port} for the Functions host is taken by another program")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no process")
async def test_a_function_that_runs_too_long_takes_all_under_way_along_and_the_host_starts_again(root: Path) -> None:
    (root / "function_app.py").write_text(SLOW_APP, encoding="utf-8")
    (root / "host.json").write_text('{"version": "2.0", "functionTimeout": "00:00:02"}', encoding="utf-8")
    async with command(root, "--port", "0") as child:
        address = (await child.line_matching(LISTENING, timeout_s=30))[1]
        async with aiohttp.ClientSession() as session:

            async def asked(name: str) -> tuple[int, str]:
                async with session.get(f"http://{address}/api/{name}") as answer:
                    return answer.status, await answer.text()

            assert await asked("count") == (200, "1")
            assert await asked("count") == (200, "2")
            assert set(await asyncio.gather(asked("slow"), asked("slow"))) == {(500, "")}
            await child.line_matching(re.compile("slow ran longer than 2 s.* it starts again"), timeout_s=10)
            async with asyncio.timeout(30):
                while [LISTENING.match(line) is not None for line in child.last_lines].count(True) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert await asked("count") == (200, "1"), "nothing is left of the process before"
        assert not any("cancelled" in line for line in child.last_lines)
        assert await child.stop() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
async def test_ctrl_c_ends_it_without_noise(root: Path) -> None:
    async with command(root, "--port", "0") as child:
        await child.line_matching(LISTENING, timeout_s=30)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
        assert await child.wait() == 0
        assert len(child.last_lines) == 1
