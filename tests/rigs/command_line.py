"""The `certcast` command as a person runs it: a process of its own, what it printed and its exit code."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One finished command.

    Attributes:
        code: Its exit code.
        out: What it printed on stdout.
        err: What it printed on stderr.
    """

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; fails when there is anything else."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


def clean_environment(**settings: str) -> dict[str, str]:
    """This environment without any certcast setting but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCAST_")}
    return {**inherited, **settings}


async def certcast(*arguments: str | os.PathLike[str], stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
    """Run one command line to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "operator_cli", *(os.fspath(argument) for argument in arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment() if env is None else dict(env),
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(code=process.returncode, out=out.decode(), err=err.decode())
