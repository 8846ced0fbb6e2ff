"""The commands of the Azure Developer CLI that the pages show, and what it takes.

The grammar is in azd_cli.json: of each command its arguments and options, as azd's own tests of its help texts have
them (github.com/Azure/azure-dev, cli/azd/cmd/testdata/TestUsage-azd-*.snap), with the commit that they are of. To
write it for changed pages: `python -m tests.rigs.azd_cli CLONE` with a clone of that repository.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.rigs.azure_cli import UnknownCommandError

GRAMMAR = Path(__file__).with_suffix(".json")
COMMANDS = ("auth login", "deploy", "down", "env get-value", "env new", "env set", "hooks run", "provision", "up")

_OPTION = re.compile(r"^ +(?:(-\w), )?(--[\w-]+) ?(\w*)\s*:", re.MULTILINE)
_USAGE = re.compile(r"^Usage\n  azd (.+) \[flags\]$", re.MULTILINE)


@cache
def grammar() -> Mapping[str, Any]:
    """The file's document: `commit`, and by command its `usage` and, by option, whether that takes a value."""
    document: Mapping[str, Any] = json.loads(GRAMMAR.read_text("utf-8"))
    return document


def parse(words: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    """Take a call apart as azd does.

    Returns:
        The command, its arguments, and what it gives for each option.

    Raises:
        UnknownCommandError: azd would refuse it, or it is not in the grammar.
    """
    found = [name for name in grammar()["commands"] if [*words[: len(name.split())]] == name.split()]
    if len(found) != 1:
        raise UnknownCommandError(f"azd {' '.join(words)} is not in {GRAMMAR.name}")
    [command] = found
    usage, known = (grammar()["commands"][command][part] for part in ("usage", "options"))
    rest = [*words[len(command.split()) :]]
    arguments: list[str] = []
    options: dict[str, str] = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            arguments.append(word)
        elif word not in known:
            raise UnknownCommandError(f"azd {command} has no option {word}")
        else:
            options[word] = rest.pop(0) if known[word] else ""
    # `azd deploy` takes no service, whatever its usage says: "By default, deploys all services".
    if not usage.startswith("[") and command != "deploy" and len(arguments) != usage.count("<"):
        raise UnknownCommandError(f"azd {command} takes {usage or 'no argument'}, not {arguments}")
    return command, arguments, options


def record(clone: Path) -> Mapping[str, Any]:
    """The grammar of the commands, from a clone's newest commit."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", clone, *words], capture_output=True, text=True, check=True).stdout

    commands = {}
    for command in COMMANDS:
        text = git("show", f"HEAD:cli/azd/cmd/testdata/TestUsage-azd-{command.replace(' ', '-')}.snap")
        [usage] = _USAGE.findall(text)
        options = {name: bool(kind) for *names, kind in _OPTION.findall(text) for name in names if name}
        commands[command] = {"usage": usage.removeprefix(command).strip(), "options": options}
    return {"commit": git("rev-parse", "HEAD").strip(), "commands": commands}


if __name__ == "__main__":
    document = record(Path(sys.argv[1]))
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(taken)}" for name, taken in document["commands"].items())
    text = f'{{\n "commit": "{document["commit"]}",\n "commands": {{\n{lines}\n }}\n}}\n'
    GRAMMAR.write_text(text, encoding="utf-8")
