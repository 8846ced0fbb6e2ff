"""What stands in for `az` before the local cloud: it parses as Azure CLI does, and makes the same request by the SDK.

Azure CLI itself is too large for the tests (its packages are 400 MB). A command that this one does not know ends it.
"""

import base64
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient

from tests.rigs.azure_cli import command_of, parse
from tests.rigs.deployment import ROOT

_ACCOUNT, _FUNCTION_KEY, _SECRETS = "STAND_IN_ACCOUNT", "STAND_IN_FUNCTION_KEY", "STAND_IN_SECRETS"
_KEY_IDS = "[].metadata.encryptiondata"
_TAGS_OF = re.compile(r"\[(?:\?name=='(?P<name>[^']+)')?\]\.\[(?P<columns>[\w., ]+)\]")
"""The queries for tags that pages have: of one blob or of all that are listed."""


def install(programs: Path, *, account: str, function_key: str = "", secrets: Path | None = None) -> dict[str, str]:
    """Put `az` into a folder of programs.

    Args:
        programs: The folder.
        account: Connection string of the account that every command means.
        function_key: What it says is the app's function key.
        secrets: A folder with a file for each secret of the vault that every command means.

    Returns:
        What the environment of its callers needs.
    """
    script = programs / "az"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m {__name__} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return {_ACCOUNT: account, _FUNCTION_KEY: function_key, _SECRETS: str(secrets or "")}


def _metadata(given: Mapping[str, Any]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in given.get("--metadata", ()))


def upload(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob upload`: content and metadata in one request."""
    blob = service.get_blob_client(given["--container-name"], given["--name"])
    written = blob.upload_blob(
        Path(given["--file"]).read_bytes(), overwrite=given["--overwrite"], metadata=_metadata(given)
    )
    assert given.get("--query", "etag") == "etag"
    return str(written["etag"]) if "--query" in given else ""


def upload_batch(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob upload-batch`: every file that fits the pattern, with the same metadata."""
    for file in sorted(Path(given["--source"]).rglob("*")):
        if file.is_file() and fnmatch(file.relative_to(given["--source"]).as_posix(), given["--pattern"]):
            name = f"{given['--destination-path']}/{file.relative_to(given['--source']).as_posix()}"
            blob = service.get_blob_client(given["--destination"], name)
            blob.upload_blob(file.read_bytes(), overwrite=given["--overwrite"], metadata=_metadata(given))
    return ""


def delete(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob delete`."""
    service.get_blob_client(given["--container-name"], given["--name"]).delete_blob()
    return ""


def copy(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob copy start-batch` within an account: Copy Blob, which takes the metadata along."""
    source = service.get_container_client(given["--source-container"])
    for blob in source.list_blobs():
        if fnmatch(blob.name, given["--pattern"]):
            there = service.get_blob_client(given["--destination-container"], blob.name)
            there.start_copy_from_url(source.get_blob_client(blob.name).url)
    return ""


def listed(service: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az storage blob list` with the queries that pages have, as `--output tsv` writes it."""
    assert given["--output"] == "tsv"
    container = service.get_container_client(given["--container-name"])
    if given["--query"] == _KEY_IDS:
        assert given["--include"] == "m"
        return "\n".join(blob.metadata["encryptiondata"] for blob in container.list_blobs(include=["metadata"]))
    asked = _TAGS_OF.fullmatch(given["--query"])
    assert asked is not None, given["--query"]
    assert given["--include"] == "t"
    blobs = container.list_blobs(name_starts_with=given.get("--prefix"), include=["tags"])
    rows = ((blob.name, blob.tags or {}) for blob in blobs if asked["name"] in {None, blob.name})
    return "\n".join("\t".join(_cells(asked["columns"], *row)) for row in rows)


def _cells(columns: str, name: str, tags: Mapping[str, str]) -> Iterable[str]:
    """What a query's columns have; az writes `None` for what is missing."""
    for column in columns.split(", "):
        yield name if column == "name" else str(tags.get(column.removeprefix("tags.")))


def download(_: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az keyvault secret download` of a certificate's secret, which is its PFX in base64."""
    assert given["--encoding"] == "base64"
    with Path(given["--file"]).open("xb") as file:  # az does not write over a file either
        file.write(base64.b64decode((Path(os.environ[_SECRETS]) / given["--name"]).read_text("ascii")))
    return ""


def set_secret(_: BlobServiceClient, given: Mapping[str, Any]) -> str:
    """`az keyvault secret set` from a file, which is stored as it is."""
    (Path(os.environ[_SECRETS]) / given["--name"]).write_bytes(Path(given["--file"]).read_bytes())
    return ""


_ACTS = {
    "storage blob upload": upload,
    "storage blob upload-batch": upload_batch,
    "storage blob list": listed,
    "storage blob delete": delete,
    "storage blob copy start-batch": copy,
    "keyvault secret download": download,
    "keyvault secret set": set_secret,
}


def main(words: Sequence[str]) -> str:
    """Do what a command asks for; answers what it prints."""
    given = parse(words) | {"--overwrite": "--overwrite" in words}
    if command_of(words) == "functionapp keys list":
        assert given["--query"] == "functionKeys.default"
        return os.environ[_FUNCTION_KEY]
    act = _ACTS[command_of(words)]
    with BlobServiceClient.from_connection_string(given.get("--connection-string") or os.environ[_ACCOUNT]) as service:
        return act(service, given)


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201 - it is a command
