"""The commands of dev.py: what each runs, in which order, and its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devtools import benchmarks, locks
from devtools.cures import SetupError
from devtools.environment import prepare
from devtools.packages import command as packages
from devtools.packages import releasing
from devtools.running import beside, run, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devtools.environment import Environment

ROOT = Path(__file__).resolve().parent.parent

TESTS_ALONE = ("tests/security/test_bystander.py",)
_PER_PROCESSOR = 2
"""Processes that run tests: much of what tests do is waiting."""
_MOST_PROCESSES = 8
"""Of those; each has an Azurite of its own."""
_NO_TESTS = 5
"""pytest's exit code where no test was left."""

USAGE = """\
usage: python3 dev.py COMMAND [ARGUMENTS]

  setup                        make .venv and node_modules, or bring them up to date
  test [--require-all] [--coverage] [...]
                               format, lint, types, import rules, then every test, several at once; --require-all
                               makes a skipped test a failed one, --coverage counts the branches that tests take
                               and fails where they are too few; the rest goes to pytest: `test tests/unit` runs
                               the quick ones alone, `test -n 0 -x` one after the other until one fails
  demo [...]                   the whole system on this machine, one certificate's way through it
  lint                         what test runs before the tests
  docs [--serve]               build the site of docs/ into .cache/site, and fail where a link leads nowhere or a page
                               is in no menu; --serve shows it at http://127.0.0.1:8000 while pages are edited
  fuzz [--minutes N] [--repeat FILE]
                               feed the code that reads what strangers write with changed inputs, for a minute in
                               all unless told otherwise, and keep what breaks it; --repeat tries such an input again
  soak [--minutes N] [--seed N] [--nginx dynamic|blocks] [--state DIR] [--json]
                               have everything happen at random to three instances on nginx, HAProxy and Caddy, under
                               load, for 30 minutes unless told otherwise, and say whether all came right in the end
  build [--python 3.11] [--architecture amd64]
                               build what is installed on instances into dist/: the wheel, requirements-agent.txt, the
                               Debian package for that Python, install.sh and SHA256SUMS
  lock [--check] [--upgrade]   resolve the lock files again, or say whether they are current
  bench [NAME...] [--json FILE] [--docs] [--quick] [...]
                               measure what was named, or everything; --json adds the results to a file, --docs
                               writes tables and plots into docs/benchmarks.md, --quick tries it out; --list tells
                               what there is and what each needs; one alone takes options of its own (--help)
  release --dry-run | --tag TAG
                               look whether this commit can be released, or be released as that tag, build the files of
                               the release into dist/ and say what to do next; nothing is published

Each of them first sets up what is missing. Exit codes: 0 done, 1 a check or test failed, 2 it could not run.
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command line and answer the exit code."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0 if arguments else 2
    command = _COMMANDS.get(arguments[0])
    if command is None:
        return _refuse(f"there is no command {arguments[0]!r}; there are {', '.join(_COMMANDS)}")
    try:
        return command(list(arguments[1:]))
    except SetupError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename or 'the system'}: {error.strerror or error}; put that right and run it again")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _setup(arguments: list[str]) -> int:
    _no_arguments("setup", arguments)
    prepare(ROOT)
    print("set up: .venv and node_modules are current")
    return 0


def _test(arguments: list[str]) -> int:
    here = prepare(ROOT)
    options = [argument for argument in arguments if argument != "--coverage"]
    several, alone = _test_runs(options)
    with beside(here, _types(here)) as types:
        failed = _failed_meanwhile(here, whole=bool(several) and not _named(options))

        def tests(command: list[str | Path]) -> int:
            codes = [run(here, [*command, *each]) for each in several]
            failed.extend(types.failed())
            return _code_of([*codes, *(run(here, [*command, *each]) for each in alone)])

        if "--coverage" in arguments:
            code = _measured(here, tests, whole=set(options) <= {"--require-all"})
        else:
            code = tests([here.python, "-m"])
    if failed:
        print(f"\n{', '.join(failed)} failed", flush=True)
    return 1 if failed or code else 0


def _failed_meanwhile(here: Environment, *, whole: bool) -> list[str]:
    """The quick checks that fail, while the tests are compiled, which takes until all are where all are to run.

    pytest keeps what it has compiled. In a new clone, each process that runs tests would else do so for itself.
    """
    collect: list[str | Path] = [here.python, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    with beside(here, collect) as compiling:
        failed = [shown(here, check) for check in _quick_checks(here) if run(here, check) != 0]
        if failed:
            print(f"\n{', '.join(failed)} failed; the tests run all the same", flush=True)
        if whole:
            compiling.wait()
    return failed


def _named(options: list[str]) -> list[str]:
    return [option for option in options if option.startswith("tests")]


def _test_runs(options: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """The tests several at once, and those that compare times, which have the machine to themselves after them."""
    named = _named(options)
    others = [option for option in options if option not in named]
    alone = [path for path in TESTS_ALONE if not named or any((ROOT / path).is_relative_to(ROOT / n) for n in named)]
    several = [["pytest", *_several_at_once(), *(f"--ignore={path}" for path in TESTS_ALONE), *options]]
    if named and set(named) <= set(TESTS_ALONE):
        several = []
    return several, [["pytest", path, *others] for path in alone]


def _code_of(codes: Sequence[int]) -> int:
    """Of several runs; one in which an option leaves no test is none, unless it is the only one."""
    return max(0 if code == _NO_TESTS and len(codes) > 1 else code for code in codes)


def _lint(arguments: list[str]) -> int:
    _no_arguments("lint", arguments)
    here = prepare(ROOT)
    failed = _failed_checks(here)
    print(f"{', '.join(failed)} failed" if failed else "all checks passed")
    return 1 if failed else 0


def _docs(arguments: list[str]) -> int:
    if set(arguments) - {"--serve"}:
        raise SetupError("docs takes --serve and nothing else")
    here = prepare(ROOT)
    return run(here, [here.python, "-m", "mkdocs", "serve" if arguments else "build", "--strict"])


def _demo(arguments: list[str]) -> int:
    here = prepare(ROOT)
    return run(here, [here.python, "-m", "operator_cli", "demo", *arguments], quiet=True)


def _lock(arguments: list[str]) -> int:
    if set(arguments) - {"--check", "--upgrade"}:
        raise SetupError("lock takes --check or --upgrade and nothing else")
    here = prepare(ROOT)
    resolved = locks.resolve(here, upgrade="--upgrade" in arguments)
    outdated = locks.outdated(here, resolved)
    if "--check" in arguments:
        print(f"not current: {', '.join(outdated)}; run `python3 dev.py lock`" if outdated else "the locks are current")
        return 1 if outdated else 0
    for file in outdated:
        (ROOT / file).write_bytes(resolved[file])
    print(f"written: {', '.join(outdated)}" if outdated else "the locks were current")
    return 0


def _build(arguments: list[str]) -> int:
    return packages.main(prepare(ROOT), arguments)


def _fuzz(arguments: list[str]) -> int:
    here = prepare(ROOT)
    return run(here, [here.python, "-m", "tests.fuzz", *arguments], quiet=True)


def _soak(arguments: list[str]) -> int:
    here = prepare(ROOT)
    return run(here, [here.python, "-m", "tests.soak", *arguments], quiet=True)


def _bench(arguments: list[str]) -> int:
    known = benchmarks.all_of(ROOT / "bench")
    if arguments == ["--list"]:
        print(*known, sep="\n")
        return 0
    runs = benchmarks.chosen(known, arguments)
    here = prepare(ROOT)
    if not arguments or arguments[0].startswith("-"):
        print(*known, sep="\n", flush=True)
    return max(run(here, [here.python, ROOT / "bench" / f"{name}.py", *options], quiet=True) for name, *options in runs)


def _release(arguments: list[str]) -> int:
    match arguments:
        case ["--dry-run"]:
            tag = ""
        case ["--tag", tag] if tag:
            pass
        case _:
            raise SetupError(releasing.WHAT_IT_IS)
    here = prepare(ROOT)
    return releasing.release(here, tag=tag, lint=lambda: _failed_checks(here))


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "setup": _setup,
    "test": _test,
    "demo": _demo,
    "fuzz": _fuzz,
    "soak": _soak,
    "lint": _lint,
    "docs": _docs,
    "build": _build,
    "lock": _lock,
    "bench": _bench,
    "release": _release,
}


def _failed_checks(here: Environment) -> list[str]:
    return [shown(here, check) for check in (*_quick_checks(here), _types(here)) if run(here, check) != 0]


def _quick_checks(here: Environment) -> list[list[str | Path]]:
    return [
        [here.program("ruff"), "check", "."],
        [here.program("ruff"), "format", "--check", "."],
        [here.program("lint-imports")],
    ]


def _types(here: Environment) -> list[str | Path]:
    """The check that takes as long as all others: it has a processor of its own while they, and tests, run."""
    return [here.python, "-m", "mypy"]


def _several_at_once() -> list[str]:
    """Options of pytest for several processes; a file is one process's, since its tests may share what they start."""
    processes = min(_PER_PROCESSOR * (os.cpu_count() or 1), _MOST_PROCESSES)
    return ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]


def _measured(here: Environment, tests: Callable[[list[str | Path]], int], *, whole: bool) -> int:
    """Run tests and print which branches they took; too few are a failure where it was all tests."""
    coverage: list[str | Path] = [here.python, "-m", "coverage"]
    run(here, [*coverage, "erase"], quiet=True)
    code = tests([*coverage, "run", "-m"])
    floor = [] if whole else ["--fail-under=0"]
    counted = run(here, [*coverage, "combine", "--quiet"], quiet=True) or run(here, [*coverage, "report", *floor])
    return code or counted


def _no_arguments(command: str, arguments: list[str]) -> None:
    if arguments:
        raise SetupError(f"{command} takes no arguments, not {arguments[0]!r}")


def _refuse(sentence: str) -> int:
    print(f"dev.py: {' '.join(sentence.split())}", file=sys.stderr)
    return 2
