"""`certcast doctor` against the emulator: what is wrong is named, and an account in good order passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient

from operator_cli.diagnosis import NAMED_ROWS
from shared.azure.account import Account
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.messages import RECHECK_QUEUE
from tests.contracts.edges import own
from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.emulator import Emulator, emulator, opened_account


@pytest.fixture(scope="module")
def azurite() -> Iterator[Emulator]:
    """An emulator of its own: other tests' rows and queues would be found too."""
    with emulator() as running:
        yield running


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


async def doctor(azurite: Emulator, *options: str, **settings: str) -> Ran:
    env = clean_environment(CERTCAST_STORAGE=azurite.connection_string, **settings)
    return await certcast("doctor", *options, env=env)


def said(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem["code"], problem["about"]) for problem in document["problems"]]


@pytest.mark.usefixtures("account")
class TestSettings:
    async def test_all_is_well(self, azurite: Emulator) -> None:
        ran = await doctor(azurite, "--json", CERTCAST_PORTS="443,8443", CERTCAST_TRUST="public")
        assert (ran.code, ran.document["ok"], ran.document["problems"]) == (0, True, [])
        assert set(ran.document["rows"]) == {"uploads", "bindings", "instances", "installations"}
        assert "all is well" in (await doctor(azurite)).out

    async def test_those_that_are_wrong_and_every_fault_of_the_policy(self, azurite: Emulator, tmp_path: Path) -> None:
        policy = tmp_path / "policy.toml"
        policy.write_text('version = 2\n[[uploads]]\nprefix = "a"\nhosts = ["a:1"]\n', encoding="utf-8")
        wrong = {"CERTCAST_PORTS": "x", "CERTCAST_TRUST": "nowhere.pem", "CERTCAST_SCRUB_PASSWORD": "perhaps"}
        ran = await doctor(azurite, "--json", CERTCAST_POLICY=str(policy), **wrong)
        assert ran.code == 1
        assert sorted(said(ran.document)) == sorted(
            [*(("setting", name) for name in wrong), ("policy", "CERTCAST_POLICY"), ("policy", "CERTCAST_POLICY")]
        )

    async def test_a_policy_in_a_blob_is_read_and_a_prefix_without_a_slash_is_warned_of(
        self, azurite: Emulator
    ) -> None:
        container = own()[:40]
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            await service.create_container(container)
            text = b'version = 1\n[[uploads]]\nprefix = "shops/alice"\nhosts = ["*.alice.example"]\n'
            await service.get_blob_client(container, "policy.toml").upload_blob(text)
        ran = await doctor(azurite, "--json", CERTCAST_POLICY=f"blob:{container}/policy.toml")
        assert (ran.code, len(ran.document["warnings"])) == (0, 1)
        ran = await doctor(azurite, "--json", CERTCAST_POLICY=f"blob:{container}/another.toml")
        assert (ran.code, said(ran.document)) == (1, [("missing", "CERTCAST_POLICY")])
        ran = await doctor(azurite, CERTCAST_POLICY="blob:certificates/policy.toml")
        assert ran.code == 1
        assert "to which uploaders write" in " ".join(ran.out.split())


async def test_a_policy_is_looked_at_where_no_account_is_reached(azurite: Emulator) -> None:
    gone = azurite.connection_string.replace(azurite.blob_url, "http://127.0.0.1:1/devstoreaccount1")
    env = clean_environment(CERTCAST_STORAGE=gone, CERTCAST_POLICY="{")
    ran = await certcast("doctor", "--json", env=env)
    assert (ran.code, said(ran.document)) == (
        1,
        [("policy", "CERTCAST_POLICY"), ("unreachable", "the storage account")],
    )


async def test_what_is_wrong_in_the_account_is_counted_and_named(azurite: Emulator, account: Account) -> None:
    async with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        table = service.get_table_client("instances")
        for number in range(NAMED_ROWS + 5):
            await table.create_entity({"PartitionKey": "instance", "RowKey": f"bad{number:03}", "x": "\u202e"})
        await service.delete_table("installations")
    poison = f"{own('p')}-poison"
    await account.queues.create(poison)
    await account.queues.send(poison, "x")
    await account.queues.delete(RECHECK_QUEUE)
    await account.container(BUNDLES_CONTAINER).delete_container()
    ran = await doctor(azurite, "--json")
    found = said(ran.document)
    assert ran.code == 1
    assert {
        ("missing", f"queue {RECHECK_QUEUE}"),
        ("missing", f"container {BUNDLES_CONTAINER}"),
        ("missing", "table installations"),
        ("poison_messages", f"queue {poison}"),
        ("unreadable_row", "table instances, row instance/bad000"),
    } <= set(found)
    assert len([code for code, _ in found if code == "unreadable_row"]) == NAMED_ROWS + 1
    assert ran.document["rows"]["instances"] == {"read": 0, "unreadable": NAMED_ROWS + 5}
    status = await certcast("status", env=clean_environment(CERTCAST_STORAGE=azurite.connection_string))
    assert f"{NAMED_ROWS + 5} row(s) of the tables cannot be read: `certcast doctor` names them" in status.out
