"""The command line of the fuzzing: each target in a process of its own, findings kept as files to repeat."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.fuzz.trial import BROKEN, CPU_S, FAULT, Trial

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ROOT / ".cache" / "fuzz"
TARGETS = {
    "judging": "opening and judging uploads",
    "decoding": "decoding rows, messages, keys and answers",
    "listening": "what a listener answers the agent's probe",
}
"""What is fuzzed by default."""
PLANTED = "planted"
SHOWN_LINES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of one process.

    Attributes:
        target: What it fuzzed.
        code: Its exit code; negative for a signal.
        last: What it tried last.
        said: What it wrote.
    """

    target: str
    code: int
    last: Trial
    said: str

    @property
    def fault(self) -> str:
        """What is wrong with the last input, as a clause."""
        if self.code == FAULT:
            return "it raised"
        if self.code == -signal.SIGPROF:
            return f"it took more than {CPU_S} seconds of processor time"
        if self.code < 0:
            return f"it ended the process by {signal.Signals(-self.code).name}"
        return f"it ended the process with exit code {self.code}"


def main(arguments: Sequence[str]) -> int:
    """Fuzz, or repeat a finding.

    Returns:
        0 where no fault was found, 1 where one was, 2 where it could not run.
    """
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description="Fuzz what strangers write.")
    parser.add_argument("--minutes", type=float, default=1.0, help="in all (default: 1)")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="try the input of an earlier finding again")
    parser.add_argument("--only", choices=[*TARGETS, PLANTED], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        here = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform} {platform.machine()}"
        return _refuse(f"fuzz needs atheris, which is for CPython 3.11 to 3.13 on Linux x86_64, and this is {here}")
    if options.repeat is not None:
        return _repeat(options.repeat)
    targets = [options.only] if options.only else list(TARGETS)
    seconds = max(1, round(60 * options.minutes / len(targets)))
    return max([_fuzz(target, seconds) for target in targets])


def _fuzz(target: str, seconds: int) -> int:
    print(f"fuzzing {TARGETS.get(target, target)} for {seconds} s", flush=True)
    run = _run(target, "--seconds", str(seconds))
    if not run.last.count or run.code == BROKEN:
        return _refuse(
            f"fuzzing {target} went wrong after {run.last.count} inputs (exit code {run.code}): {_end_of(run.said)}"
        )
    if run.code == 0:
        print(f"{target}: {run.last.count} inputs, no fault", flush=True)
        return 0
    FINDINGS.mkdir(parents=True, exist_ok=True)
    finding = FINDINGS / f"{target}-{hashlib.sha256(run.last.data).hexdigest()[:16]}"
    finding.write_bytes(run.last.data)
    print(_end_of(run.said))
    print(
        f"{target}: a fault after {run.last.count} inputs, {run.fault}. The input is {finding.relative_to(ROOT)}; try "
        f"it again with `python3 dev.py fuzz --repeat {shlex.quote(str(finding.relative_to(ROOT)))}`",
        flush=True,
    )
    return 1


def _repeat(finding: Path) -> int:
    target = finding.name.partition("-")[0]
    if target not in {*TARGETS, PLANTED} or not finding.is_file():
        return _refuse(f"{finding} is no finding: name a file of {FINDINGS.relative_to(ROOT)}")
    run = _run(target, "--repeat", str(finding.resolve()))
    if not run.last.count:
        return _refuse(f"{finding} was not tried (exit code {run.code}): {_end_of(run.said)}")
    if run.code == 0:
        print(f"{target}: no fault any more")
        return 0
    print(_end_of(run.said))
    print(f"{target}: still a fault, {run.fault}")
    return 1


def _run(target: str, *arguments: str) -> Run:
    """Run a fuzzing process to its end; a signal to stop ends it too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        (folder / "notes").touch()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "tests.fuzz.child",
            target,
            folder / "notes",
            folder / "corpus",
            *arguments,
        ]
        with (folder / "said").open("wb") as said, _ended(command, said) as child:
            code = child.wait()
        text = (folder / "said").read_text("utf-8", errors="replace")
        return Run(target=target, code=code, last=Trial.read(folder / "notes"), said=text)


@contextlib.contextmanager
def _ended(command: Sequence[str | Path], said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _end_of(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("INFO: ")]
    return "\n".join(lines[-SHOWN_LINES:])


def _refuse(sentence: str) -> int:
    print(f"dev.py: {sentence}", file=sys.stderr)
    return 2


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(sys.argv[1:]))
