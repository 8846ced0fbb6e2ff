"""Certificates in a database table as a source, on SQLite and on a PostgreSQL server that the test starts."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, delete, insert, text, update
from sqlalchemy.exc import OperationalError

from local_azure.processes.listening import free_port
from shared.errors import ConfigurationError, UnavailableError
from shared.function.cloud import Cloud
from shared.function.sweep import sweep
from shared.sources.sql import CERTIFICATES, SqlCertificates
from shared.upload import SQL_SCHEME
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import START
from tests.rigs.certificates import Issued, authority
from tests.rigs.programs import needs, path_of
from tests.rigs.some import some

NAME = "sql://certificates/shop"
PASSWORD = "correct horse"
STARTS_WITHIN_S = 30


def unprivileged() -> str | None:
    """Whom to run PostgreSQL as, which refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server with a password of its own, and yield its URL."""
    program, user = path_of("postgres"), unprivileged()
    assert program is not None
    bin_folder = Path(program).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="certcast-postgres-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        secret = folder / "password"
        secret.write_text("pg secret\n")
        if user is not None:
            for path in (folder, secret):
                shutil.chown(path, user)
        initdb = [str(bin_folder / "initdb"), "-D", str(folder / "data"), "-U", "certcast", "--pwfile", str(secret)]
        subprocess.run([*initdb, "-A", "scram-sha-256", "-N"], user=user, cwd=folder, check=True, capture_output=True)
        port = free_port()
        settings = ["-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={folder}", "-cfsync=off"]
        command = [str(bin_folder / "postgres"), "-D", str(folder / "data"), "-p", str(port), *settings]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
        url = f"postgresql+psycopg://certcast:pg secret@127.0.0.1:{port}/postgres"
        wait_for(url, process, folder / "log")
        yield url
    finally:
        if process is not None:
            process.terminate()
            process.wait()
        shutil.rmtree(folder)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    deadline = time.monotonic() + STARTS_WITHIN_S
    try:
        while True:
            try:
                engine.connect().close()
            except OperationalError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            else:
                return
    finally:
        engine.dispose()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=needs("postgres"))])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('sql') / 'certificates.db'}"
    else:
        with postgres() as server:
            yield server


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    CERTIFICATES.metadata.create_all(engine)
    yield engine
    CERTIFICATES.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
async def source(url: str) -> AsyncIterator[SqlCertificates]:
    opened = SqlCertificates(url)
    yield opened
    await opened.close()


@pytest.fixture
def cloud(source: SqlCertificates) -> Cloud:
    return replace(FakeStorage().cloud(), sources={SQL_SCHEME: source})


def issue(host: str) -> Issued:
    return authority(not_before=START).issue(host, not_before=START)


def add(database: Engine, issued: Issued, columns: Mapping[str, object] | None = None) -> None:
    values = {"name": "shop", "pfx": issued.pfx(PASSWORD), "password": PASSWORD, "updated_at": START, **(columns or {})}
    with database.begin() as connection:
        connection.execute(insert(CERTIFICATES).values(**values))


def change(database: Engine, **columns: object) -> None:
    with database.begin() as connection:
        connection.execute(update(CERTIFICATES).values(**columns))


async def test_a_row_is_read_with_its_columns_as_metadata(database: Engine, source: SqlCertificates) -> None:
    issued = issue("a.test")
    columns: dict[str, str | int] = {"host_header": "größe.test", "port_number": 8443, "role": "web"}
    add(database, issued, columns | {"site_name": "Shop", "certificate_subject": "CN=a.test"})
    found = some(await source.read(NAME, max_bytes=1_000_000))
    assert found.version.size == len(found.content)
    assert found.version.last_modified == START
    assert found.version.metadata == {
        "CertificatePassword": PASSWORD,
        "HostHeader": "größe.test",
        "PortNumber": "8443",
        "CertificateSubject": "CN=a.test",
        "SiteName": "Shop",
        "Role": "web",
    }
    assert [version async for version in source.each()] == [found.version]
    assert PASSWORD not in repr(found)


@pytest.mark.usefixtures("database")
async def test_a_row_that_is_not_there_is_gone(source: SqlCertificates) -> None:
    for name in ("missing", "x' OR '1'='1", "größe/../%", ""):
        assert await source.read(f"sql://certificates/{name}", max_bytes=10) is None
        assert await source.version(f"sql://certificates/{name}") is None
    assert [version async for version in source.each()] == []


async def test_the_version_changes_with_every_column_that_matters(database: Engine, source: SqlCertificates) -> None:
    add(database, issue("a.test"), {"host_header": "a.test"})
    seen = []
    for columns in (
        {},
        {"pfx": issue("a.test").pfx(PASSWORD)},
        {"host_header": "b.test"},
        {"password": "another"},
        {"updated_at": START + timedelta(seconds=1)},
    ):
        if columns:
            change(database, **columns)
        seen.append(some(await source.version(NAME)).etag)
    assert len(set(seen)) == len(seen)


async def test_times_in_any_zone_are_the_same_moment(database: Engine, source: SqlCertificates) -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    add(database, issue("a.test"), {"updated_at": moment})
    assert some(await source.version(NAME)).last_modified == moment


async def test_sweeps_find_a_row_that_is_added_changed_and_deleted(database: Engine, cloud: Cloud) -> None:
    first, renewed = issue("a.test"), issue("a.test")
    add(database, first)
    assert (await sweep(cloud)).looked_at == [NAME]
    assert (await sweep(cloud)).looked_at == []
    record = some(await cloud.state.uploads.get(NAME))
    assert (record.fingerprint_sha256, record.status) == (first.fingerprint, "accepted")
    change(database, pfx=renewed.pfx(PASSWORD))
    assert (await sweep(cloud)).looked_at == [NAME]
    assert some(await cloud.state.uploads.get(NAME)).fingerprint_sha256 == renewed.fingerprint
    with database.begin() as connection:
        connection.execute(delete(CERTIFICATES))
    assert (await sweep(cloud)).looked_at == [NAME]
    assert some(await cloud.state.uploads.get(NAME)).status == "removed"


async def test_a_database_without_the_table_removes_nothing_and_says_no_password(
    database: Engine, cloud: Cloud, source: SqlCertificates
) -> None:
    add(database, issue("a.test"))
    await sweep(cloud)
    with database.begin() as connection:
        connection.execute(text("DROP TABLE certificates"))
    report = await sweep(cloud)
    assert any("table certificates of CERTCAST_SQL_URL cannot be read" in problem for problem in report.problems)
    assert "pg secret" not in str(report)
    assert some(await cloud.state.uploads.get(NAME)).status == "accepted"
    with pytest.raises(UnavailableError):
        await source.version(NAME)


async def test_many_readers_at_once_share_the_connections(database: Engine, source: SqlCertificates) -> None:
    add(database, issue("a.test"))
    versions = await asyncio.gather(*(source.version(NAME) for _ in range(30)))
    assert len({version.etag for version in versions if version is not None}) == 1


@pytest.mark.parametrize("wrong", ["no url", "oracle+nosuch://u:hunter2@h/d", "mysql+pymysql://u:hunter2@h/d"])
def test_an_unusable_url_is_said_without_the_password_in_it(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="CERTCAST_SQL_URL cannot be used") as caught:
        SqlCertificates(wrong)
    assert "hunter2" not in str(caught.value)
