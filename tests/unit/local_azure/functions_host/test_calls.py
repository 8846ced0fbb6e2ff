import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import azure.functions as func
import pytest
from azure.functions.meta import Datum

from local_azure.functions_host.calls import Invoker, Outcome
from local_azure.functions_host.index import Function, functions_of

TIMER = Datum(json.dumps({"IsPastDue": False}), "json")


@pytest.fixture
def invoker() -> Iterator[Invoker]:
    made = Invoker(Path(__file__).parent, timeout_s=30, on_overrun=pytest.fail)
    yield made
    made.close()


def only(app: func.FunctionApp) -> Function:
    module = ModuleType("function_app")
    vars(module)["app"] = app
    (function,) = functions_of(module)
    return function


async def invoked(invoker: Invoker, app: func.FunctionApp, data: Datum) -> Outcome:
    return await invoker.invoke(only(app), data)


async def test_an_asynchronous_function_runs_on_the_loop_with_the_librarys_own_object(invoker: Invoker) -> None:
    app, seen = func.FunctionApp(), []

    @app.event_grid_trigger(arg_name="event")
    async def take(event: func.EventGridEvent) -> None:
        seen.append((event.id, event.subject, event.get_json(), event.event_type, threading.current_thread()))

    event = {"id": "1", "subject": "s", "data": {"a": 1}, "eventType": "t", "eventTime": "2026-01-01T00:00:00.1234567Z"}
    outcome = await invoked(invoker, app, Datum(json.dumps(event), "json"))
    assert outcome == Outcome()
    assert seen == [("1", "s", {"a": 1}, "t", threading.current_thread())]


async def test_a_synchronous_function_runs_on_a_thread_and_blocks_no_other(invoker: Invoker) -> None:
    app, release, threads = func.FunctionApp(), threading.Event(), []
    loop, began = asyncio.get_running_loop(), asyncio.Event()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest) -> None:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(began.set)
        assert release.wait(10)
        assert not timer.past_due

    running = asyncio.create_task(invoked(invoker, app, TIMER))
    await began.wait()
    release.set()
    assert (await running).succeeded
    assert threads[0] is not threading.current_thread()


async def test_the_context_tells_the_function_and_its_trace(invoker: Invoker) -> None:
    app, seen = func.FunctionApp(), []

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest, context: func.Context) -> None:
        assert not timer.past_due
        seen.append((context.function_name, context.trace_context.trace_parent, context.invocation_id))

    function = only(app)
    await invoker.invoke(function, TIMER, trace_parent="00-1-2-01")
    await invoker.invoke(function, TIMER)
    assert seen[0][:2] == ("tick", "00-1-2-01")
    assert seen[1][1].startswith("00-")
    assert seen[0][2] != seen[1][2]


async def test_a_failure_is_an_outcome_and_one_log_line_with_its_place(
    invoker: Invoker, caplog: pytest.LogCaptureFixture
) -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest) -> None:
        raise ValueError(f"no luck: {timer.past_due}")

    outcome = await invoked(invoker, app, TIMER)
    assert outcome.error is not None
    assert outcome.error.startswith(f"ValueError: no luck: False ({Path(__file__).name}, line ")
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert outcome.error in record.getMessage()
    assert record.exc_info is None


async def test_a_value_without_a_return_binding_fails_the_call(invoker: Invoker) -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest) -> bool:
        return timer.past_due

    assert "no $return binding" in str((await invoked(invoker, app, TIMER)).error)


async def test_a_function_that_runs_too_long_ends_all_that_is_under_way_and_is_not_cancelled() -> None:
    slow, quick, over, left = func.FunctionApp(), func.FunctionApp(), asyncio.Event(), asyncio.Event()

    @slow.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    async def tick(timer: func.TimerRequest) -> None:
        try:
            await left.wait()
        except asyncio.CancelledError:
            pytest.fail(f"cancelled: {timer.past_due}")

    @quick.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    async def tock(timer: func.TimerRequest) -> None:
        assert not timer.past_due

    invoker = Invoker(Path(), timeout_s=0.05, on_overrun=over.set)
    waits, ends = only(slow), only(quick)
    assert (await invoker.invoke(ends, TIMER)).succeeded
    first = asyncio.create_task(invoker.invoke(waits, TIMER))
    await asyncio.sleep(0.03)
    second = await invoker.invoke(waits, TIMER)
    third = await invoker.invoke(ends, TIMER)
    assert over.is_set()
    ended = Outcome(error="tick ran longer than 0.05 s, which ends the worker process")
    assert [await first, second, third] == [ended] * 3
    invoker.close()
    left.set()
    await asyncio.sleep(0)


async def test_a_timeout_of_the_functions_own_is_reported_as_its_own(invoker: Invoker) -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    async def tick(timer: func.TimerRequest) -> None:
        raise TimeoutError(f"the vault did not answer {timer.past_due}")

    assert str((await invoked(invoker, app, TIMER)).error).startswith("TimeoutError: the vault did not answer")
