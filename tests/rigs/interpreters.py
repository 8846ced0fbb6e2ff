"""Other Pythons on this machine, which tests of another version run."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path


@functools.cache
def python_3_13() -> Path | None:
    """A Python 3.13, the version that Microsoft's Functions runtime is tested with here; None if there is none.

    Looked for in this process, on PATH and among pyenv's versions; each is asked, since a version manager puts
    programs on PATH that only say that the version is not chosen.
    """
    found = shutil.which("python3.13")
    candidates = [Path(sys.executable), *([Path(found)] if found else [])]
    candidates += sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python3.13"), reverse=True)
    return next((candidate for candidate in candidates if _is_3_13(candidate)), None)


def _is_3_13(python: Path) -> bool:
    # A free-threaded build has no wheels of what is locked.
    asks = "import sys, sysconfig; print(*sys.version_info[:2], bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
    try:
        answer = subprocess.run([python, "-I", "-c", asks], capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return False
    return answer.stdout.split() == ["3", "13", "False"]
