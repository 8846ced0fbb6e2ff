"""Opening the storage account, and what its errors mean to a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.azure.account import RETRIES, Account
from shared.config import STORAGE_SETTING, StorageAccess, connection_parts
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConfigurationError,
    MissingError,
    NotSetUpError,
    UnansweredError,
)
from shared.hostnames import LOOPBACK_NAMES
from shared.ports import UploadContainer
from shared.state.tables import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The open storage account.

    Attributes:
        uploads: The container `certificates`.
        state: The tables; None where the connection string opens the container alone.
        now: Tells the time, by the service's clock once it has answered.
    """

    uploads: UploadContainer
    state: State | None
    now: Callable[[], datetime]

    @property
    def tables(self) -> State:
        """The tables.

        Raises:
            ConfigurationError: There is no way to them.
        """
        if self.state is None:
            raise ConfigurationError(
                "this connection string opens the container alone, and statuses are kept in tables: use one of the "
                "whole account, or --account NAME with an identity that has the role Storage Table Data Reader"
            )
        return self.state


@asynccontextmanager
async def opened(access: StorageAccess) -> AsyncIterator[Storage]:
    """Open as much of the account as the connection string is for; raises as `opened_account`."""
    async with opened_account(access) as account:
        yield storage_of(account, access)


def storage_of(account: Account, access: StorageAccess) -> Storage:
    """As much of an open account as the connection string is for."""
    parts = connection_parts(access.connection_string or "")
    state = None if _container_only(parts) else account.state
    return Storage(uploads=account.uploads, state=state, now=account.clock.now)


def _container_only(parts: Mapping[str, str]) -> bool:
    return bool(parts) and not parts.keys() & {"accountname", "tableendpoint"}


@asynccontextmanager
async def opened_account(
    access: StorageAccess, *, key_encryption_key: str = "", retries: int = RETRIES
) -> AsyncIterator[Account]:
    """Open the account, and turn what it answers into what a person can do about it.

    Args:
        access: Which account.
        key_encryption_key: That setting; empty where no bundle is looked at.
        retries: How often the services are asked again.

    Raises:
        NotSetUpError: It is there, but certcast is not deployed to it.
        UnansweredError: Nothing answers there.
        AccessDeniedError: It refuses.
        MissingError: What is asked for is not there.
    """
    parts = connection_parts(access.connection_string or "")
    await _listening(parts)
    try:
        reachable = _completed(access, parts) if _container_only(parts) else access
        async with Account(reachable, key_encryption_key=key_encryption_key, retries=retries) as account:
            yield account
    except (NotSetUpError, UnansweredError, AccessDeniedError, MissingError) as error:
        raise type(error)(f"{error}; {_cure(error, access)}") from None


def _cure(error: CertcastError, access: StorageAccess) -> str:
    """What a person at a command line can do about it."""
    if isinstance(error, NotSetUpError | MissingError):
        return (
            "this emulator has not been set up for certcast: start it with `certcast up`"
            if access.is_emulator
            else "is this the account that certcast is deployed to (docs/deploy.md)?"
        )
    if isinstance(error, UnansweredError):
        return "is `certcast up` still running?" if access.is_emulator else "check the account's name and the network"
    if access.connection_string is None:
        return "sign in with `az login` as a user who has these roles, or give a connection string"
    return "is the connection string of this account, valid still, and does it allow this?"


def _completed(access: StorageAccess, parts: Mapping[str, str]) -> StorageAccess:
    """Name the other services too, so that their clients can be made; none is used."""
    missing = [name for name in ("QueueEndpoint", "TableEndpoint") if name.lower() not in parts]
    more = "".join(f"{name}={parts['blobendpoint']};" for name in missing)
    return StorageAccess(connection_string=f"{access.connection_string}{more}")


async def _listening(parts: Mapping[str, str]) -> None:
    """Tell at once when nothing listens on this machine, where the SDK would go on trying for half a minute."""
    for name in ("BlobEndpoint", "TableEndpoint"):
        value = parts.get(name.lower(), "")
        try:
            address, port = urlsplit(value).hostname, urlsplit(value).port
        except ValueError:
            raise ConfigurationError(f"{name} in the connection string is not a URL: copy it from the portal") from None
        if address not in LOOPBACK_NAMES or port is None:
            continue
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
        except OSError:
            raise UnansweredError(
                f"nothing listens at {address}:{port}: start the local cloud with `certcast up`, or name the storage "
                f"account of a real one in {STORAGE_SETTING}"
            ) from None
        writer.close()
