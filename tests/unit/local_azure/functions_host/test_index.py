import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
import pytest

from local_azure.functions_host.index import Function, functions_of, load_functions
from shared.errors import ConfigurationError


def module(**names: Any) -> ModuleType:
    made = ModuleType("function_app")
    vars(made).update(names)
    return made


def only(app: func.FunctionApp) -> Function:
    (function,) = functions_of(module(app=app, again=app))
    return function


def test_a_decorated_function_is_found_with_its_trigger() -> None:
    app = func.FunctionApp()

    @app.function_name("take")
    @app.queue_trigger(arg_name="message", queue_name="work", connection="STORAGE")
    async def anything(message: func.QueueMessage, context: func.Context) -> None: ...

    function = only(app)
    assert function.name == "take"
    assert function.kind == "queueTrigger"
    assert function.trigger["queueName"] == "work"
    assert function.parameter == "message"
    assert function.wants_context
    assert not function.returns


def test_an_http_function_returns_its_answer_and_takes_its_route_from_its_name() -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ADMIN)

    @app.route()
    def hello(req: func.HttpRequest) -> str:
        return str(req.method)

    function = only(app)
    assert function.returns
    assert function.trigger["route"] == "hello"
    assert str(function.trigger["authLevel"]).lower() == "admin"


def test_an_app_without_http_functions_is_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest) -> None: ...

    assert only(app).name == "tick"
    assert caplog.records == []


@pytest.mark.parametrize("apps", [{}, {"one": func.FunctionApp(), "two": func.FunctionApp()}])
def test_there_must_be_exactly_one_app(apps: dict[str, func.FunctionApp]) -> None:
    with pytest.raises(ConfigurationError, match=f"must make one FunctionApp, and it makes {len(apps)}"):
        functions_of(module(**apps))


def test_two_functions_of_one_name_fail_the_app() -> None:
    app = func.FunctionApp()
    for schedule in ("0 * * * * *", "1 * * * * *"):

        @app.function_name("tick")
        @app.timer_trigger(arg_name="timer", schedule=schedule)
        def tick(timer: func.TimerRequest) -> None: ...

    with pytest.raises(ConfigurationError, match="tick"):
        only(app)


def test_a_parameter_without_a_binding_fails_the_app() -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest, other: int) -> None: ...

    with pytest.raises(ConfigurationError, match="function tick has parameters without a binding: other"):
        only(app)


def test_a_binding_without_a_parameter_fails_the_app() -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="misspelt", schedule="0 * * * * *")
    def tick() -> None: ...

    with pytest.raises(ConfigurationError, match="function tick lacks the parameters misspelt"):
        only(app)


def test_a_parameter_of_the_wrong_type_fails_the_app() -> None:
    app = func.FunctionApp()

    @app.queue_trigger(arg_name="message", queue_name="q", connection="C")
    def take(message: func.TimerRequest) -> None: ...

    with pytest.raises(ConfigurationError, match="is no type for a queueTrigger"):
        only(app)


def test_a_context_that_is_none_fails_the_app() -> None:
    app = func.FunctionApp()

    @app.queue_trigger(arg_name="message", queue_name="q", connection="C")
    def take(message: func.QueueMessage, context: str) -> None: ...

    with pytest.raises(ConfigurationError, match="context must be"):
        only(app)


def test_a_binding_that_this_host_does_not_have_is_named() -> None:
    app = func.FunctionApp()

    @app.queue_trigger(arg_name="message", queue_name="q", connection="C")
    @app.queue_output(arg_name="out", queue_name="other", connection="C")
    def take(message: func.QueueMessage, out: func.Out[str]) -> None: ...

    with pytest.raises(ConfigurationError, match="function take has a binding of type queue, which this host"):
        only(app)


@pytest.fixture
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "function_app", raising=False)


@pytest.mark.usefixtures("clean_imports")
def test_an_app_is_loaded_as_a_top_level_module_that_finds_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neighbour_of_app.py").write_text("SCHEDULE = '0 * * * * *'\n", encoding="utf-8")
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\n"
        "from neighbour_of_app import SCHEDULE\n"
        "app = func.FunctionApp()\n"
        "@app.timer_trigger(arg_name='timer', schedule=SCHEDULE)\n"
        "def tick(timer: func.TimerRequest) -> None: ...\n",
        encoding="utf-8",
    )
    (function,) = load_functions(tmp_path)
    assert function.call.__module__ == "function_app"
    for name in ("function_app", "neighbour_of_app"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("clean_imports")
def test_a_failing_import_is_one_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import os\n\nimport no_such_module_anywhere\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"No module named 'no_such_module_anywhere' \(.*, line 3\)$"):
        load_functions(tmp_path)


@pytest.mark.usefixtures("clean_imports")
def test_a_folder_without_an_app_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no .*function_app\.py"):
        load_functions(tmp_path)
