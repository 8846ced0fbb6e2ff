"""dev.py on a miniature project: a real interpreter, pip and npm, and nothing to download."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and scripts of POSIX systems")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "miniature"
version = "1.0"
"""
VERSION = 'VERSION = "1.0"\n'
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "miniature-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("miniature.pth", "")
        for file, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: miniature\\nVersion: 1.0\\n",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"miniature-1.0.dist-info/{file}", text)
    return name
"""
COMMAND = """
import signal, sys, time
if "--wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: (print("stopped well", flush=True), sys.exit(0)))
    print("waiting", flush=True)
    while True:
        time.sleep(0.1)
print(sys.argv[1:])
sys.exit(3)
"""
TESTS = """
import sys
print("tests", *sys.argv[1:])
print("7 passed")
"""
COVERAGE = """
import sys
print("coverage", *sys.argv[1:])
sys.exit(sys.argv[1:] == ["report"])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    code: int
    output: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Miniature:
    root: Path

    @property
    def python(self) -> Path:
        return self.root / (".venv/Scripts/python.exe" if os.name == "nt" else ".venv/bin/python")

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "certcast-setup.json"

    @property
    def log(self) -> Path:
        return self.root / ".cache" / "setup.log"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys._base_executable, "dev.py", *arguments],  # type: ignore[attr-defined]
            cwd=self.root,
            env={**os.environ, "PIP_RETRIES": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> Answer:
        child = self.start(*arguments, **environment)
        output, error = child.communicate(timeout=120)
        return Answer(code=child.returncode, output=output, error=error)

    def run_with(self, preparation: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Answer:
        """Run dev.py in an interpreter that a line of Python has changed first."""
        code = f"import runpy, sys\n{preparation}\nsys.argv = {['dev.py', *arguments]}\n"
        done = subprocess.run(
            [sys._base_executable, "-c", code + "runpy.run_path('dev.py', run_name='__main__')"],  # type: ignore[attr-defined]
            cwd=self.root,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        return Answer(code=done.returncode, output=done.stdout, error=done.stderr)

    def works(self) -> bool:
        asks = "import importlib.metadata; print(importlib.metadata.version('miniature'))"
        return subprocess.run([self.python, "-c", asks], capture_output=True, text=True, check=False).stdout == "1.0\n"


def make(root: Path) -> Miniature:
    shutil.copytree(ROOT / "devtools", root / "devtools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dev.py", root)
    package = {"name": "miniature", "version": "1.0.0"}
    files = {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND,
        "shared/__init__.py": VERSION,
        "requirements-dev.lock": "# nothing\n",
        "package.json": json.dumps(package),
        "package-lock.json": json.dumps(
            {**package, "lockfileVersion": 3, "requires": True, "packages": {"": package}},
        ),
        "operator_cli/__init__.py": "",
        "operator_cli/__main__.py": COMMAND,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return Miniature(root=root)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """A project that is set up; each test leaves it so."""
    project = make(tmp_path_factory.mktemp("ready"))
    answer = project.run("setup")
    assert answer.code == 0, answer
    return project


@pytest.fixture
def bare(tmp_path: Path) -> Miniature:
    return make(tmp_path / "bare")


def refused(answer: Answer) -> str:
    """The one line that a failure is."""
    assert answer.code == 2, answer
    assert answer.error.count("\n") == 1, answer
    assert answer.error.startswith("dev.py: ")
    return answer.error


def test_a_second_set_up_does_nothing(ready: Miniature) -> None:
    assert ready.works()
    before = ready.log.stat().st_mtime_ns
    assert ready.run("setup").code == 0
    assert ready.log.stat().st_mtime_ns == before


def test_a_changed_lock_file_makes_another_environment(ready: Miniature) -> None:
    stray = ready.root / ".venv" / "stray"
    stray.touch()
    (ready.root / "requirements-dev.lock").write_text("# still nothing\n")
    assert ready.run("setup").code == 0
    assert not stray.exists()
    assert ready.works()


@pytest.mark.parametrize(
    ("file", "text"),
    [("pyproject.toml", PYPROJECT + 'description = "changed"\n'), ("shared/__init__.py", VERSION + "# changed\n")],
)
def test_a_changed_project_or_version_installs_it_again_and_keeps_the_environment(
    ready: Miniature, file: str, text: str
) -> None:
    stray = ready.root / ".venv" / "stray"
    stray.touch()
    (ready.root / file).write_text(text)
    answer = ready.run("setup")
    assert answer.code == 0
    assert "certcast itself" in answer.output
    assert stray.exists()
    stray.unlink()


def test_an_environment_without_a_stamp_is_not_trusted(ready: Miniature) -> None:
    ready.stamp.unlink()
    for file in ready.root.glob(".venv/**/miniature*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert not ready.works()
    assert ready.run("setup").code == 0
    assert ready.works()


def test_an_environment_whose_interpreter_is_gone_is_made_again(ready: Miniature) -> None:
    ready.python.unlink()
    assert ready.run("setup").code == 0
    assert ready.works()


@POSIX
def test_a_set_up_that_was_killed_is_repaired(bare: Miniature) -> None:
    child = bare.start("setup")
    while not bare.python.exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert not bare.stamp.exists()
    answer = bare.run("setup")
    assert answer.code == 0, answer
    assert bare.works()


def test_two_at_once_set_up_one_after_the_other(bare: Miniature) -> None:
    children = [bare.start("setup") for _ in range(2)]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    printed = "".join(output for output, _error in outputs)
    assert printed.count("Python packages into .venv") == 1
    assert printed.count("waiting for another dev.py") == 1
    assert bare.works()


def test_arguments_and_exit_code_of_the_demo_are_its_own(ready: Miniature) -> None:
    answer = ready.run("demo", "--json", "--agents", "3")
    assert (answer.code, answer.output) == (3, "['demo', '--json', '--agents', '3']\n")


@POSIX
def test_a_signal_to_stop_reaches_the_demo(ready: Miniature) -> None:
    child = ready.start("demo", "--wait")
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=30)
    assert output == "stopped well\n"
    assert child.returncode == 0


def put_tools(project: Miniature, *, failing: int = 0) -> None:
    """In place of the tools, programs that say what they were given; two of the checks end with an exit code."""
    for name, code in (("ruff", 0), ("lint-imports", failing)):
        program = project.python.with_name(name)
        program.write_text(f"#!/bin/sh\necho {name} ran\nexit {code}\n")
        program.chmod(0o755)
    # A module of the same second and size would be taken for the one that was compiled before.
    shutil.rmtree(project.root / "__pycache__", ignore_errors=True)
    mypy = f"print('mypy ran')\nraise SystemExit({failing})\n"
    for name, text in {"mypy": mypy, "pytest": TESTS, "coverage": COVERAGE}.items():
        (project.root / f"{name}.py").write_text(text)


@POSIX
@pytest.mark.parametrize("failing", [0, 1])
def test_every_check_and_the_tests_run_and_what_failed_is_said_last(ready: Miniature, failing: int) -> None:
    put_tools(ready, failing=failing)
    answer = ready.run("test", "--require-all", "-k", "name")
    assert answer.code == failing
    assert answer.output.count("ruff ran") == 2
    assert ("lint-imports failed; the tests run all the same" in answer.output) == bool(failing)
    several = r"tests -n [1-8] --dist loadfile \S+ (?:--ignore=\S+ )+--require-all -k name\n7 passed\n"
    types = r"\n\$ python -m mypy\nmypy ran\n"
    alone = r"(?:.*\n)*tests tests/security/\S+ --require-all -k name\n7 passed\n"
    last = r"\nlint-imports, python -m mypy failed\n" if failing else ""
    assert re.search(several + types + alone + last + r"\Z", answer.output), "types are checked beside the tests"


@POSIX
@pytest.mark.parametrize(
    ("options", "floor", "code"),
    [([], [], 1), (["--require-all"], [], 1), (["tests/unit"], ["--fail-under=0"], 0)],
)
def test_coverage_is_counted_on_request_and_must_suffice_where_every_test_ran(
    ready: Miniature, options: list[str], floor: list[str], code: int
) -> None:
    put_tools(ready)
    answer = ready.run("test", "--coverage", *options)
    assert answer.code == code
    erase, run, *alone, combine, report = [
        line.split()[1:] for line in answer.output.splitlines() if line.startswith("coverage ")
    ]
    assert (erase, combine, report) == (["erase"], ["combine", "--quiet"], ["report", *floor])
    assert run[:4] == ["run", "-m", "pytest", "-n"]
    assert [option for option in run[8:] if not option.startswith("--ignore=")] == options
    assert len(alone) == (options != ["tests/unit"])


def test_without_network_the_cure_is_named(bare: Miniature) -> None:
    (bare.root / "requirements-dev.lock").write_text(f"certcast-no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    nowhere = "http://127.0.0.1:9"
    line = refused(bare.run("setup", HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere, https_proxy=nowhere, no_proxy=""))
    assert "check the network" in line
    assert "Traceback" not in bare.log.read_text()


def test_without_node_the_cure_is_named(ready: Miniature) -> None:
    shutil.rmtree(ready.root / "node_modules")
    assert "put node 20 or newer" in refused(ready.run("setup", PATH=str(ready.root)))
    assert ready.run("setup").code == 0


def test_without_ensurepip_the_package_to_install_is_named(bare: Miniature) -> None:
    preparation = "sys.modules['ensurepip'] = None"
    line = refused(bare.run_with(preparation, "setup"))
    assert f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-venv" in line


def test_on_a_full_disk_nothing_is_begun(bare: Miniature) -> None:
    preparation = "import shutil; shutil.disk_usage = lambda path: type('', (), {'free': 5_000_000})"
    assert "the disk has 5 MB left" in refused(bare.run_with(preparation, "setup"))
    assert not (bare.root / ".venv").exists()


def test_an_old_python_is_told_so(bare: Miniature) -> None:
    line = refused(bare.run_with("sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'", "setup"))
    assert "needs Python 3.11 or newer and this is 3.10.4" in line


def test_a_missing_lock_file_is_named(ready: Miniature) -> None:
    lock = ready.root / "package-lock.json"
    text = lock.read_text()
    lock.unlink()
    assert "package-lock.json: No such file" in refused(ready.run("setup"))
    lock.write_text(text)
    assert ready.run("setup").code == 0


@pytest.mark.parametrize(
    "arguments", [["tset"], ["setup", "now"], ["lock", "--chekc"], ["bench", "--jsn"], ["bench", "nothing"]]
)
def test_a_mistyped_command_line_is_refused(bare: Miniature, arguments: list[str]) -> None:
    refused(bare.run(*arguments))
    assert not (bare.root / ".venv").exists()
