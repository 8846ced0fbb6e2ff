"""Invoking a function: the trigger's value as the library's own object, the call, and one log line about it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from local_azure.functions_host.index import converter, place
from shared.messages import new_traceparent
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from azure.functions.meta import Datum

    from local_azure.functions_host.index import Function

log = logger("certcast.host")

_MOST_THREADS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an invocation ended.

    Attributes:
        value: What the function returned.
        error: Why it failed, as one line; None when it succeeded.
    """

    value: object = None
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the function returned."""
        return self.error is None


class Invoker:
    """Invokes functions of one app; synchronous ones on threads, as many as the worker's own pool has.

    A function that runs too long is not cancelled: the worker process ends with all that is under way in it, which
    fails (github.com/Azure/azure-functions-host, WebScriptHostExceptionHandler.OnTimeoutExceptionAsync and
    GrpcWorkerChannel.TryFailExecutions). Here the app shares its process with the host, so that the host starts again.

    Args:
        root: The app's folder.
        timeout_s: Longest run of a function; None is no limit.
        on_overrun: Called once a function has run longer; what was under way has failed then, and nothing more begins.
    """

    def __init__(self, root: Path, *, timeout_s: float | None, on_overrun: Callable[[], None]) -> None:
        self._root = root
        self._timeout_s = timeout_s
        self._on_overrun = on_overrun
        self._overran = ""
        self._under_way: set[asyncio.Future[object]] = set()
        workers = int(os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT") or min(_MOST_THREADS, (os.cpu_count() or 1) + 4))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="function")

    def close(self) -> None:
        """Let go of the threads; a function that still runs on one is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def invoke(
        self, function: Function, data: Datum, *, metadata: Mapping[str, Datum] | None = None, trace_parent: str = ""
    ) -> Outcome:
        """Call a function with its trigger's value.

        Args:
            function: Which one.
            data: The value as the host hands it over.
            metadata: The trigger's metadata, for the triggers that have some.
            trace_parent: W3C trace the invocation belongs to; a new one when empty.
        """
        began = time.monotonic()
        outcome = await self._watched(function, self._call(function, data, metadata, trace_parent))
        elapsed_ms = (time.monotonic() - began) * 1000
        if outcome.succeeded:
            log.info("%s succeeded in %.0f ms", function.name, elapsed_ms)
        else:
            log.error("%s failed in %.0f ms: %s", function.name, elapsed_ms, outcome.error)
        return outcome

    async def _watched(self, function: Function, call: Coroutine[Any, Any, object]) -> Outcome:
        ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self._overran:
            call.close()
            return Outcome(error=self._overran)
        task = asyncio.create_task(call, name=f"function {function.name}")
        self._under_way.add(ended)
        try:
            await asyncio.wait({task, ended}, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._under_way.discard(ended)
        if not task.done() and not ended.done():
            self._end_worker(function)
        if not task.done():
            return Outcome(error=self._overran)
        try:
            return Outcome(value=task.result())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever the app's own code raises
            return Outcome(error=f"{type(error).__name__}: {error}{place(error, self._root)}")

    def _end_worker(self, function: Function) -> None:
        self._overran = f"{function.name} ran longer than {self._timeout_s:g} s, which ends the worker process"
        others = len(self._under_way)
        log.error("%s, with the %d other function(s) under way in it; it starts again", self._overran, others)
        for ended in self._under_way:
            ended.set_result(None)
        self._on_overrun()

    async def _call(
        self, function: Function, data: Datum, metadata: Mapping[str, Datum] | None, trace_parent: str
    ) -> object:
        arguments = {function.parameter: _value(function, data, metadata)}
        if function.wants_context:
            arguments["context"] = self._context(function, trace_parent or new_traceparent())
        if asyncio.iscoroutinefunction(function.call):
            value = await function.call(**arguments)
        else:
            call = partial(function.call, **arguments)
            value = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        if value is not None and not function.returns:
            raise TypeError(f"{function.name} returned a value and has no $return binding")
        return value

    def _context(self, function: Function, trace_parent: str) -> SimpleNamespace:
        """What an azure.functions.Context says of an invocation."""
        return SimpleNamespace(
            invocation_id=str(uuid.uuid4()),
            function_name=function.name,
            function_directory=str(self._root),
            thread_local_storage=threading.local,
            trace_context=SimpleNamespace(trace_parent=trace_parent, trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )


def _value(function: Function, data: Datum, metadata: Mapping[str, Datum] | None) -> object:
    if function.as_it_came:
        return data.value
    return converter(function.kind).decode(data, trigger_metadata=metadata)
