"""The commands of the Azure CLI that the pages show, and the CLI's own grammar for them.

The grammar is in azure_cli.json, with the CLI's version: of each command that the pages show, the options that they use
and those that it requires, as the CLI's parser has them. To write it for changed pages:
`uv run --no-project --with azure-cli==2.91.* --with pathspec python -m tests.rigs.azure_cli`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tests.rigs.pages import DEPLOY, EVENTS, OPERATIONS, PAGES, SOURCES, prose_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GRAMMAR = Path(__file__).with_suffix(".json")
BASH = "/bin/bash"

_PROGRAMS = (
    *(
        "az",
        "azd",
        "cat",
        "certcast",
        "curl",
        "date",
        "func",
        "grep",
        "jq",
        "openssl",
        "pip",
        "python3",
        "sort",
        "sudo",
    ),
    "uniq",
)
"""What the blocks with `az` in them run; anything else ends the script, so that nothing of a page runs in earnest."""
_STUB = """#!/bin/bash
case "${0##*/}" in az | azd) printf '%s\\0' "$@" '' >> "$RECORD.${0##*/}" ;; esac
case "${0##*/}" in jq) echo null ;; *) echo "${0##*/}" ;; esac
"""
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_AZ = re.compile(r"(?:^|\s|\()az ")
_INDENTED = re.compile(r"(?:^ {4}az .*\n)(?:^ {6}.*\n)*", re.MULTILINE)


def script_of(page: Path) -> str:
    """A page's shell blocks with `az` in them, and such lines that are code by their indentation, as one script.

    docs/deploy.md is a whole: what one block sets, others use, and some pages go on from there.
    """
    text = text_of(page)
    blocks = [block for _, block in _BLOCK.findall(text) if page == DEPLOY or _AZ.search(block)]
    before = [script_of(DEPLOY)] if page in {EVENTS, OPERATIONS, SOURCES} else []
    return "\n".join([*before, *map(textwrap.dedent, [*blocks, *_INDENTED.findall(_BLOCK.sub("", text))])])


def run_blocks(page: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a page's script by bash, in a folder, with programs that only write down how they were called.

    A variable that was not set before ends it, and so does a program that is none of those.
    """
    programs = folder / "programs"
    programs.mkdir()
    for name in _PROGRAMS:
        (programs / name).write_text(_STUB)
        (programs / name).chmod(0o700)
    record = folder / "record"
    for program in ("az", "azd"):
        record.with_suffix(f".{program}").touch()
    return subprocess.run(
        [BASH, "-e", "-u", "-c", script_of(page)],
        cwd=folder,
        env={"PATH": str(programs), "RECORD": str(record), "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )


def recorded(folder: Path, program: str = "az") -> list[list[str]]:
    """How `az` was called in that folder, or `azd`."""
    calls = (folder / f"record.{program}").read_text("utf-8").split("\0\0")
    return [call.removeprefix("\0").split("\0") for call in calls if call]


def inline(page: Path, program: str = "az") -> list[list[str]]:
    """The commands within a page's sentences; some are only named."""
    spans = re.findall(rf"`{program} ([^`…]+)`", prose_of(page))
    return [shlex.split(span) for span in spans if " " in span]


@cache
def grammar() -> Mapping[str, Any]:
    """The file's document: `version`, and by command the list of its options."""
    document: Mapping[str, Any] = json.loads(GRAMMAR.read_text("utf-8"))
    return document


class UnknownCommandError(Exception):
    """The Azure CLI would refuse it, or it is not in the grammar yet."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UnknownCommandError(message)


def command_of(words: Sequence[str]) -> str:
    """The command within a call: the words before the first option."""
    named = [*words, "-"]
    return " ".join(named[: next(at for at, word in enumerate(named) if word.startswith("-"))])


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Parse a call as the CLI does.

    Returns:
        What it gives for each option, by the option's first name.

    Raises:
        UnknownCommandError: It has an unknown option or value, or lacks one that is required.
    """
    command = command_of(words)
    if command not in grammar()["commands"]:
        raise UnknownCommandError(
            f"az {command} is not in {GRAMMAR.name}; the head of {Path(__file__).name} says how it is written"
        )
    parser = _Parser(prog=f"az {command}", add_help=False, allow_abbrev=False)
    for option in grammar()["commands"][command]:
        more: dict[str, Any] = {"action": "store_true"}
        if option["takes"] != 0:
            # The CLI does not mind the case of a value that is one of several.
            more = {"nargs": option["takes"], "type": str.lower} if "choices" in option else {"nargs": option["takes"]}
            more |= {"choices": [each.lower() for each in option.get("choices", [])] or None}
        parser.add_argument(*option["names"], dest=option["names"][0], required=option["required"], **more)
    given = vars(parser.parse_args(words[len(command.split()) :]))
    return {name: value for name, value in given.items() if value not in (None, False)}


def _options(parser: argparse.ArgumentParser, used: set[str]) -> Iterator[dict[str, Any]]:
    for action in parser._actions:
        if action.required or used & {str(name) for name in action.option_strings}:
            option: dict[str, Any] = {
                "names": [str(name) for name in action.option_strings],
                "takes": action.nargs,
                "required": action.required,
            }
            if action.choices:
                option["choices"] = sorted(str(choice) for choice in action.choices)
            yield option


def record(calls: Sequence[Sequence[str]]) -> Mapping[str, Any]:
    """The grammar of these commands, from the Azure CLI that is installed."""
    # Of another environment, whose types are not known here.
    core, parsing = (importlib.import_module(name) for name in ("azure.cli.core", "azure.cli.core.parser"))

    class _Loaded(BaseException):
        pass

    def loaded(parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        raise _Loaded(parser)

    parsing.AzCliCommandParser.parse_args = loaded
    used: dict[str, set[str]] = {}
    for words in calls:
        used.setdefault(command_of(words), set()).update(word for word in words if word.startswith("-"))
    commands = {}
    for command in sorted(used):
        try:
            core.get_default_cli().invoke(command.split())
        except _Loaded as found:
            [parser] = found.args
        for word in command.split():
            [choice] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
            parser = choice.choices[word]
        commands[command] = list(_options(parser, used[command]))
    return {"version": core.__version__, "commands": commands}


def _laid_out(document: Mapping[str, Any]) -> str:
    """One option on a line."""
    commands = [
        f"  {json.dumps(command)}: [\n" + ",\n".join(f"   {json.dumps(option)}" for option in options) + "\n  ]"
        for command, options in document["commands"].items()
    ]
    return f'{{\n "version": "{document["version"]}",\n "commands": {{\n' + ",\n".join(commands) + "\n }\n}\n"


def main() -> None:
    """Write the grammar of all commands that the pages show."""
    calls = [call for page in PAGES for call in inline(page)]
    for page in filter(script_of, PAGES):
        with tempfile.TemporaryDirectory() as folder:
            run_blocks(page, Path(folder))
            calls += recorded(Path(folder))
    with tempfile.TemporaryDirectory() as configuration:
        os.environ.update(AZURE_CONFIG_DIR=configuration, AZURE_CORE_COLLECT_TELEMETRY="no")
        document = record(calls)
    GRAMMAR.write_text(_laid_out(document), encoding="utf-8")
    sys.stdout.write(f"{len(document['commands'])} commands of Azure CLI {document['version']}\n")


if __name__ == "__main__":
    main()
