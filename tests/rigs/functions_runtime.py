"""The deployed app under Microsoft's runtime: its environment, its files, and a process in the cloud worker's place."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tests.rigs.deployment import ROOT, deployed_files
from tests.rigs.interpreters import python_3_13

_DRIVER = Path(__file__).with_name("runtime_driver.py")
_LOCKS = (ROOT / "requirements.txt", ROOT / "tests" / "runtime.lock")
_ANSWER_WITHIN_S = 120


def environment_python() -> Path:
    """The interpreter of an environment that holds what the cloud installs, and no more; made once for each lock.

    requirements.txt is installed alone, as a deployment does it, and Microsoft's runtime after it.
    """
    base = python_3_13()
    assert base is not None, "needs Python 3.13: install it from python.org or with pyenv"
    key = hashlib.sha256(b"\0".join([str(base).encode(), *(lock.read_bytes() for lock in _LOCKS)])).hexdigest()[:16]
    made = ROOT / ".cache" / f"functions-runtime-{key}"
    if not made.exists():
        for older in made.parent.glob("functions-runtime-*"):
            shutil.rmtree(older, ignore_errors=True)
        made.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent, ignore_cleanup_errors=True) as scratch:
            fresh = Path(scratch, "environment")
            uv = Path(sysconfig.get_path("scripts"), "uv")
            _run(uv, "venv", "--quiet", "--python", base, fresh)
            for lock in _LOCKS:
                _run(uv, "pip", "install", "--quiet", "--python", _python(fresh), "--require-hashes", "-r", lock)
            with contextlib.suppress(OSError):  # another run was faster
                fresh.rename(made)
    return _python(made)


def deploy(folder: Path) -> Path:
    """Copy into an empty folder what a deployment uploads."""
    for path in deployed_files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    return folder


class Worker:
    """A worker process with the app loaded.

    Attributes:
        functions: What was indexed: name to bindings, as the host is told.
        error: Why the app did not load, empty when it did.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path, indexed: Mapping[str, Any]) -> None:
        self._process = process
        self._log = log
        self.error: str = indexed.get("error", "")
        self.functions: dict[str, list[dict[str, Any]]] = {
            name: function["bindings"] for name, function in indexed.get("functions", {}).items()
        }

    @property
    def log(self) -> str:
        """What the app and the runtime have printed and logged."""
        return _text(self._log)

    @property
    def records(self) -> list[dict[str, str]]:
        """What the app and the SDKs have logged, and what became of it in the host."""
        return [
            json.loads(line.removeprefix("RECORD ")) for line in self.log.splitlines() if line.startswith("RECORD ")
        ]

    async def invoke(self, function: str, **call: Any) -> str:
        """Invoke a function; answers the error it ended with, empty for success."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"function": function, **call}).encode() + b"\n")
        answer = await _answer(self._process, self._log)
        return "" if answer["ok"] else f"{answer['error']}\n{answer['trace']}"

    async def deliver_event(self, event: object, function: str = "on_blob_event") -> str:
        """Invoke a function with one event, which may be anything that is JSON."""
        return await self.invoke(function, parameter="event", kind="json", value=json.dumps(event))

    async def deliver_message(self, function: str, body: str) -> str:
        """Invoke a queue function with one message."""
        metadata = {"Id": "1", "DequeueCount": "1", "PopReceipt": "1"}
        return await self.invoke(function, parameter="message", kind="string", value=body, metadata=metadata)


@contextlib.asynccontextmanager
async def worker(app: Path, settings: Mapping[str, str], log: Path) -> AsyncIterator[Worker]:
    """Run a worker on an app folder, with these application settings and little else in its environment."""
    python = await asyncio.to_thread(environment_python)
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP") if name in os.environ}
    with log.open("wb") as printed:
        process = await asyncio.create_subprocess_exec(
            *(python, "-I", _DRIVER, app),
            cwd=app,
            env={**kept, **settings},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=printed,
        )
    try:
        yield Worker(process, log, await _answer(process, log))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answer(process: asyncio.subprocess.Process, log: Path) -> Any:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), _ANSWER_WITHIN_S)
    assert line, f"the worker ended: {_text(log)[-2000:]}"
    return json.loads(line)


def _text(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
