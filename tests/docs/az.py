"""What stands in for `az`, `azd`, `pip` and `python3 -m venv` before the local cloud.

`az` parses as Azure CLI does, and makes the same request by the SDK where there is one for this cloud; `azd` parses as
azd does, and knows what the Bicep files put out. Azure CLI itself is too large for the tests (its packages are 400 MB).
A command that is not known here ends it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rigs import azd_cli
from tests.rigs.azure_cli import command_of, parse
from tests.rigs.deployment import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azure.storage.blob import BlobServiceClient

_ACCOUNT, _FUNCTION_KEY, _OUTPUTS = "STAND_IN_ACCOUNT", "STAND_IN_FUNCTION_KEY", "STAND_IN_OUTPUTS"
_SHOWN = {
    "storage account show": "/subscriptions/x/resourceGroups/x/providers/Microsoft.Storage/storageAccounts/certcast",
    "role definition list": "certcast agent queues",
}
"""What is asked of Azure's own API, and answered."""
_DONE = {
    *("login", "role assignment delete", "role definition delete", "vm identity assign", "vmss identity assign"),
}
"""What is told to it, with no answer that a page looks at."""
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
_KEY_IDS = "[].metadata.encryptiondata"


def install(programs: Path, *, account: str, function_key: str, outputs: Mapping[str, str]) -> dict[str, str]:
    """Put them into a folder of programs.

    Args:
        programs: The folder.
        account: Connection string of the account that every command means.
        function_key: What `az` says is the app's function key.
        outputs: What `azd` says was put out.

    Returns:
        What the environment of its callers needs.
    """
    ours = '#!/bin/sh\nPYTHONPATH="{root}" exec "{python}" -m {module} {name} "$@"\n'
    certcast = Path(sys.executable).with_name("certcast")
    for name, text in (("az", ours), ("azd", ours), ("pip", _PIP), ("python3", _PYTHON)):
        script = programs / name
        words = {"root": ROOT, "python": sys.executable, "module": __name__, "name": name, "certcast": certcast}
        script.write_text(text.format(**words), encoding="utf-8")
        script.chmod(0o700)
    return {_ACCOUNT: account, _FUNCTION_KEY: function_key, _OUTPUTS: json.dumps(dict(outputs))}


def upload(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob upload`: content and metadata in one request."""
    blob = service.get_blob_client(given["--container-name"], given["--name"])
    metadata = dict(pair.split("=", 1) for pair in given.get("--metadata", ()))
    blob.upload_blob(Path(given["--file"]).read_bytes(), overwrite=given["--overwrite"], metadata=metadata)
    return ""


def key_ids(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob list` with the one query that a page has."""
    assert (given["--query"], given["--include"], given["--output"]) == (_KEY_IDS, "m", "tsv")
    blobs = service.get_container_client(given["--container-name"]).list_blobs(include=["metadata"])
    return "\n".join(blob.metadata["encryptiondata"] for blob in blobs)


def az(words: Sequence[str]) -> str:
    """Do what a command of `az` asks for; answers what it prints."""
    given, command = parse(words) | {"--overwrite": "--overwrite" in words}, command_of(words)
    if command == "functionapp keys list":
        assert given["--query"] == "functionKeys.default"
        return os.environ[_FUNCTION_KEY]
    if command in _DONE or command in _SHOWN:
        return _SHOWN.get(command, "")
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415 - the others are three times as fast without it

    act = {"storage blob upload": upload, "storage blob list": key_ids}[command]
    with BlobServiceClient.from_connection_string(given.get("--connection-string") or os.environ[_ACCOUNT]) as service:
        return act(service, given)


def azd(words: Sequence[str]) -> str:
    """Do what a command of `azd` asks for; answers what it prints."""
    command, arguments, _ = azd_cli.parse(words)
    if command == "env get-value":
        return str(json.loads(os.environ[_OUTPUTS])[arguments[0]])
    return ""


if __name__ == "__main__":
    print({"az": az, "azd": azd}[sys.argv[1]](sys.argv[2:]))  # noqa: T201 - it is a command
