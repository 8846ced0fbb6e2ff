"""Processes that judge, where the app's packages are found as in the cloud's worker: by a path made in the process."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.rigs.certificates import self_signed
from tests.rigs.deployment import ROOT

PASSWORD = "hunter 2"

PROGRAM = """
import asyncio, base64, json, os, sys
app, elsewhere, packages = sys.argv[1:]
os.chdir(app)
sys.path[:0] = json.loads(packages)
from datetime import UTC, datetime
from shared.upload import UploadMetadata
from shared.validation.judge import ValidationPolicy
from shared.validation.tasks import Task
from shared.validation.trust import Trust
from shared.validation.workers import Workers


async def main():
    os.chdir(elsewhere)
    workers = Workers(ValidationPolicy(trust=Trust.from_setting("off")))
    content = base64.b64decode(sys.stdin.read())
    task = Task.of_pfx(content, UploadMetadata(), [%r], now=datetime.now(UTC))
    print((await workers.judge(task)).judged.bundle.fingerprint_sha256)
    await workers.close()


asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["absolute", "relative"])
def test_they_find_the_apps_packages_though_no_environment_names_them_and_the_directory_changed(
    way: str, tmp_path: Path
) -> None:
    issued = self_signed("a.example.com")
    app, elsewhere = tmp_path / "app", tmp_path / "elsewhere"
    app.mkdir()
    elsewhere.mkdir()
    (app / "shared").symlink_to(ROOT / "shared")
    packages = app / ".python_packages" / "lib" / "site-packages"
    packages.parent.mkdir(parents=True)
    packages.symlink_to(sysconfig.get_paths()["purelib"])
    path = [str(packages), str(app)] if way == "absolute" else [".python_packages/lib/site-packages", ""]
    venv.create(tmp_path / "bare", symlinks=True)  # an interpreter without packages
    bare = tmp_path / "bare" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    assert subprocess.run([bare, "-I", "-c", "import cryptography"], capture_output=True, check=False).returncode
    done = subprocess.run(
        [bare, "-I", "-c", PROGRAM % PASSWORD.encode(), app, elsewhere, json.dumps(path)],
        input=base64.b64encode(issued.pfx(PASSWORD)),
        env={},
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().strip() == issued.fingerprint, done.stderr.decode()
