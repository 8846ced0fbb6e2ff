"""The local Functions host: loads a function app from a folder and drives its functions as the cloud's host would.

`python -m local_azure.functions_host --root FOLDER` runs it. Each trigger's rules are in a module of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import web
from azure.identity.aio import DefaultAzureCredential
from azure.storage.queue.aio import QueueServiceClient

from local_azure.functions_host.calls import Invoker
from local_azure.functions_host.eventgrid import WEBHOOK_PATH, EventGridWebhook
from local_azure.functions_host.http import Admin, HttpTriggers
from local_azure.functions_host.index import load_functions
from local_azure.functions_host.keys import keys_in
from local_azure.functions_host.queues import QueueListener
from local_azure.functions_host.routes import Route, decoded_path
from local_azure.functions_host.settings import connection, read_host_json, read_local_settings, resolve
from local_azure.functions_host.timers import TimerListener, parse_schedule
from local_azure.processes.listening import LOOPBACK, listen
from shared.errors import CertcastError, ConfigurationError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local_azure.functions_host.index import Function
    from local_azure.functions_host.keys import HostKeys
    from local_azure.functions_host.settings import Connection, HostSettings

log = logger("certcast.host")

READY = "Functions host is listening at http://"
"""Begins the line that is printed once functions can be called; address and port follow."""

# Polling is a retry by itself, and the SDK's own waits would hide for a minute that an emulator is up again.
_RETRIES: dict[str, Any] = {"retry_total": 2, "initial_backoff": 1, "increment_base": 1}
_LARGEST_REQUEST = 100 * 1024 * 1024
_SHUTDOWN_S = 5.0
_BAD_SETTING, _FAILED = 2, 1


class FunctionsHost:
    """A host of one app's functions.

    Attributes:
        over: Set when the host is to end.
        failure: Why it ends by itself; empty otherwise.
        overran: Whether it ends because a function ran too long, and is to start again.
    """

    def __init__(
        self,
        root: Path,
        functions: Sequence[Function],
        settings: HostSettings,
        environment: Mapping[str, str],
        keys: HostKeys,
    ) -> None:
        self.over = asyncio.Event()
        self.failure = ""
        self.overran = False
        self._environment = environment
        self._settings = settings
        self._functions = functions
        self._keys = keys
        self._invoker = Invoker(root, timeout_s=settings.function_timeout_s, on_overrun=self._overrun)
        self._stack = AsyncExitStack()
        self._services: dict[Connection, QueueServiceClient] = {}

    async def start(self, *, address: str, port: int) -> int:
        """Begin to listen, poll and wait; answers the port.

        Raises:
            ConfigurationError: A trigger refers to a setting that is missing or wrong, or the port is taken.
        """
        self._stack.callback(self._invoker.close)
        try:
            triggers = [await self._listener(function) for function in self._functions]
            port = await self._serve(address, port)
        except BaseException:
            await self.stop()
            raise
        for trigger in triggers:
            if trigger is not None:
                trigger.start()
                self._stack.push_async_callback(trigger.stop)
        return port

    async def stop(self) -> None:
        """Take no more work, let what runs come to its end, within reason, and let go of everything."""
        await self._stack.aclose()

    def _overrun(self) -> None:
        self.overran = True
        self.over.set()

    def _fail(self, reason: str) -> None:
        """End the host, as the cloud's does at what a trigger of its own does not handle."""
        if not self.failure:
            self.failure = f"{reason}; the Functions host stops, as Azure's does"
            log.error("%s", self.failure)
        self.over.set()

    async def _listener(self, function: Function) -> QueueListener | TimerListener | None:
        """What starts a function by itself; None for the functions that requests start."""
        purpose = f"function {function.name}"
        if function.kind == "queueTrigger":
            queue = resolve(str(function.trigger["queueName"]), self._environment, purpose)
            service = await self._service(connection(str(function.trigger["connection"]), self._environment, purpose))
            return QueueListener(function, queue, service, self._invoker, self._settings.queues, self._fail)
        if function.kind == "timerTrigger":
            expression = resolve(str(function.trigger["schedule"]), self._environment, purpose)
            return TimerListener(function, parse_schedule(expression, purpose), self._invoker)
        return None

    async def _service(self, to: Connection) -> QueueServiceClient:
        """The client for a connection; triggers with the same connection share one."""
        if to not in self._services:
            if to.connection_string is not None:
                client = QueueServiceClient.from_connection_string(to.connection_string, **_RETRIES)
            else:
                # Without a word about it the SDK reads AZURE_CLIENT_ID, and not where None is said.
                chosen = {"managed_identity_client_id": to.client_id} if to.client_id else {}
                identity = await self._stack.enter_async_context(DefaultAzureCredential(**chosen))
                client = QueueServiceClient(str(to.queue_url), credential=identity, **_RETRIES)
            self._services[to] = await self._stack.enter_async_context(client)
        return self._services[to]

    async def _serve(self, address: str, port: int) -> int:
        webhook = EventGridWebhook(self._of_kind("eventGridTrigger"), self._invoker, self._keys)
        routes = [(self._route(function), function) for function in self._of_kind("httpTrigger")]
        http = HttpTriggers(self._invoker, self._keys, routes)
        admin = Admin(self._functions, self._invoker, self._keys)
        of_webhook = Route(f"{WEBHOOK_PATH.removeprefix('/')}/{{*extra}}", "the Event Grid webhook")

        async def answer(request: web.Request) -> web.Response:
            ours = of_webhook.match(decoded_path(request.rel_url.raw_path)) is not None
            return await (webhook if ours else http).answer(request)

        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.router.add_post("/admin/functions/{name}", admin.run)
        app.router.add_route("*", r"/{path:[\s\S]*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        port = await listen(runner, address, port, "the Functions host")
        self._stack.push_async_callback(runner.cleanup)
        self._stack.push_async_callback(admin.stop)
        return port

    def _of_kind(self, kind: str) -> list[Function]:
        return [function for function in self._functions if function.kind == kind]

    def _route(self, function: Function) -> str:
        route = resolve(str(function.trigger["route"]), self._environment, f"function {function.name}")
        return f"{self._settings.route_prefix}/{route.strip('/')}".strip("/")


async def run(host: FunctionsHost, *, address: str, port: int, again: Sequence[str]) -> None:
    """Run a host until the process is asked to end, or it ends by itself.

    Args:
        host: The host.
        address: Where to listen.
        port: The port; 0 is a free one.
        again: What is put behind the command line where the process starts again.

    Raises:
        CertcastError: It ended by itself.
    """
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # Windows has the last one, and others lack it
        if number := getattr(signal, name, None):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(host.over.set))
    listening_port = await host.start(address=address, port=port)
    sys.stdout.write(f"{READY}{address}:{listening_port}\n")
    sys.stdout.flush()
    try:
        await host.over.wait()
    finally:
        await host.stop()
    if host.failure:
        raise CertcastError(host.failure)
    if host.overran:
        _start_again([*again, "--port", str(listening_port)])


