"""Packs what azd deploys into build/function: the app, and its packages as infra/hooks/function.lock pins them.

A hook of azure.yaml, run by the Python that there is (azd itself asks for one), so that nothing but its standard
library and pip is used. The packages are those for the cloud's Python and Linux, whatever runs this; none is built. A
remote build would install them on the other side, and was seen to take another Python than the app has
(github.com/Azure/azure-dev/issues/8538), for which requirements.txt has other packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "function"
LOCK = Path(__file__).with_name("function.lock")
APP = ("function_app.py", "host.json", "requirements.txt", "shared")
PYTHON = "3.13"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Of the wheels; the newest asks for glibc 2.28, which Debian has since 10."""


class PackagingError(Exception):
    """The package was not made; the text says why and what to do."""


def pack(into: Path) -> None:
    """Make the folder that is deployed, or leave what was there as it is.

    Args:
        into: The folder; what is in it is replaced.

    Raises:
        PackagingError: pip is missing or failed.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f"{into.name}-") as scratch:
        fresh = Path(scratch) / "app"
        fresh.mkdir()
        for name in APP:
            copy = _copy_folder if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, fresh / name)
        # Where the worker looks for packages that came with the app (azure-functions-core-tools, packapp).
        _install(fresh / ".python_packages" / "lib" / "site-packages")
        shutil.rmtree(into, ignore_errors=True)
        fresh.rename(into)


def _copy_folder(folder: Path, copy: Path) -> None:
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))


def _install(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
        raise PackagingError(
            f"{sys.executable} has no pip: on Debian and Ubuntu `sudo apt-get install python3-pip`, elsewhere use the"
            " Python of python.org; then run it again"
        )
    # The lock names everything for this one platform: nothing is resolved, no marker and no Requires-Python is asked of
    # the Python that runs this.
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "--quiet"]
    options += ["--ignore-requires-python"]
    options += ["--implementation", "cp", "--python-version", PYTHON, "--disable-pip-version-check"]
    options += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run([*pip, "install", *options, "--target", str(folder), "--requirement", str(LOCK)], check=False)
    if done.returncode != 0:
        raise PackagingError("pip could not fetch the locked packages; its own words are above. Put that right")


def main() -> int:
    """Pack; answers the exit code."""
    try:
        pack(FOLDER)
    except PackagingError as error:
        print(f"package: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"package: {error.filename or FOLDER}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"package: the app and its packages for Python {PYTHON} are in {FOLDER.relative_to(ROOT).as_posix()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
