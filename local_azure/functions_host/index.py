"""The functions that function_app.py declares, loaded as the cloud's worker does it.

The rules are the Python worker's: `function_app` is a top-level module, it makes one `FunctionApp`, names are unique,
and a function's parameters are exactly its bindings. One function that breaks a rule fails the whole app.
https://learn.microsoft.com/azure/azure-functions/functions-reference-python
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.functions import Context, FunctionApp
from azure.functions.meta import get_binding_registry

from shared.errors import ConfigurationError
from shared.starting import imported

if TYPE_CHECKING:
    from types import ModuleType

TRIGGERS = frozenset({"eventGridTrigger", "queueTrigger", "timerTrigger", "httpTrigger"})
"""The triggers this host drives."""

_MODULE = "function_app"
_CONTEXT = "context"
_RETURN = "$return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One declared function.

    Attributes:
        name: Its name, unique in the app.
        call: What runs; sync or async.
        parameter: The parameter its trigger's value goes to.
        trigger: The trigger's binding as in function.json: `type`, `queueName`, `schedule`, `route` …
        as_it_came: Whether that parameter is text or bytes, so that it is given the value as the host sends it.
        returns: Whether its return value is an output (`$return`).
        wants_context: Whether it has a parameter `context`.
    """

    name: str
    call: Callable[..., Any]
    parameter: str
    trigger: Mapping[str, Any]
    as_it_came: bool
    returns: bool
    wants_context: bool

    @property
    def kind(self) -> str:
        """The trigger's type."""
        return str(self.trigger["type"])


def converter(binding_type: str) -> Any:  # noqa: ANN401 - a class of azure.functions.meta
    """The library's own converter between the host's values of a binding type and the objects functions see."""
    return get_binding_registry().get(binding_type)  # type: ignore[no-untyped-call]


def load_functions(root: Path) -> list[Function]:
    """Import function_app.py from a folder, which becomes the first place modules are imported from.

    Raises:
        ConfigurationError: It does not load, or breaks a rule of the worker; the text says where and why.
    """
    path = root / f"{_MODULE}.py"
    if not path.is_file():
        raise ConfigurationError(f"there is no {path}")
    sys.path.insert(0, str(root))
    try:
        module = imported(_MODULE)
    except Exception as error:  # noqa: BLE001 - whatever the app's own code raises
        raise ConfigurationError(f"{path} does not load: {type(error).__name__}: {error}{place(error, root)}") from None
    return functions_of(module)


def functions_of(module: ModuleType) -> list[Function]:
    """The functions that a loaded module declares.

    Raises:
        ConfigurationError: It breaks a rule of the worker.
    """
    apps = {id(value): value for value in vars(module).values() if isinstance(value, FunctionApp)}
    if len(apps) != 1:
        raise ConfigurationError(f"{module.__name__} must make one FunctionApp, and it makes {len(apps)}")
    (app,) = apps.values()
    # The library warns that a key level has no effect in an app without HTTP functions, and the app asks for none.
    previously_disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return [_function(declared) for declared in app.get_functions()]
    except ValueError as error:
        raise ConfigurationError(f"{module.__name__} cannot be indexed: {error}") from None
    finally:
        logging.disable(previously_disabled)


def _function(declared: Any) -> Function:  # noqa: ANN401 - azure.functions' own Function, which it does not export
    name, call = declared.get_function_name(), declared.get_user_function()
    bindings = [json.loads(raw) for raw in declared.get_raw_bindings()]
    for binding in bindings:
        # Only an HTTP function's answer is an output that this host carries.
        if binding["type"] not in TRIGGERS and (binding["type"], binding["name"]) != ("http", _RETURN):
            raise ValueError(f"function {name} has a binding of type {binding['type']}, which this host does not have")
    trigger = next(binding for binding in bindings if binding["type"] in TRIGGERS)
    bound = {str(binding["name"]) for binding in bindings} - {_RETURN}
    parameters = set(inspect.signature(call).parameters)
    wants_context = _CONTEXT in parameters - bound
    unbound = parameters - bound - {_CONTEXT}
    if unbound:
        raise ValueError(f"function {name} has parameters without a binding: {', '.join(sorted(unbound))}")
    if bound - parameters:
        raise ValueError(f"function {name} lacks the parameters {', '.join(sorted(bound - parameters))}")
    as_it_came = _check_annotations(name, call, trigger)
    return Function(
        name=name,
        call=call,
        parameter=trigger["name"],
        trigger=trigger,
        as_it_came=as_it_came,
        returns=any(binding["name"] == _RETURN for binding in bindings),
        wants_context=wants_context,
    )


def _check_annotations(name: str, call: Callable[..., Any], trigger: Mapping[str, Any]) -> bool:
    """Check what a function says of its parameters; answers whether it wants its trigger's value as it came.

    As the worker does it (github.com/Azure/azure-functions-python-worker, functions.py, validate_function_params).
    """
    hints = typing.get_type_hints(call)
    wanted = hints.get(trigger["name"])
    library = converter(trigger["type"])
    as_it_came = wanted in {str, bytes} and not library.has_implicit_output()
    fits = as_it_came or (isinstance(wanted, type) and library.check_input_type_annotation(wanted))
    if wanted is not None and not fits:
        raise ValueError(f"function {name}: {wanted} is no type for a {trigger['type']}")
    if hints.get(_CONTEXT, Context) is not Context:
        raise ValueError(f"function {name}: context must be an azure.functions.Context")
    return as_it_came


def place(error: BaseException, root: Path) -> str:
    """Where in an app an exception arose, to stand behind it; empty where it was elsewhere."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(root))]
    return f" ({Path(frames[-1].filename).relative_to(root)}, line {frames[-1].lineno})" if frames else ""
