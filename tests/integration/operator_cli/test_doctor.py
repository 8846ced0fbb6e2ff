"""`certcast doctor` against the emulator: each of many seeded misconfigurations is found by its name.

One emulator, whose clock a test may set wrong, serves all of them; what a test breaks it puts right again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient

from operator_cli.doctor.canary import canary_check
from operator_cli.doctor.looking import look
from operator_cli.doctor.tables import Tables
from shared.azure.account import Account
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.azure.key_encryption import make_key_file
from shared.config import StorageAccess
from shared.messages import RECHECK_QUEUE
from shared.state.findings import NAMED, make_checks
from shared.state.records import SILENT_AFTER
from shared.upload import is_canary
from tests.contracts.edges import own
from tests.fakes.clock import ShiftedClock
from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.emulator import Emulator, emulator, opened_account
from tests.rigs.programs import needs
from tests.rigs.rows import registered
from tests.rigs.vault_stub import VAULT, vault_stub
from tests.rigs.vault_way import vault_way
from tests.rigs.witness import eventually

pytestmark = needs("faketime")

Findings = set[tuple[str, str]]
"""Code and what it is about."""

NO_AGENTS = ("no_agents", "agents")
VAULT_KEY = f"https://{VAULT}/keys/certcast"


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> ShiftedClock:
    """The storage service's."""
    return ShiftedClock.right(tmp_path_factory.mktemp("clock") / "service")