def _start_again(arguments: Sequence[str]) -> NoReturn:
    """Put a new process in this one's place: what the app has under way is not cancelled, it is gone.

    Raises:
        CertcastError: On Windows, where a process cannot be replaced.
    """
    if os.name == "nt":
        raise CertcastError("a function ran too long, and the Functions host is to be started again by hand")
    logging.shutdown()
    sys.stdout.flush()
    os.execv(sys.executable, [*sys.orig_argv, *arguments])  # noqa: S606 - itself


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host; answers the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local_azure.functions_host", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="folder of function_app.py (the current one)")
    parser.add_argument("--address", default=LOOPBACK, help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=7071, help="port to listen on; 0 is a free one (7071)")
    parser.add_argument("--keys", type=Path, help="file the host's keys are kept in (.certcast/functions-keys.json)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)  # it logs every request
    try:
        root = options.root.resolve()
        settings = read_host_json(root)
        for name, value in read_local_settings(root).items():
            os.environ.setdefault(name, value)
        keys_file = options.keys or root / ".certcast" / "functions-keys.json"
        keys_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = keys_in(keys_file)
        # The app's folder is the current one from here on, and what stands on the command line may be relative.
        again = ["--root", str(root), "--keys", str(keys_file.resolve())]
        os.chdir(root)
        host = FunctionsHost(root, load_functions(root), settings, os.environ, keys)
        asyncio.run(run(host, address=options.address, port=options.port, again=again))
    except CertcastError as error:
        sys.stderr.write(f"functions host: {error}\n")
        return _BAD_SETTING if isinstance(error, ConfigurationError) else _FAILED
    return 0
