"""The tables are deleted on a running cloud: one sweep makes them again, and no visitor notices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.data.tables.aio import TableServiceClient

from instance_agent.installing.probe import ProbeError, served_fingerprint
from local_azure.as_azure import AsAzure
from local_azure.eventgrid.delivery import Disorder
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.azure.account import Account
from shared.config import StorageAccess
from shared.errors import CertcastError
from shared.hostnames import DEFAULT_HOST
from shared.state.records import UploadRecord
from tests.fakes.edges import TABLES
from tests.rigs.certificates import authority
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

pytestmark = pytest.mark.timeout(300)

CA = authority()
AGENTS = 2
EARLIER, LATER = timedelta(days=9), timedelta(days=9)
NOW = datetime.now(UTC).replace(microsecond=0)
NEVER_BY_ITSELF = {"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *", "CERTCAST_PORTS": "443,8443"}
ODD = "ordner/größe %23 & 'neu'+.pfx"


@dataclass
class Visits:
    """Handshakes that go on all the time, and what they met."""

    cloud: Witness
    met: Counter[tuple[int, str, int, str]] = field(default_factory=Counter)

    async def visit(self, agent: int, host: str, port: int) -> str:
        name = "nobody-has-this.test" if host == DEFAULT_HOST else host
        try:
            return await served_fingerprint(self.cloud.platform.tls_address(agent, port), name, timeout_s=5)
        except ProbeError as error:
            return str(error)

    async def go_on(self, places: list[tuple[str, int]]) -> None:
        while True:
            for agent in range(AGENTS):
                for host, port in places:
                    self.met[agent, host, port, await self.visit(agent, host, port)] += 1
            await asyncio.sleep(0.2)


@asynccontextmanager
async def visited(cloud: Witness, places: list[tuple[str, int]]) -> AsyncIterator[Visits]:
    visits = Visits(cloud)
    task = asyncio.create_task(visits.go_on(places))
    try:
        yield visits
    finally:
        task.cancel()


async def prepare(cloud: Witness, folder: Path) -> dict[tuple[str, int], str]:
    """Bring uploads of every kind to where they stay; what is served by host and port."""
    served: dict[tuple[str, int], str] = {}

    async def live(name: str, host: str, *, port: int = 443, before: timedelta = EARLIER, **metadata: str) -> None:
        issued = CA.issue(host, not_before=NOW - before)
        await cloud.upload(name, issued.pfx(PASSWORD), **metadata)
        served[host, port] = issued.fingerprint
        if "Default" in metadata:
            served[DEFAULT_HOST, port] = issued.fingerprint

    tasks = [
        live("live.pfx", "live.test"),
        live("renewed.pfx", "renewed.test"),
        live("kept-for-later.pfx", "later.test"),
        live("kept-for-good.pfx", "mistaken.test"),
        live("role.pfx", "role.test", Role="web"),
        live("default.pfx", "default.test", port=8443, PortNumber="8443", Default="true"),
        live(ODD, "odd.test"),
        live("removed.pfx", "removed.test"),
    ]
    await asyncio.gather(*tasks)
    both = CA.issue("kept.test", "withdrawn.test", not_before=NOW - EARLIER)
    await cloud.upload("narrowed.pfx", both.pfx(PASSWORD))
    newer, older = (CA.issue("contested.test", not_before=NOW - EARLIER / part) for part in (2, 1))
    await cloud.upload("newer.pfx", newer.pfx(PASSWORD))
    await cloud.upload("older.pfx", older.pfx(PASSWORD))
    put = CA.issue("folder.test", not_before=NOW - EARLIER)
    (folder / "shop.pfx").write_bytes(put.pfx(None))
    served |= {
        ("kept.test", 443): both.fingerprint,
        ("contested.test", 443): newer.fingerprint,
        ("folder.test", 443): put.fingerprint,
    }
    for name in ("renewed", "kept-for-later", "kept-for-good", "role", "default", "removed", "narrowed", "newer"):
        await cloud.becomes(f"{name}.pfx", "live", live=AGENTS)
    del served["removed.test", 443]
    await asyncio.gather(
        live("renewed.pfx", "renewed.test", before=EARLIER / 3),
        cloud.upload("rejected.pfx", b"no certificate"),
        cloud.upload("kept-for-good.pfx", CA.issue("mistaken.test").pfx("another password")),
        cloud.upload("kept-for-later.pfx", CA.issue("later.test", not_before=NOW + LATER).pfx(PASSWORD)),
        cloud.account.uploads.delete("removed.pfx"),
    )
    version = await cloud.account.uploads.version("narrowed.pfx")
    assert version is not None
    edited = {**version.metadata, "HostHeader": "kept.test"}
    await cloud.account.uploads.set_metadata("narrowed.pfx", edited, etag=version.etag)
    await cloud.post_event("narrowed.pfx")
    for name in ("live.pfx", "renewed.pfx", "narrowed.pfx", ODD, "folder://shop.pfx"):
        await cloud.becomes(name, "live", live=AGENTS)
    await cloud.becomes("removed.pfx", "removed", live=0)
    await cloud.becomes("rejected.pfx", "rejected")
    await cloud.becomes("kept-for-good.pfx", "rejected")
    await cloud.becomes("kept-for-later.pfx", "scheduled")
    await cloud.becomes("older.pfx", "superseded")
    return served


def told(record: UploadRecord) -> tuple[object, ...]:
    return (
        *(record.status, record.etag, record.reason, record.violations, record.hosts, record.port, record.role),
        *(record.default, record.claims, record.live == record.total),
    )


async def uploads(account: Account) -> dict[str, tuple[object, ...]]:
    return {
        known.value.name: told(known.value)
        async for known in account.state.uploads.all()
        if known.value.status != "removed" and known.value.etag
    }


async def bindings(account: Account) -> dict[object, tuple[str, str]]:
    rows = [known.value async for known in account.state.bindings.all()]
    return {row.key: (row.source, row.bundle_id) for row in rows if row.present}


async def says(cloud: Witness, what: str) -> bool:
    return any(what in line for _, line in cloud.lines)


async def test_deleted_tables_come_back_by_one_sweep_and_no_visitor_notices(tmp_path: Path) -> None:
    settings = PlatformSettings(
        agents=AGENTS,
        ports=FREE_PORTS,
        folder=tmp_path,
        function_environment=NEVER_BY_ITSELF,
        agent_environment={"CERTCAST_ROLE": "web"},
        as_azure=AsAzure(deleting_s=3, busy=0, lost=0, events=Disorder()),
    )
    async with witnessed(settings) as cloud:
        served = await prepare(cloud, tmp_path)
        before, bound = await uploads(cloud.account), await bindings(cloud.account)
        everywhere = {(agent, *place, seen) for agent in range(AGENTS) for place, seen in served.items()}
        async with visited(cloud, [*served]) as visits:
            await eventually(lambda: asyncio.sleep(0, set(visits.met) == everywhere), "what is served to be seen")
            await delete_and_create_tables(cloud.platform.connection_string)
            joining = asyncio.create_task(cloud.platform.add_instance())
            await eventually(lambda: says(cloud, "not ready: table bindings is empty"), "a fresh instance to say why")
            # Of rows that are made one by one, the first is no order to take off the rest.
            await cloud.post_event("live.pfx")
            await cloud.becomes("live.pfx", "live")
            await cloud.sweep()

            async def all_is_right_again() -> bool:
                return await uploads(cloud.account) == before and await bindings(cloud.account) == bound

            with suppress(AssertionError):
                await eventually(all_is_right_again, "uploads and bindings to be as before")
            assert await uploads(cloud.account) == before
            assert await bindings(cloud.account) == bound
            assert await cloud.account.state.uploads.get("removed.pfx") is None

            assert not joining.done()
            await cloud.sweep()  # the next one finds everything in place
            await joining
            for (host, port), fingerprint in served.items():
                assert await visits.visit(AGENTS, host, port) == fingerprint, host
        assert set(visits.met) == everywhere
        assert min(visits.met.values()) > 1


async def delete_and_create_tables(connection_string: str) -> None:
    """As docs/operations.md has it: Azure keeps a deleted table's name for a while, and refuses to make it again."""
    async with TableServiceClient.from_connection_string(connection_string) as service:
        for name in TABLES:
            await service.delete_table(name)
    async with Account(StorageAccess(connection_string=connection_string), retries=0) as account:

        async def created() -> bool:
            try:
                await account.create_all()
            except CertcastError:
                return False
            return True

        await eventually(created, "the tables to be made again", every_s=0.5)
