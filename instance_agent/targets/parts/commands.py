"""Runs a server's own programs: an argument list, a time limit, what they printed; there is never a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOT_PASSED_ON = ("CERTCAST_", "AZURE_")  # the agent's settings hold secrets, and no server program needs them
_SHOWN_CHARS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended.

    Attributes:
        arguments: The program and its arguments.
        problem: Why it counts as failed, a whole clause; empty when it ended with exit code 0.
        output: What it printed to standard output and standard error.
    """

    arguments: tuple[str, ...]
    problem: str
    output: str

    @property
    def failure(self) -> str | None:
        """A sentence with the end of the output; None when it succeeded."""
        if not self.problem:
            return None
        said = " | ".join(line.strip() for line in self.output.splitlines() if line.strip())[-_SHOWN_CHARS:]
        return f"`{shlex.join(self.arguments)}` {self.problem}{f': {said}' if said else ''}"


async def run(arguments: Sequence[str], *, timeout_s: float) -> Finished:
    """Run a program to its end, or end it with everything it started when the time is over.

    Its output goes to a file rather than a pipe, which a daemon started by it would hold open for ever.

    Raises:
        ConfigurationError: There is no such program.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_passed_on(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigurationError(f"{arguments[0]} cannot be run: {error.strerror}") from None
        problem = ""
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            problem = f"did not end within {timeout_s:g} s"
        else:
            problem = f"ended with exit code {code}" if code else ""
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    return Finished(arguments=tuple(arguments), problem=problem, output=text)


def argument_list(env: Mapping[str, str], name: str, *, default: str = "") -> tuple[str, ...]:
    """Read a setting that holds a command line; it is split as a shell would, and nothing in it is expanded.

    Raises:
        ConfigurationError: A quotation mark in it is not closed.
    """
    try:
        return tuple(shlex.split(env.get(name, "").strip() or default))
    except ValueError:
        raise ConfigurationError(f"{name} has a quotation mark that is not closed") from None


def _passed_on(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(_NOT_PASSED_ON)} | {"LC_ALL": "C"}
