"""A database table of certificates as a certificate source, through SQLAlchemy."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    select,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from shared.errors import ConfigurationError, UnavailableError
from shared.ports import BlobContent, BlobVersion
from shared.upload import SQL_SCHEME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Row

CERTIFICATES = Table(
    "certificates",
    MetaData(),
    Column("name", String(200), primary_key=True),
    Column("pfx", LargeBinary, nullable=False),
    Column("password", String(512), nullable=True),
    Column("host_header", String(4096), nullable=True),
    Column("port_number", Integer, nullable=True),
    Column("certificate_subject", String(1024), nullable=True),
    Column("site_name", String(260), nullable=True),
    Column("role", String(64), nullable=True),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
"""`password` holds the PFX password or a reference `@Microsoft.KeyVault(SecretUri=...)`, as blob metadata does."""

_METADATA = {
    "password": "CertificatePassword",
    "host_header": "HostHeader",
    "port_number": "PortNumber",
    "certificate_subject": "CertificateSubject",
    "site_name": "SiteName",
    "role": "Role",
}


def _upload_name(key: str) -> str:
    """Name a row as an upload: `sql://certificates/<name>`."""
    return f"{SQL_SCHEME}://certificates/{key}"


class SqlCertificates:
    """The rows of the table `certificates`, as `shared.ports.CertificateSource`.

    Args:
        url: SQLAlchemy URL; it may hold a password and is shown nowhere.

    Raises:
        ConfigurationError: It is no URL, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine: Engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigurationError(
                f"CERTCAST_SQL_URL cannot be used ({type(error).__name__}): give a SQLAlchemy URL whose driver is "
                "installed, such as postgresql+psycopg://user:password@host/database"
            ) from None

    async def version(self, name: str) -> BlobVersion | None:
        found = await self.read(name, max_bytes=0)
        return None if found is None else found.version

    async def read(self, name: str, *, max_bytes: int) -> BlobContent | None:
        key = name.removeprefix(_upload_name(""))
        rows = await self._rows(select(CERTIFICATES).where(CERTIFICATES.c.name == key))
        # One spelling is one upload: a database may compare without regard to case.
        if not rows or _upload_name(rows[0].name) != name:
            return None
        return BlobContent(version=_version(rows[0]), content=bytes(rows[0].pfx)[:max_bytes])

    async def each(self) -> AsyncIterator[BlobVersion]:
        for row in await self._rows(select(CERTIFICATES)):
            yield _version(row)

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._engine.dispose)

    async def _rows(self, query: Any) -> list[Row[Any]]:  # noqa: ANN401 - SQLAlchemy's select, whatever it selects
        def run() -> list[Row[Any]]:
            with self._engine.connect() as connection:
                return list(connection.execute(query))

        try:
            return await asyncio.to_thread(run)
        except SQLAlchemyError as error:
            # The driver's text may quote the URL, and that its password.
            raise UnavailableError(
                f"table certificates of CERTCAST_SQL_URL cannot be read ({type(error).__name__})"
            ) from None


def _version(row: Row[Any]) -> BlobVersion:
    updated: datetime = row.updated_at if row.updated_at.tzinfo else row.updated_at.replace(tzinfo=UTC)
    metadata = {key: str(getattr(row, column)) for column, key in _METADATA.items() if getattr(row, column) is not None}
    digest = hashlib.sha256(bytes(row.pfx))
    digest.update("\0".join(f"{key}={value}" for key, value in sorted(metadata.items())).encode())
    return BlobVersion(
        name=_upload_name(row.name),
        etag=f"{updated.timestamp():.6f}-{digest.hexdigest()[:16]}",
        size=len(row.pfx),
        last_modified=updated,
        created=updated,
        metadata=metadata,
    )
