"""Microsoft's Functions runtime library driven in process, in the place of the host; run by Python 3.13, not by pytest.

`python -I runtime_driver.py APP_FOLDER` indexes the app as the cloud does and answers one JSON line on standard output:
its functions, or why it did not load. Then each JSON line on standard input is one invocation, answered by one line.
Nothing of this repository is imported here but the app.

Log records are handled as the worker does it (github.com/Azure/azure-functions-python-worker,
workers/proxy_worker/dispatcher.py: ContextEnabledTask, get_current_invocation_id) and the host (azure-functions-host,
GrpcWorkerChannel.Log): from INFO on, each with the id of the invocation in whose task, or a task begun in it, it was
made. One without an id, or whose invocation has ended, is dropped. Each is one line on standard error.
"""

import asyncio
import importlib
import json
import logging
import os
import sys
import uuid
from types import SimpleNamespace
from typing import Any


class Message:
    """Stands for any of the host's protocol buffer messages: the fields it was made with."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class StatusResult(Message):
    Failure, Success = 0, 1


class BindingInfo(Message):
    out, inout = 1, 2
    undefined = 0


class TypedData(Message):
    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's name
        return next(iter(self.__dict__))


class ParameterBinding(Message):
    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's name
        return "data"


PROTOS = SimpleNamespace(
    BindingInfo=BindingInfo,
    StatusResult=StatusResult,
    TypedData=TypedData,
    **{
        name: type(name, (Message,), {})
        for name in (
            "FunctionMetadataResponse",
            "InvocationResponse",
            "RpcException",
            "RpcFunctionMetadata",
            "RpcHttp",
            "RpcRetryOptions",
            "WorkerInitResponse",
            "WorkerMetadata",
        )
    },
)


class InvocationTask(asyncio.Task[Any]):
    """A task that has the invocation id of the task that began it."""

    invocation_id: str | None = None

    def __init__(self, coro: Any, *, loop: asyncio.AbstractEventLoop, **more: Any) -> None:
        super().__init__(coro, loop=loop, **more)
        self.invocation_id = getattr(asyncio.current_task(loop), "invocation_id", None)


class HostLog(logging.Handler):
    """Says of each log record what becomes of it in the host."""

    def __init__(self) -> None:
        super().__init__()
        self.executing: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs in this thread
            task = None
        invocation = getattr(task, "invocation_id", None)
        ended = invocation is not None and invocation not in self.executing
        fate = "no invocation" if invocation is None else "ended" if ended else "shown"
        said = {"name": record.name, "level": record.levelname, "text": self.format(record), "fate": fate}
        sys.stderr.write(f"RECORD {json.dumps(said)}\n")
        sys.stderr.flush()


HOST_LOG = HostLog()


async def index(runtime: Any, folder: str) -> dict[str, Any]:
    """Load and index the app; answers its functions with their bindings, or the error that the cloud would log."""
    init = Message(capabilities={}, function_app_directory=folder)
    answer = await runtime.worker_init_request(
        Message(request=Message(worker_init_request=init), properties={"host": "127.0.0.1", "protos": PROTOS})
    )
    if answer.result.status != StatusResult.Success:
        return {"ok": False, "error": answer.result.exception.message}
    metadata = await runtime.functions_metadata_request(Message())
    functions = {
        function.name: {"id": function.function_id, "bindings": [json.loads(raw) for raw in function.raw_bindings]}
        for function in metadata.function_metadata_results or []
    }
    return {"ok": True, "functions": functions}


async def invoke(runtime: Any, function_id: str, call: dict[str, Any]) -> dict[str, Any]:
    """Invoke one function with one input, as the host does when its trigger fires."""
    invocation_id = str(uuid.uuid4())
    inputs = ParameterBinding(name=call["parameter"], data=TypedData(**{call["kind"]: call["value"]}))
    trace = Message(trace_parent=call.get("traceparent", ""), trace_state="", attributes={})
    request = Message(
        invocation_id=invocation_id,
        function_id=function_id,
        input_data=[inputs],
        trigger_metadata={name: TypedData(string=value) for name, value in call.get("metadata", {}).items()},
        trace_context=trace,
        retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
    )
    HOST_LOG.executing.add(invocation_id)
    asyncio.current_task().invocation_id = invocation_id  # type: ignore[union-attr]  # of the loop's own kind
    try:
        answer = await runtime.invocation_request(Message(request=Message(invocation_request=request)))
    finally:
        HOST_LOG.executing.discard(invocation_id)
    if answer.result.status != StatusResult.Success:
        return {"ok": False, "error": answer.result.exception.message, "trace": answer.result.exception.stack_trace}
    return {"ok": True}


async def main(folder: str) -> None:
    """Index the app, then serve the invocations that standard input asks for until it is closed."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the app prints must not mix with the answers
    os.chdir(folder)
    sys.path.insert(0, folder)
    asyncio.get_running_loop().set_task_factory(lambda loop, coro, **more: InvocationTask(coro, loop=loop, **more))
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().addHandler(HOST_LOG)  # as the worker does it; a record is sent as its formatter writes it
    runtime = importlib.import_module("azure_functions_runtime")
    runtime.start_threadpool_executor()
    indexed = await index(runtime, folder)
    print(json.dumps(indexed), file=answers, flush=True)
    while indexed["ok"] and (line := await asyncio.to_thread(sys.stdin.readline)):
        call = json.loads(line)
        answer = await asyncio.create_task(invoke(runtime, indexed["functions"][call["function"]]["id"], call))
        print(json.dumps(answer), file=answers, flush=True)
    runtime.stop_threadpool_executor()


if __name__ == "__main__":
    asyncio.run(main(os.path.abspath(sys.argv[1])))  # noqa: PTH100 - the path is the runtime's to read
