"""A folder to work in beside a local cloud: where the blocks of how-tos and the steps of pipelines are run."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instance_agent.installing.probe import served_fingerprint
from tests.rigs.vault_way import VaultWay
from tests.rigs.witness import Witness

SHARED, BOOKS = range(2)
"""The instances, by number, which is also what their roles are called."""
OWN = Path(sys.executable).parent
"""Where `certcast` and Python are."""

_VARIABLE = re.compile(r"\$\{\{ vars\.(\w+) \}\}")
_PYTHON = f"""#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 64
mkdir -p "$3/bin" && ln -sf "{OWN}/certcast" "$3/bin/certcast"
printf '#!/bin/sh\\necho "pip $*"\\n' > "$3/bin/pip" && chmod 700 "$3/bin/pip"
"""
"""Makes an environment in which pip says how it was called, and `certcast` is this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a script came to: its exit code, and what it said on both outputs together."""

    code: int
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A folder to work in beside a local cloud.

    Attributes:
        folder: Blocks run in it.
        cloud: The local cloud.
        way: Its key vault.
        secrets: The folder in which the stand-in for `az` has the vault's secrets.
        environment: What blocks run with: `az`, `certcast` and Python are found, and the account is this one.
    """

    folder: Path
    cloud: Witness
    way: VaultWay
    secrets: Path
    environment: Mapping[str, str] = field(repr=False)

    async def try_out(self, script: str, *bash: str, **environment: str) -> Ran:
        """Run a script by bash."""
        process = await asyncio.create_subprocess_exec(
            *("bash", *bash, "-c", script),
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode is not None
        return Ran(code=process.returncode, said=said.decode())

    async def run(self, *blocks: str) -> str:
        """Run blocks of a page as one script, to a good end; answers what they say."""
        ran = await self.try_out("\n".join(blocks), "-euo", "pipefail")
        assert ran.code == 0, ran.said
        return ran.said

    async def shows(self, host: str) -> list[str]:
        """The fingerprints that both instances show for a host."""
        numbers = (SHARED, BOOKS)
        return [await served_fingerprint(self.cloud.platform.tls_address(it, 443), host, timeout_s=5) for it in numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A machine of GitHub's, as far as a workflow's shell steps use one.

    Attributes:
        desk: Where it gets `az` and the account from.
        checkout: The repository.
        temporary: `RUNNER_TEMP`.
        programs: What is installed there.
    """

    desk: Desk
    checkout: Path
    temporary: Path
    programs: Path

    async def run(self, job: Mapping[str, Any], variables: Mapping[str, str]) -> Ran:
        """Run a job's shell steps, each by `bash -e` as GitHub does; the log, and the first exit code that is not 0."""
        given = {name: _VARIABLE.sub(lambda it: variables[it[1]], value) for name, value in job["env"].items()}
        without = [folder for folder in self.desk.environment["PATH"].split(os.pathsep) if folder != str(OWN)]
        added = self.temporary / "path"
        code, log = 0, ""
        for step in job["steps"]:
            if "run" not in step or (code and step.get("if") != "always()"):
                continue
            added.touch()
            ran = await self.desk.try_out(
                f"cd {self.checkout}\n{step['run']}",
                "-e",
                **given,
                PATH=os.pathsep.join([*added.read_text("utf-8").split(), str(self.programs), *without]),
                RUNNER_TEMP=str(self.temporary),
                GITHUB_PATH=str(added),
            )
            code, log = code or ran.code, log + ran.said
        return Ran(code=code, said=log)


def runner_in(folder: Path, desk: Desk) -> Runner:
    """A runner whose repository has a wheel of certcast."""
    made = [folder / name for name in ("checkout", "temporary", "programs")]
    for each in made:
        each.mkdir()
    checkout, temporary, programs = made
    (checkout / "certcast").mkdir()
    (checkout / "certcast" / "certcast-1.0-py3-none-any.whl").touch()
    (programs / "python").write_text(_PYTHON, encoding="utf-8")
    (programs / "python").chmod(0o700)
    return Runner(desk=desk, checkout=checkout, temporary=temporary, programs=programs)
