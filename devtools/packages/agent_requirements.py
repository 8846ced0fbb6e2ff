"""`requirements-agent.txt`: what the wheel needs on an instance, in the locked versions, for pip's --require-hashes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from devtools.cures import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from devtools.environment import Environment

NAME = "requirements-agent.txt"
LOCK = "infra/agent/requirements.lock"
_PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( ; .+?)?( --hash=sha256:[0-9a-f]{64})+")
_HEAD = """\
# What certcast's agent needs on Linux and on Windows, in the versions and with the hashes that were tested:
#    pip install --require-hashes --only-binary :all: --requirement requirements-agent.txt
"""


def write(here: Environment, into: Path) -> Path:
    """Write the file into a folder, which is made where there is none, and answer its path.

    Raises:
        SetupError: The lock file has something that is not pinned, or pinned without a hash.
    """
    text = (here.root / LOCK).read_text(encoding="utf-8")
    stated = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    body = "\n".join(stated) + "\n"
    for requirement in body.replace(" \\\n    ", " ").splitlines():
        if not _PINNED.fullmatch(requirement):
            raise SetupError(f"{LOCK}: {requirement[:100]!r} is not pinned with hashes; run `python3 dev.py lock`")
    into.mkdir(parents=True, exist_ok=True)
    path = into / NAME
    path.write_text(_HEAD + body, encoding="utf-8", newline="\n")
    return path
