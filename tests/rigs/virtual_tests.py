"""Tests on virtual time: async ones that get what they are about made on a loop of their own."""

import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from tests.fakes.virtual_time import VirtualLoop, run

Tests = TypeVar("Tests")


def on_virtual_time(make: Callable[[VirtualLoop], object]) -> Callable[[Tests], Tests]:
    """Decorate a test, or a class with its tests: the first parameter is made here, the others stay pytest's."""

    def decorated(tests: Any) -> Any:
        if not inspect.isclass(tests):
            return _timed(tests, make)
        for name, test in list(vars(tests).items()):
            if name.startswith("test_"):
                setattr(tests, name, _timed(test, make))
        return tests

    return decorated


def _timed(
    test: Callable[..., Coroutine[Any, Any, None]], make: Callable[[VirtualLoop], object]
) -> Callable[..., None]:
    signature = inspect.signature(test)
    first, *others = [name for name in signature.parameters if name != "self"]

    @wraps(test)
    def timed(*args: object, **kwargs: object) -> None:
        async def work(loop: VirtualLoop) -> None:
            await test(*args, **{first: make(loop)}, **kwargs)

        run(work)

    kept = [parameter for name, parameter in signature.parameters.items() if name in {"self", *others}]
    timed.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # what pytest reads
    return timed
