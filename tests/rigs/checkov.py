"""Checkov, which looks for weak settings in Bicep files, in an environment of its own: it pins much that we use."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tests.rigs.deployment import ROOT

_LOCK = ROOT / "tests" / "checkov.lock"


def environment() -> Path:
    """The environment's programs; made once for each lock and interpreter."""
    key = hashlib.sha256(b"\0".join([sys.version.encode(), str(ROOT).encode(), _LOCK.read_bytes()])).hexdigest()[:16]
    made = ROOT / ".cache" / f"checkov-{key}"
    programs = made / ("Scripts" if os.name == "nt" else "bin")
    if not (made / "complete").exists():
        for older in made.parent.glob("checkov-*"):
            shutil.rmtree(older, ignore_errors=True)
        uv = Path(sysconfig.get_path("scripts"), "uv")
        _run(uv, "venv", "--quiet", "--python", sys.executable, made)
        _run(uv, "pip", "install", "--quiet", "--python", programs / "python", "--require-hashes", "-r", _LOCK)
        (made / "complete").touch()
    return programs


def checked(folder: Path) -> Any:
    """Checkov's report on the Bicep files of a folder; it asks nothing of the network."""
    options = ["--framework", "bicep", "--skip-download", "--compact", "--output", "json"]
    done = subprocess.run(
        [environment() / "checkov", "--directory", folder, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )
    assert done.stdout.startswith("{"), done.stderr
    return json.loads(done.stdout)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
