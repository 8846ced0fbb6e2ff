"""The Functions host as a child process: our own, or `func start` of Core Tools where that is asked for."""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import aiohttp

from local_azure.functions_host.eventgrid import WEBHOOK_PATH
from local_azure.functions_host.host import READY
from local_azure.functions_host.keys import keys_in
from local_azure.processes.child import start_child
from local_azure.processes.component import becoming_ready
from local_azure.processes.listening import LOOPBACK, free_port
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local_azure.platform_settings import PlatformSettings
    from local_azure.processes.child import ChildProcess, OnLine

_LISTENING = re.compile(rf"^{re.escape(READY)}[^:]+:(\d+)$")
_READY_S = 90.0


class FunctionsProcess:
    """Where the host is reached, and how it is started.

    Args:
        settings: Of the local cloud.
        keys_file: Where its keys are kept; Core Tools ask for none.

    Attributes:
        keys: These keys.
    """

    def __init__(self, settings: PlatformSettings, keys_file: Path) -> None:
        self.keys = keys_in(keys_file)
        self._core_tools = settings.host == "func"
        self._root = settings.root
        self._keys_file = keys_file
        self._port = settings.ports.functions

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self._port}"

    def webhook(self, function: str) -> str:
        """Where Event Grid delivers a function's events; the key is in it."""
        query = urlencode({"functionName": function, "code": self.keys.eventgrid_extension})
        return f"{self.url}{WEBHOOK_PATH}?{query}"

    async def begin(self, environment: Mapping[str, str], on_line: OnLine) -> ChildProcess:
        """Start it and wait until its functions can be called; a free port is kept from then on.

        Raises:
            ConfigurationError: A setting is wrong, the port is taken, or Core Tools are not installed.
            ChildEndedError: It did not come up.
        """
        if self._core_tools:
            self._port = self._port or free_port()
            command = [_core_tools(), "start", "--port", str(self._port)]
            environment = {**environment, "FUNCTIONS_WORKER_RUNTIME": "python"}
        else:
            command = [sys.executable, "-m", "local_azure.functions_host", "--root", str(self._root)]
            command += ["--port", str(self._port), "--keys", str(self._keys_file)]
        process = await start_child(
            "functions", command, environment=environment, folder=self._root, on_line=on_line, grace_s=20.0
        )
        async with becoming_ready(process):
            if self._core_tools:
                await process.until(partial(_answers, f"{self.url}/admin/host/ping"), timeout_s=_READY_S, every_s=0.2)
            else:
                self._port = int((await process.line_matching(_LISTENING, timeout_s=_READY_S))[1])
        return process


def _core_tools() -> str:
    program = shutil.which("func")
    if program is None:
        raise ConfigurationError(
            "Azure Functions Core Tools (func) are not installed: npm install -g azure-functions-core-tools@4,"
            " or leave out --core-tools to use certcast's own host"
        )
    return program


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session, session.get(url) as answer:
            return answer.ok
    except (aiohttp.ClientError, TimeoutError):
        return False
