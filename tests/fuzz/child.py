"""The process that fuzzes one target, or repeats one input, within ceilings on every input."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import atheris

from tests.fuzz.trial import BROKEN, CPU_S, FAULT, MAX_INPUT_BYTES, MEMORY_BYTES, Notes

_WALL_S = 60
"""Longest wait for one input, by the clock on the wall: some use no processor time."""
_PAGE_BYTES = resource.getpagesize()


class Ceilings:
    """Bounds for one input at a time: breaking one ends the process, or raises MemoryError."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self._most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable()
        # The stack goes to stderr, and then the signal ends the process.
        faulthandler.register(signal.SIGPROF, chain=True)

    def raise_up(self) -> None:
        """Begin an input."""
        pages = int(os.pread(self._statm, 64, 0).split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE_BYTES + MEMORY_BYTES, self._most))
        signal.setitimer(signal.ITIMER_PROF, CPU_S)

    def take_down(self) -> None:
        """End it."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (self._most, self._most))


def main() -> None:
    """Fuzz until the time is over, then exit with 0; anything else is a fault, and the notes hold the input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("notes", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--repeat", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    target = _imported(options.target)
    notes, ceilings = Notes(options.notes), Ceilings()

    def attempt(data: bytes) -> None:
        notes.put(data)
        ceilings.raise_up()
        try:
            target.run(data)
        except BaseException:  # noqa: BLE001 - a panic of a library's is no Exception
            ceilings.take_down()
            _end(FAULT)
        ceilings.take_down()

    if options.repeat is not None:
        attempt(options.repeat.read_bytes()[:MAX_INPUT_BYTES])
        return
    for number, seed in enumerate(target.seeds()):
        (options.corpus / f"seed-{number}").write_bytes(seed)
    _fuzz(options, target, attempt)


def _end(code: int) -> NoReturn:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def _imported(name: str) -> Any:
    module = f"tests.fuzz.{name}"
    prefixes = {"planted": [module], "listening": ["instance_agent"]}.get(name, ["shared"])
    with atheris.instrument_imports(include=prefixes):
        return importlib.import_module(module)


def _fuzz(options: argparse.Namespace, target: Any, attempt: Any) -> None:
    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        try:
            made = target.mutate(data, Random(seed))  # noqa: S311 - no secret
        except Exception:  # noqa: BLE001 - it would go through C++ and end somewhere
            _end(BROKEN)
        changed: bytes = atheris.Mutate(data, max_size) if made is None else made[:max_size]
        return changed

    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={_WALL_S}",
        f"-artifact_prefix={options.corpus}/",
        *("-len_control=0", "-reload=0", "-verbosity=0"),
        # By default a signal ends the process, and the parent sees which.
        *(f"-handle_{name}=0" for name in ("int", "term", "abrt", "segv", "bus", "ill", "fpe", "xfsz")),
        str(options.corpus),
    ]
    atheris.Setup(arguments, attempt, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
