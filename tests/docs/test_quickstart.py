"""The quickstart, pasted block by block into one shell beside one local cloud; what it shows is what is said."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.docs.shown import run_here, shown_on
from tests.docs.test_local_cloud import EMULATOR, cloud_of_the_readme, without_programs
from tests.rigs.pages import text_of
from tests.rigs.programs import needs

PAGE = Path("docs/quickstart.md")
SETUP, *BLOCKS = [shown.text for shown in shown_on(PAGE)]
START, *PASTED = [run_here(PAGE, block, alike=True) for block in BLOCKS]
"""What is typed into the first terminal, and into the second."""
_FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", text_of(PAGE), re.DOTALL | re.MULTILINE)
_, *SHOWN = [
    after if language == "text" else ""
    for (shell, _), (language, after) in zip_longest(_FENCES, _FENCES[1:], fillvalue=("", ""))
    if shell == "sh"
]
"""What the page shows after each block; empty for nothing."""
SAID, PATIENCE_S = "--- said", 150

pytestmark = [
    needs("openssl", "bash"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell"),
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each block says, stdout and stderr as a terminal has them."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    with cloud_of_the_readme(folder, START) as printed:
        script = "".join(f"{block}echo '{SAID}'\n" for block in PASTED)
        [connection_string] = re.findall(r"^  (DefaultEndpointsProtocol=\S+)$", printed, re.MULTILINE)
        ports = re.findall(r"^  agent-\d +https://127\.0\.0\.1:(\d+)$", printed, re.MULTILINE)
        for here, there in [(EMULATOR, connection_string), *zip(("8443", "8543", "8643"), ports, strict=True)]:
            assert script.count(here) == 1
            script = script.replace(here, there)
        ran = subprocess.run(
            ["bash"],
            cwd=folder,
            env=without_programs() | {"CERTCAST_STORAGE": connection_string, "PYTHONUNBUFFERED": "1"},
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    *told, rest = ran.stdout.split(f"{SAID}\n")
    assert not rest
    return [printed, *told]


def shape(text: str) -> Iterator[str]:
    """Its lines without what is another each time: widths, numbers, months, fingerprints."""
    for line in text.splitlines():
        if words := " ".join(line.split()).replace(" = ", "="):
            masked = re.sub(r"\b[0-9a-f]{12,}\b", "H", words)
            masked = re.sub(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "Mon", masked)
            yield re.sub("─+", "─", re.sub(r"\d+", "N", masked))


def as_pattern(shown: str) -> str:
    """Of what a page shows, in which a line `…` stands for any lines, and `…` at the end of a line for its rest."""
    lines = [(re.escape(line.rstrip("…")), ".*" if line.endswith("…") else "") for line in shape(shown)]
    return "".join(rf"{begins}{rest}\n" if begins else r"(?:.*\n)*?" for begins, rest in lines)


def test_it_shows_what_most_of_its_blocks_say() -> None:
    assert len(SHOWN) == len(BLOCKS)
    assert len(list(filter(None, SHOWN))) >= len(BLOCKS) - 1


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda number: BLOCKS[number].splitlines()[-1][:60])
def test_what_is_shown_is_what_is_said(said: list[str], number: int) -> None:
    lines = "".join(f"{line}\n" for line in shape(said[number]))
    assert not SHOWN[number] or re.fullmatch(as_pattern(SHOWN[number]), lines), said[number]
