"""What stands in, beside `az.py`, for what an operator's afternoon asks of Azure and of package indexes.

`az` answers here for resources and roles, and leaves the rest to `az.py`; `azd` parses as azd does, and knows what the
Bicep files put out; `pip` refuses what is not locked, and puts `certcast` where `python3 -m venv` said.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.rigs import azd_cli
from tests.rigs.azure_cli import command_of, parse
from tests.rigs.deployment import ROOT

_OUTPUTS = "STAND_IN_OUTPUTS"
_ANSWERS = {
    "login": "",
    "role assignment delete": "",
    "role definition delete": "",
    "role definition list": "certcast agent queues",
    "storage account show": "/subscriptions/x/resourceGroups/x/providers/Microsoft.Storage/storageAccounts/certcast",
    "vm identity assign": "",
    "vmss identity assign": "",
}
_CLI = """#!/bin/sh
PYTHONPATH="{root}" exec "{python}" -m {module} {name} "$@"
"""
_PIP = """#!/bin/sh -e
case "$*" in
    "install --require-hashes --requirement "*) test -f "{root}/$4" ;;
    "install --no-deps --no-build-isolation .") ln -s "{certcast}" "$HOME/.certcast/bin/certcast" ;;
    *) echo "pip $*: this would install what is not locked" >&2; exit 1 ;;
esac
"""
_PYTHON = """#!/bin/sh -e
test "$1 $2" = "-m venv"
mkdir -p "$3/bin"
"""


def install(programs: Path, outputs: Mapping[str, str]) -> dict[str, str]:
    """Put them into a folder of programs.

    Args:
        programs: The folder.
        outputs: What `azd` says was put out.

    Returns:
        What the environment of its callers needs.
    """
    for name, text in (("az", _CLI), ("azd", _CLI), ("pip", _PIP), ("python3", _PYTHON)):
        words = {
            "root": ROOT,
            "python": sys.executable,
            "module": __name__,
            "name": name,
            "certcast": Path(sys.executable).with_name("certcast"),
        }
        (programs / name).write_text(text.format(**words), encoding="utf-8")
        (programs / name).chmod(0o700)
    return {_OUTPUTS: json.dumps(dict(outputs))}


def az(words: Sequence[str]) -> str:
    """Do what a command of `az` asks for; answers what it prints."""
    command = command_of(words)
    if command in _ANSWERS:
        parse(words)
        return _ANSWERS[command]
    from tests.docs.az import main  # noqa: PLC0415 - the others take a third of the time without the SDK

    return main(words)


def azd(words: Sequence[str]) -> str:
    """Do what a command of `azd` asks for; answers what it prints."""
    command, arguments, _ = azd_cli.parse(words)
    if command == "env get-value":
        return str(json.loads(os.environ[_OUTPUTS])[arguments[0]])
    return ""


if __name__ == "__main__":
    print({"az": az, "azd": azd}[sys.argv[1]](sys.argv[2:]))  # noqa: T201 - it is a command
