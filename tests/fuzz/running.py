"""What the fuzz targets have in common: bounds for one input, and the call of atheris."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

CPU_S = 5
"""Processor time for one input, and by libFuzzer's clock on the wall."""
MEMORY_MIB = 256
"""What one input may take beside what the target itself has."""


class TooLongError(Exception):
    """An input took more processor time than any may."""


def bounded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Hold a target to its processor time."""

    def run(data: bytes) -> None:
        began = time.process_time()
        target(data)
        took_s = time.process_time() - began
        if took_s > CPU_S:
            raise TooLongError(f"{took_s:.1f} s of processor time")

    return run


def fuzz(target: Callable[[bytes], None], corpus: Callable[[], list[bytes]], **options: Any) -> None:
    """Run libFuzzer as the command line says; the first argument is a folder for the corpus, filled where it is new.

    Args:
        target: Takes an input; whatever it raises is a finding.
        corpus: Makes inputs to begin with.
        options: atheris' own.
    """
    folder = Path(sys.argv[1])
    if folder.is_dir() and not any(folder.iterdir()):
        for number, data in enumerate(corpus()):
            (folder / f"{number:03}").write_bytes(data)
    limits = [f"-timeout={CPU_S}", f"-rss_limit_mb={_own_mib() + MEMORY_MIB}", f"-malloc_limit_mb={MEMORY_MIB}"]
    arguments = [argument for argument in sys.argv[1:] if argument != "--strict"]
    atheris.Setup([sys.argv[0], *limits, *arguments], bounded(target), **options)
    atheris.Fuzz()


def _own_mib() -> int:
    """The resident memory of this process, in MiB."""
    [line] = [line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if "VmRSS" in line]
    return int(line.split()[1]) // 1024
