"""What every test may ask for: the storage emulator; and `--require-all`, under which a skipped test fails.

Where several processes run tests at once (`-n`), each has an emulator and ports of its own.
"""

import gc
import signal
from collections.abc import Generator, Iterator
from itertools import chain, groupby, zip_longest
from pathlib import Path

import pytest

from local_azure.processes import listening
from tests.rigs.effort import SEED
from tests.rigs.emulator import Emulator, emulator

LONG = {
    "test_benchmarks.py",
    "test_certcast_up.py",
    "test_cloud.py",
    "test_dev_setup.py",
    "test_installed_agent.py",
    "test_local_cloud.py",
}
"""Files that take a minute; they begin first, so that no process is left with one while the others are done."""

pytest.register_assert_rewrite("tests.contracts.targets", "tests.rigs.targets")  # their assertions are tests too


@pytest.fixture(scope="session")
def azurite() -> Iterator[Emulator]:
    """One Azurite for all tests of this process; a test that counts what is in it uses names of its own."""
    with emulator() as running:
        yield running


def pytest_report_header() -> str:
    """How to repeat the simulation of this run."""
    return f"simulation: CERTCAST_TEST_SEED={SEED}"


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes ports of its own to choose from; let Ctrl-C reach what tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it in what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        ports, count = listening._LOW_PORTS, worker["workercount"]
        own = int(worker["workerid"].removeprefix("gw")) % count
        listening._LOW_PORTS = ports[own * len(ports) // count : (own + 1) * len(ports) // count]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among modules and tests that all stay: that is a third of the time to collect them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have whole systems run beside tests that need less of the processors, where several processes run tests."""
    if hasattr(config, "workerinput"):
        files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
        systems = [tests for tests in files if _is_whole_system(tests[0].path)]
        others = [tests for tests in files if not _is_whole_system(tests[0].path)]
        systems.sort(key=lambda tests: tests[0].path.name not in LONG)
        items[:] = chain.from_iterable(chain.from_iterable(zip_longest(systems, others, fillvalue=())))


def _is_whole_system(path: Path) -> bool:
    """Whether a file's tests start many processes, or one again and again."""
    return not {"acceptance", "docs"}.isdisjoint(path.parts) or path.parts[-3:-1] in {
        ("integration", "operator_cli"),
        ("integration", "project"),
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-all", action="store_true", help="a test that would be skipped fails, with its reason")


# Outermost, so that pytest's own hook has told an expected failure from a skip.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _require(item.config, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _require(collector.config, report)
    return report


def _require(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if config.getoption("--require-all") and report.skipped and isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: skipped, which --require-all forbids: {reason.removeprefix('Skipped: ')}"
