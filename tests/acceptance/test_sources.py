"""Certificates from a folder, a database table or a vault are served, renewed and removed like uploads."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Engine, create_engine, delete, insert, update

from local_azure.eventgrid.topic import ReceivedEvent
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.sources.sql import CERTIFICATES
from tests.rigs.certificates import Issued, authority
from tests.rigs.command_line import certcast, clean_environment
from tests.rigs.event_schemas import check_event
from tests.rigs.vault_stub import vault_stub
from tests.rigs.vault_way import VaultWay, vault_way
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 2

heard: list[ReceivedEvent] = []

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('sql') / 'certificates.db'}")
    CERTIFICATES.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultWay]:
    with vault_stub(tmp_path_factory.mktemp("vault")) as stub, vault_way(stub) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(folder: Path, database: Engine, way: VaultWay) -> AsyncIterator[Witness]:
    heard.clear()
    present = authority().issue("present.test")
    (folder / "present.pfx").write_bytes(present.pfx(None))
    settings = PlatformSettings(
        agents=AGENTS,
        ports=FREE_PORTS,
        folder=folder,
        function_environment={
            **way.environment,
            "CERTCAST_KEY_VAULTS": "shop",
            "CERTCAST_SQL_URL": str(database.url),
            "CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *",  # it runs when a test asks for it
        },
        on_event=heard.append,
    )
    async with witnessed(settings) as witness:
        yield witness


def put(folder: Path, name: str, issued: Issued, **metadata: str) -> None:
    """Metadata first: the certificate cannot be opened without it."""
    (folder / f"{name}.json").write_text(json.dumps({"CertificatePassword": PASSWORD, **metadata}), encoding="utf-8")
    (folder / f"{name}.pfx").write_bytes(issued.pfx(PASSWORD))


async def removed(cloud: Witness, name: str, issued: Issued, host: str) -> None:
    await cloud.becomes(name, "removed", live=0)
    assert issued.fingerprint not in await cloud.served(host)


class TestFolder:
    async def test_a_file_that_was_there_before_is_served(self, cloud: Witness) -> None:
        await cloud.becomes("folder://present.pfx", "live", live=AGENTS)

    async def test_a_file_put_into_it_is_served_without_a_sweep(self, cloud: Witness, folder: Path) -> None:
        issued = authority().issue("folder.test", "second.test")
        put(folder, "shop", issued, HostHeader="folder.test")
        await cloud.serves("folder.test", issued.fingerprint)
        record = await cloud.becomes("folder://shop.pfx", "live", live=AGENTS)
        assert record.hosts == ("folder.test",)

    async def test_changed_metadata_is_acted_on(self, cloud: Witness, folder: Path) -> None:
        issued = authority().issue("old.test", "new.test")
        put(folder, "moved", issued, HostHeader="old.test")
        await cloud.serves("old.test", issued.fingerprint)
        (folder / "moved.json").write_text(json.dumps({"CertificatePassword": PASSWORD, "HostHeader": "new.test"}))
        await cloud.serves("new.test", issued.fingerprint)

        async def left() -> bool:
            return issued.fingerprint not in await cloud.served("old.test")

        await eventually(left, "the old host to be unbound")

    async def test_a_renewed_file_replaces_the_certificate(self, cloud: Witness, folder: Path) -> None:
        first, renewed = authority().issue("renewed.test"), authority().issue("renewed.test")
        put(folder, "renewed", first)
        await cloud.serves("renewed.test", first.fingerprint)
        put(folder, "renewed", renewed)
        await cloud.serves("renewed.test", renewed.fingerprint)

    async def test_a_deleted_file_is_unbound(self, cloud: Witness, folder: Path) -> None:
        issued = authority().issue("deleted.test")
        put(folder, "deleted", issued)
        await cloud.serves("deleted.test", issued.fingerprint)
        (folder / "deleted.pfx").unlink()
        await removed(cloud, "folder://deleted.pfx", issued, "deleted.test")


class TestSql:
    async def test_a_row_is_served_renewed_and_unbound_as_sweeps_find_it(
        self, cloud: Witness, database: Engine
    ) -> None:
        first, renewed = authority().issue("sql.test"), authority().issue("sql.test")
        name = "sql://certificates/shop"
        values = {"name": "shop", "pfx": first.pfx(PASSWORD), "password": PASSWORD, "host_header": "sql.test"}
        with database.begin() as connection:
            connection.execute(insert(CERTIFICATES).values(updated_at=datetime.now(UTC), **values))
        await cloud.sweep()
        await cloud.becomes(name, "live", live=AGENTS)
        await cloud.serves("sql.test", first.fingerprint)
        with database.begin() as connection:
            connection.execute(update(CERTIFICATES).values(pfx=renewed.pfx(PASSWORD), updated_at=datetime.now(UTC)))
        await cloud.sweep()
        await cloud.serves("sql.test", renewed.fingerprint)
        await cloud.becomes(name, "live", live=AGENTS)
        with database.begin() as connection:
            connection.execute(delete(CERTIFICATES))
        await cloud.sweep()
        await removed(cloud, name, renewed, "sql.test")

    async def test_a_row_that_is_no_certificate_is_rejected_with_reasons(
        self, cloud: Witness, database: Engine
    ) -> None:
        with database.begin() as connection:
            connection.execute(
                insert(CERTIFICATES).values(name="bad", pfx=b"?", password="x", updated_at=datetime.now(UTC))
            )
        await cloud.sweep()
        record = await cloud.becomes("sql://certificates/bad", "rejected")
        assert [violation.code for violation in record.violations] == ["unreadable_bundle"]


class TestKeyVault:
    """The Function finds its identity and the vault by its environment alone, and speaks HTTPS to it."""

    NAME = "keyvault://shop/web"

    async def new_version(self, cloud: Witness, way: VaultWay, issued: Issued) -> None:
        """Put a version into the vault, and tell of it as Event Grid does."""
        way.stub.put("web", base64.b64encode(issued.pfx(None)).decode(), HostHeader="vault.test")
        data = {"VaultName": "shop", "ObjectName": "web", "ObjectType": "Certificate", "Version": "1"}
        kind = "Microsoft.KeyVault.CertificateNewVersionCreated"
        assert await cloud.deliver("on_key_vault_event", kind, "web", data) == 202

    async def test_a_new_version_is_served_by_every_agent_as_its_event_comes(
        self, cloud: Witness, way: VaultWay
    ) -> None:
        for issued in (authority().issue("vault.test"), authority().issue("vault.test")):
            await self.new_version(cloud, way, issued)
            await cloud.serves("vault.test", issued.fingerprint)
            record = await cloud.becomes(self.NAME, "live", live=AGENTS)
            assert record.fingerprint_sha256 == issued.fingerprint
            event = await self.hears("Live", issued)
            assert event.data["name"] == self.NAME
        assert way.refused == []

    async def test_status_shows_it_under_its_name(self, cloud: Witness) -> None:
        env = clean_environment(CERTCAST_STORAGE=cloud.platform.connection_string)
        ran = await certcast("status", self.NAME, "--json", env=env)
        assert ran.code == 0, ran.err
        [upload] = ran.document["uploads"]
        assert (upload["name"], upload["status"], upload["live"]) == (self.NAME, "live", AGENTS)

    async def test_an_event_about_what_is_not_tagged_serves_nothing(self, cloud: Witness, way: VaultWay) -> None:
        way.stub.put("mail", base64.b64encode(authority().issue("mail.test").pfx(None)).decode())
        data = {"VaultName": "shop", "ObjectName": "mail"}
        kind = "Microsoft.KeyVault.SecretNewVersionCreated"
        assert await cloud.deliver("on_key_vault_event", kind, "mail", data) == 202
        assert "GET /secrets/mail/" in way.stub.requests
        record = await cloud.account.state.uploads.get("keyvault://shop/mail")
        assert record is None or record.status == "removed"

    async def test_what_left_the_vault_is_unbound_as_a_sweep_finds_it(self, cloud: Witness, way: VaultWay) -> None:
        seen = await cloud.record(self.NAME)
        del way.stub.bundles["web"]
        await cloud.sweep()
        await cloud.becomes(self.NAME, "removed", live=0)
        assert seen.fingerprint_sha256 not in await cloud.served("vault.test")

    async def hears(self, kind: str, issued: Issued) -> ReceivedEvent:
        async def found() -> ReceivedEvent | None:
            wanted = (self.NAME, f"Certcast.Certificate{kind}", issued.fingerprint)
            for event in heard:
                told = (event.attributes["subject"], event.attributes["type"], event.data["fingerprint_sha256"])
                if told == wanted:
                    return event
            return None

        event = await eventually(found, f"the event {kind} about {self.NAME}")
        assert event is not None
        check_event({**event.attributes, "data": event.data})
        return event