@pytest.fixture(scope="module")
def azurite(clock: ShiftedClock) -> Iterator[Emulator]:
    """An emulator of its own: other tests' rows and queues would be found too."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in clock.environment.items():
            patched.setenv(name, value)
        running = emulator()
        started = running.__enter__()
    yield started
    running.__exit__(None, None, None)


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


async def doctor(azurite: Emulator, *options: str, **settings: str) -> Ran:
    """The command as a person runs it."""
    env = clean_environment(CERTCAST_STORAGE=azurite.connection_string, **settings)
    return await certcast("doctor", "--no-canary", *options, env=env)


async def found(azurite: Emulator, **settings: str) -> Findings:
    """The same in this process, which is quicker."""
    access = StorageAccess(connection_string=azurite.connection_string)
    checked, _ = await look(access, env=settings, url=None, wait_s=None)
    return {(finding.code, finding.about) for check in checked for finding in check.seen.findings}


def said(document: dict[str, Any]) -> Findings:
    return {(problem["code"], problem["about"]) for problem in document["problems"]}


@pytest.mark.usefixtures("account")
class TestSettings:
    async def test_all_is_well_and_what_was_not_looked_at_is_said(
        self, azurite: Emulator, account: Account, tmp_path: Path
    ) -> None:
        await account.state.instances.overwrite("web-1", registered("web-1", at=datetime.now(UTC), ready=True))
        try:
            settings = {"CERTCAST_PORTS": "443,8443", "CERTCAST_TRUST": "public"}
            ran = await doctor(azurite, "--json", CERTCAST_KEY_ENCRYPTION_KEY=f"file:{tmp_path / 'key'}", **settings)
            assert (ran.code, ran.document["ok"], ran.document["problems"]) == (0, True, [])
            assert set(ran.document["rows"]) == {"uploads", "bindings", "instances", "installations", "history"}
            results = {check["name"]: check["result"] for check in ran.document["checks"]}
            assert results["key file"] == results["trust"] == results["settings"] == "ok"
            assert results["events"] == "not looked at"
            ran = await doctor(azurite)
            assert ran.code == 0
            assert ran.out.rstrip().endswith("nothing wrong was found; not looked at: settings, events")
        finally:
            await forget(azurite, "web-1")

    async def test_each_that_is_wrong_is_named_with_every_fault_of_the_policy(
        self, azurite: Emulator, tmp_path: Path
    ) -> None:
        policy = tmp_path / "policy.toml"
        policy.write_text('version = 2\n[[uploads]]\nprefix = "a"\nhosts = ["a:1"]\n', encoding="utf-8")
        wrong = {
            "CERTCAST_PORTS": "x",
            "CERTCAST_SCRUB_PASSWORD": "perhaps",
            "CERTCAST_TRUST": "nowhere.pem",
        }
        ran = await doctor(
            azurite,
            "--json",
            CERTCAST_POLICY=str(policy),
            CERTCAST_EVENTGRID_TOPIC="certcast.westeurope-1.eventgrid.azure.net/api/events",
            CERTCAST_KEY_ENCRYPTION_KEY=f"file:{tmp_path / 'no-key'}",
            **wrong,
        )
        assert ran.code == 1
        assert said(ran.document) == {
            *(("setting", name) for name in wrong),
            ("policy", "CERTCAST_POLICY"),
            ("topic", "CERTCAST_EVENTGRID_TOPIC"),
            ("key", "CERTCAST_KEY_ENCRYPTION_KEY"),
            NO_AGENTS,
        }
        assert len([problem for problem in ran.document["problems"] if problem["code"] == "policy"]) == 2

    async def test_a_policy_in_a_blob_is_read_and_a_prefix_without_a_slash_is_warned_of(
        self, azurite: Emulator
    ) -> None:
        container = own()[:40]
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            await service.create_container(container)
            text = b'version = 1\n[[uploads]]\nprefix = "shops/alice"\nhosts = ["*.alice.example"]\n'
            await service.get_blob_client(container, "policy.toml").upload_blob(text)
        policy = ("policy", "CERTCAST_POLICY")
        assert await found(azurite, CERTCAST_POLICY=f"blob:{container}/policy.toml") == {policy, NO_AGENTS}
        assert await found(azurite, CERTCAST_POLICY=f"blob:{container}/another.toml") == {
            ("missing", "CERTCAST_POLICY"),
            NO_AGENTS,
        }
        assert ("setting", "CERTCAST_POLICY") in await found(azurite, CERTCAST_POLICY="blob:certificates/policy.toml")


async def forget(azurite: Emulator, *instances: str) -> None:
    async with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        for instance in instances:
            await service.get_table_client("instances").delete_entity("instance", instance)


class TestConnections:
    async def test_one_of_another_account_is_one_finding_and_the_rest_is_looked_at(self, azurite: Emulator) -> None:
        key = next(part for part in azurite.connection_string.split(";") if part.startswith("AccountKey="))
        wrong = azurite.connection_string.replace(key, "AccountKey=" + "A" * 86 + "==")
        env = clean_environment(CERTCAST_STORAGE=wrong, CERTCAST_POLICY="{")
        ran = await certcast("doctor", "--json", env=env)
        assert (ran.code, said(ran.document)) == (
            1,
            {("policy", "CERTCAST_POLICY"), ("refused", "the storage account")},
        )
        assert "AAAA" not in ran.out + ran.err

    async def test_where_nothing_listens(self, azurite: Emulator) -> None:
        gone = azurite.connection_string.replace(azurite.table_url, "http://127.0.0.1:1/devstoreaccount1")
        ran = await certcast("doctor", "--json", env=clean_environment(CERTCAST_STORAGE=gone))
        assert (ran.code, said(ran.document)) == (1, {("unreachable", "the storage account")})

    async def test_one_that_is_none(self) -> None:
        ran = await certcast("doctor", "--json", env=clean_environment(CERTCAST_STORAGE="certcaststate"))
        assert (ran.code, said(ran.document)) == (1, {("setting", "the storage account")})


async def test_what_is_wrong_in_the_account_is_counted_and_named(azurite: Emulator, account: Account) -> None:
    async with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        table = service.get_table_client("instances")
        bad = [f"bad{number:03}" for number in range(NAMED + 5)]
        for name in bad:
            await table.create_entity({"PartitionKey": "instance", "RowKey": name, "x": "\u202e"})
        await service.delete_table("installations")
        await service.delete_table("history")
    poison = f"{own('p')}-poison"
    await account.queues.create(poison)
    await account.queues.send(poison, "x")
    await account.queues.delete(RECHECK_QUEUE)
    await account.container(BUNDLES_CONTAINER).delete_container()
    ran = await doctor(azurite, "--json")
    status = await certcast("status", env=clean_environment(CERTCAST_STORAGE=azurite.connection_string))
    await account.queues.delete(poison)
    await forget(azurite, *bad)
    assert ran.code == 1
    assert {
        ("missing", f"queue {RECHECK_QUEUE}"),
        ("missing", f"container {BUNDLES_CONTAINER}"),
        ("missing", "table installations"),
        ("poison_messages", f"queue {poison}"),
        ("unreadable_row", "table instances, row instance/bad000"),
    } <= said(ran.document)
    assert len([each for each in ran.document["problems"] if each["code"] == "unreadable_row"]) == NAMED + 1
    assert ran.document["rows"]["instances"] == {"read": 0, "unreadable": NAMED + 5}
    assert ("missing", "table history") in {(each["code"], each["about"]) for each in ran.document["warnings"]}
    cures = {each["about"]: each["detail"] for each in ran.document["problems"]}
    assert "certcast up" in cures[f"container {BUNDLES_CONTAINER}"]
    assert f"{NAMED + 5} row(s) of the tables cannot be read: `certcast doctor` names them" in status.out


class TestTheKey:
    async def test_a_file_of_another_key_opens_none_of_the_bundles(
        self, azurite: Emulator, account: Account, tmp_path: Path
    ) -> None:
        bundle = f"{'1' * 64}/{'2' * 64}"
        await account.bundles.seal(bundle, b"pem")
        try:
            assert await found(azurite, CERTCAST_KEY_ENCRYPTION_KEY=f"file:{tmp_path / 'key'}") == {NO_AGENTS}
            other = tmp_path / "other" / "key"
            make_key_file(other)
            assert await found(azurite, CERTCAST_KEY_ENCRYPTION_KEY=f"file:{other}") == {
                ("bundle_key", "1 bundle(s) sealed under file:key"),
                NO_AGENTS,
            }
        finally:
            await account.container(BUNDLES_CONTAINER).get_blob_client(f"{bundle}.pem").delete_blob()

    @pytest.mark.usefixtures("account")
    async def test_one_in_a_vault_that_works_is_denied_or_does_not_answer(
        self, azurite: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        denied = ("key", "CERTCAST_KEY_ENCRYPTION_KEY")
        with vault_stub(tmp_path) as stub, vault_way(stub) as way:
            for name, value in {**way.environment, "REQUESTS_CA_BUNDLE": str(stub.ca)}.items():
                monkeypatch.setenv(name, value)
            assert await found(azurite, CERTCAST_KEY_ENCRYPTION_KEY=VAULT_KEY) == {NO_AGENTS}
            assert [request.split()[0] for request in stub.requests].count("POST") == 1  # one operation
            stub.refuses_as = "ForbiddenByRbac"
            assert await found(azurite, CERTCAST_KEY_ENCRYPTION_KEY=VAULT_KEY) == {denied, NO_AGENTS}
            gone = VAULT_KEY.replace("shop.", "gone.")
            assert await found(azurite, CERTCAST_KEY_ENCRYPTION_KEY=gone) == {denied, NO_AGENTS}


class TestTheCanary:
    async def test_that_no_event_tells_of_is_found_missing_and_removed(self, account: Account) -> None:
        [made] = await make_checks([canary_check(account, 1)])
        assert [finding.code for finding in made.seen.findings] == ["no_events"]
        assert [version.name async for version in account.uploads.each() if is_canary(version.name)] == []

    async def test_is_removed_when_the_doctor_is_interrupted(self, account: Account) -> None:
        running = asyncio.create_task(make_checks([canary_check(account, 30)]))

        async def written() -> bool:
            return bool([version async for version in account.uploads.each() if is_canary(version.name)])

        await eventually(written, "the canary to be written")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [version async for version in account.uploads.each() if is_canary(version.name)] == []


async def test_a_table_that_takes_too_long_is_looked_at_in_part_and_that_is_said(account: Account) -> None:
    tables = Tables(account, within_s=0)
    seen = await tables.rows_seen()
    assert {finding.code for finding in seen.findings} == {"not_complete"}
    await tables.close()


# The last one: a moment after the clock was set right the emulator still tells another time.
async def test_agents_that_are_silent_or_old_and_a_clock_that_is_wrong(
    azurite: Emulator, account: Account, clock: ShiftedClock
) -> None:
    for name, version in (("web-1", "0.1.0"), ("web-2", "0.2.0")):
        row = registered(name, at=datetime.now(UTC), ready=True, agent_version=version)
        await account.state.instances.overwrite(name, row)
    try:
        assert await found(azurite) == {("old_version", "instance web-1")}
        clock.set(SILENT_AFTER + timedelta(seconds=5))
        await asyncio.sleep(1.1)  # Node goes on sending the last `Date` for a second
        assert await found(azurite) == {
            ("silent", "instance web-1"),
            ("silent", "instance web-2"),
            ("clock", "clock"),
        }
    finally:
        clock.set(timedelta())
        await forget(azurite, "web-1", "web-2")
