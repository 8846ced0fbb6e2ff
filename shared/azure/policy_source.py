"""Where the policy's text is: a blob, a file, or the setting itself."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from shared.azure.blobs import UPLOADS_CONTAINER
from shared.azure.errors import azure_errors
from shared.config import POLICY_SETTING
from shared.errors import ConfigurationError, UnavailableError
from shared.phrasing import shown
from shared.upload import keeps_its_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.azure.account import Account

BLOB_PREFIX = "blob:"
# learn.microsoft.com, "Naming and Referencing Containers, Blobs, and Metadata".
_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}\Z")


def policy_source(setting: str, account: Account | None) -> Callable[[], Awaitable[str]]:
    """What reads the policy's text, each time it is called.

    Args:
        setting: `CERTCAST_POLICY`: JSON text, `blob:<container>/<name>`, or the path of a file.
        account: Where the blob is; not needed where the setting names none.

    Raises:
        ConfigurationError: The setting itself cannot be used.
    """
    if setting.startswith("{"):

        async def given() -> str:
            return setting

        return given
    if not setting.startswith(BLOB_PREFIX):
        return lambda: asyncio.to_thread(_read_file, Path(setting))
    if account is None:
        raise ConfigurationError(f"{POLICY_SETTING} names a blob: say in which storage account it is")
    container, slash, name = setting.removeprefix(BLOB_PREFIX).partition("/")
    if not slash or not _CONTAINER.match(container) or not keeps_its_place(name):
        raise ConfigurationError(
            f"{POLICY_SETTING} is '{shown(setting)}': write blob:CONTAINER/NAME, as in blob:certcast-policy/policy.toml"
        )
    if container == UPLOADS_CONTAINER:
        raise ConfigurationError(
            f"{POLICY_SETTING} names a blob of the container {UPLOADS_CONTAINER}, to which uploaders write: put it "
            "into a container to which only operators do"
        )
    return lambda: _read_blob(account, container, name)


async def _read_blob(account: Account, container: str, name: str) -> str:
    what = f"blob {container}/{name}, which {POLICY_SETTING} names"
    with azure_errors(f"reading {what}"):
        stream = await account.container(container).get_blob_client(name).download_blob()
        return _text(await stream.readall(), what)


def _read_file(path: Path) -> str:
    what = f"file {path}, which {POLICY_SETTING} names"
    try:
        with path.open("rb") as file:
            return _text(file.read(), what)
    except OSError as error:
        raise UnavailableError(f"{what}, cannot be read: {error.strerror}") from None
    except ValueError:
        raise UnavailableError(f"{what}, cannot be read: that is no path") from None


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UnavailableError(f"{what}, is not UTF-8 text: save it as UTF-8") from None
