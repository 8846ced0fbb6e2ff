"""What stands in for `az` before the local cloud: it parses as Azure CLI does, and makes the same request by the SDK.

Azure CLI itself is too large for the tests (its packages are 400 MB). A command that this one does not know ends it.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient

from tests.rigs.azure_cli import command_of, parse
from tests.rigs.deployment import ROOT

_ACCOUNT, _FUNCTION_KEY = "STAND_IN_ACCOUNT", "STAND_IN_FUNCTION_KEY"
_KEY_IDS = "[].metadata.encryptiondata"


def install(programs: Path, *, account: str, function_key: str) -> dict[str, str]:
    """Put `az` into a folder of programs.

    Args:
        programs: The folder.
        account: Connection string of the account that every command means.
        function_key: What it says is the app's function key.

    Returns:
        What the environment of its callers needs.
    """
    script = programs / "az"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m {__name__} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return {_ACCOUNT: account, _FUNCTION_KEY: function_key}


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


def main(words: Sequence[str]) -> str:
    """Do what a command asks for; answers what it prints."""
    given = parse(words) | {"--overwrite": "--overwrite" in words}
    if command_of(words) == "functionapp keys list":
        assert given["--query"] == "functionKeys.default"
        return os.environ[_FUNCTION_KEY]
    act = {"storage blob upload": upload, "storage blob list": key_ids}[command_of(words)]
    with BlobServiceClient.from_connection_string(given.get("--connection-string") or os.environ[_ACCOUNT]) as service:
        return act(service, given)


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201 - it is a command
