"""The Functions host as a child process: our own, or `func start` of Core Tools where that is asked for."""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from local_azure.functions_host.host import READY
from local_azure.processes.child import start_child
from local_azure.processes.component import becoming_ready
from local_azure.processes.listening import LOOPBACK, free_port
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local_azure.processes.child import ChildProcess, OnLine

_LISTENING = re.compile(rf"^{re.escape(READY)}[^:]+:(\d+)$")
_READY_S = 90.0
_LOOK_EVERY_S = 0.2
_GRACE_S = 20.0
_NAME = "functions"


async def start_own_host(
    root: Path, *, port: int, keys_file: Path, environment: Mapping[str, str], on_line: OnLine
) -> tuple[ChildProcess, int]:
    """Start `local_azure.functions_host`; returns it and its port once its functions can be called.

    Raises:
        ConfigurationError: A setting is wrong, or the port is taken.
        ChildEndedError: It did not come up.
    """
    command = [sys.executable, "-m", "local_azure.functions_host", "--root", str(root), "--port", str(port)]
    command += ["--keys", str(keys_file)]
    process = await start_child(_NAME, command, environment=environment, folder=root, on_line=on_line, grace_s=_GRACE_S)
    async with becoming_ready(process):
        found = await process.line_matching(_LISTENING, timeout_s=_READY_S)
    return process, int(found[1])


async def start_core_tools(
    root: Path, *, port: int, environment: Mapping[str, str], on_line: OnLine
) -> tuple[ChildProcess, int]:
    """Start `func start`; returns it and its port once it answers. It asks for no keys.

    Raises:
        ConfigurationError: Core Tools are not installed.
        ChildEndedError: It did not come up.
    """
    program = shutil.which("func")
    if program is None:
        raise ConfigurationError(
            "Azure Functions Core Tools (func) are not installed: npm install -g azure-functions-core-tools@4,"
            " or leave out --core-tools to use certcast's own host"
        )
    port = port or free_port()
    command = [program, "start", "--port", str(port)]
    environment = {**environment, "FUNCTIONS_WORKER_RUNTIME": "python"}
    process = await start_child(_NAME, command, environment=environment, folder=root, on_line=on_line, grace_s=_GRACE_S)
    url = f"http://{LOOPBACK}:{port}/admin/host/ping"
    async with becoming_ready(process), aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        await process.until(partial(_answers, session, url), timeout_s=_READY_S, every_s=_LOOK_EVERY_S)
    return process, port


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.ok
    except (aiohttp.ClientError, TimeoutError):
        return False
