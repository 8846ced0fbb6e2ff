"""The roles that docs/deploy.md gives to Function, agents and uploaders are what they need, and no more.

A whole run of the local cloud, in which each party has the storage account behind its own roles.
"""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from local_azure.azurite import StorageEndpoints
from local_azure.platform_settings import PlatformSettings, Ports
from local_azure.processes.listening import free_port
from local_azure.proxy.operations import StorageRequest
from shared.azure.account import Account
from shared.config import StorageAccess
from shared.errors import AccessDeniedError
from shared.messages import RECHECK_QUEUE, RESULTS_QUEUE
from shared.state.records import (
    BINDINGS_TABLE,
    HISTORY_TABLE,
    INSTALLATIONS_TABLE,
    INSTANCES_TABLE,
    UPLOADS_TABLE,
)
from tests.rigs import bicep_roles
from tests.rigs.certificates import authority
from tests.rigs.command_line import certcast, clean_environment
from tests.rigs.guarded_storage import GuardedStorage, guarded
from tests.rigs.pages import DEPLOY, SECURITY, rows, section, shell_lines
from tests.rigs.storage_roles import (
    BUILT_IN,
    Grant,
    allowed,
    condition,
    custom_role,
    granted_by_commands,
    grants_in,
    operations_on,
    words,
)
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

FUNCTION = grants_in(section(DEPLOY, "## 4. The storage account"))
AGENT = grants_in(section(DEPLOY, "## 8. The agents"))
UPLOADER = grants_in(section(DEPLOY, "## 9. Uploaders"))
TABLES = {UPLOADS_TABLE, BINDINGS_TABLE, INSTANCES_TABLE, INSTALLATIONS_TABLE, HISTORY_TABLE}

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRun:
    """The account as each party had it."""

    function: GuardedStorage
    agent: GuardedStorage
    uploader: GuardedStorage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeRun]:
    """Each party does once what it does."""
    first = free_port(3)
    services = StorageEndpoints(blob_port=first, queue_port=first + 1, table_port=first + 2)
    async with AsyncExitStack() as stack:
        parties = [await stack.enter_async_context(guarded(services, grants)) for grants in (FUNCTION, AGENT, UPLOADER)]
        function, agent, uploader = parties
        settings = PlatformSettings(
            agents=1,
            ports=Ports(blob=first, queue=first + 1, table=first + 2, functions=0, agent_offset=None),
            function_environment={
                "CERTCAST_STORAGE": function.connection_string,
                "CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *",
            },
            agent_environment={"CERTCAST_STORAGE": agent.connection_string},
        )
        cloud = await stack.enter_async_context(witnessed(settings))
        await everything(cloud, uploader.connection_string, tmp_path_factory.mktemp("uploader"))
        yield WholeRun(function=function, agent=agent, uploader=uploader)


async def everything(cloud: Witness, uploaders: str, folder: Path) -> None:
    """An upload from its beginning to its end, and what can go wrong on the way."""
    connection = folder / "connection string"
    connection.write_text(uploaders, encoding="utf-8")
    connection.chmod(0o600)
    file = folder / "shop.pfx"
    file.write_bytes(authority().issue("shop.test").pfx(PASSWORD))

    async def command(*arguments: str | Path) -> None:
        where = ("--connection-string-file", connection)
        ran = await certcast(*arguments, *where, stdin=PASSWORD.encode(), env=clean_environment())
        assert ran.code == 0, ran.err

    await command("upload", file, "--password-stdin", "--trust", "off")
    await command("status")
    await command("status", "shop.pfx")
    await cloud.upload("bad.pfx", b"no certificate")
    await cloud.becomes("bad.pfx", "rejected")
    [queue] = [name async for name in cloud.account.queues.names("cert-agent-") if not name.endswith("-poison")]
    await cloud.account.queues.send(queue, "no hint")

    async def poisoned() -> bool:
        return await cloud.platform.messages_on(f"{queue}-poison") == 1

    await eventually(poisoned, "the agent to put a message aside")
    async with aiohttp.ClientSession(headers={"x-functions-key": cloud.platform.keys.function}) as client:
        for method, path in (("GET", "certificates"), ("GET", "instances"), ("POST", "certificates/shop.pfx/redeploy")):
            async with client.request(method, f"{cloud.platform.functions_url}/api/{path}") as answer:
                assert answer.ok, await answer.text()
    await cloud.platform.agents[0].stop()
    await cloud.platform.agents[0].start()
    await cloud.becomes("shop.pfx", "live", live=1)
    await cloud.sweep()
    await command("remove", "shop.pfx")


GRANT = re.compile(r'grant "\$(\w+)" "([^"]+)" "\$([^"]+)"')
DOCTOR = Path("docs/doctor.md")
EVENTS = Path("docs/events/README.md")
PARTIES = {"function": FUNCTION, "agent": AGENT, "uploader": UPLOADER}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("party", PARTIES)
async def test_nothing_that_a_party_needs_is_refused(run: WholeRun, party: str) -> None:
    storage: GuardedStorage = getattr(run, party)
    assert storage.asked
    assert storage.refused == set(), "docs/deploy.md gives too little"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("party", PARTIES)
async def test_every_role_is_needed(run: WholeRun, party: str) -> None:
    for grant in PARTIES[party]:
        others = [other for other in PARTIES[party] if other is not grant]
        asked = getattr(run, party).asked
        assert any(not allowed(others, each) for each in asked), f"nothing needs {grant.role} on {grant.scope}"


@pytest.mark.asyncio(loop_scope="module")
async def test_everything_in_the_custom_role_is_needed(run: WholeRun) -> None:
    name, permissions = custom_role()
    for permission in permissions:
        rest = permissions - {permission}
        less = [replace(each, permissions=rest) if each.role == name else each for each in AGENT]
        assert any(not allowed(less, each) for each in run.agent.asked), f"nothing needs {permission}"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_roles_do_not_allow_is_refused(run: WholeRun) -> None:
    async with Account(StorageAccess(connection_string=run.agent.connection_string)) as account:
        with pytest.raises(AccessDeniedError):
            await account.queues.send(RECHECK_QUEUE, "forged")
        with pytest.raises(AccessDeniedError):
            await account.uploads.version("shop.pfx")


@pytest.mark.parametrize("principal", ["FUNCTION_PRINCIPAL", "AGENT_PRINCIPAL"])
def test_the_commands_give_the_roles_of_the_table(principal: str) -> None:
    table = FUNCTION if principal == "FUNCTION_PRINCIPAL" else AGENT
    assert granted_by_commands(principal) == {(grant.role, grant.scope) for grant in table}


FUNCTIONS, AGENTS, OPERATORS = "function-roles.bicep", "agent-roles.bicep", "operator-roles.bicep"
KEY = ("Key Vault Crypto Service Encryption User", "key")
TELEMETRY = ("Monitoring Metrics Publisher", "component")


class TestTheBicepFiles:
    @pytest.mark.parametrize(("file", "table"), [(FUNCTIONS, FUNCTION), (AGENTS, AGENT)])
    def test_give_the_roles_of_the_table(self, file: str, table: list[Grant]) -> None:
        assert {*bicep_roles.grants(file)} == {*table}

    def test_define_the_custom_role_of_the_page(self) -> None:
        assert (bicep_roles.CUSTOM_ROLE, bicep_roles.custom_role()) == custom_role()

    def test_give_what_the_page_gives_on_the_key_and_on_the_hosts_account(self) -> None:
        lines = [line for page in (DEPLOY, EVENTS) for line in shell_lines(page)]
        told = {match.groups() for line in lines if (match := GRANT.match(line))}
        for who, file in (("FUNCTION_PRINCIPAL", FUNCTIONS), ("AGENT_PRINCIPAL", AGENTS)):
            assert (KEY in bicep_roles.elsewhere(file)) == ((who, KEY[0], "VAULT_ID/keys/certcast") in told)
        host = {
            (role, "host") for who, role, place in told if place == "HOST_STORAGE_ID" and who.startswith("FUNCTION")
        }
        assert bicep_roles.elsewhere(FUNCTIONS) == {*host, KEY, TELEMETRY}
        assert bicep_roles.elsewhere(AGENTS) == {KEY, TELEMETRY}
        topic = {role for who, role, place in told if place == "TOPIC_ID" and who.startswith("FUNCTION")}
        assert {each.role for each in bicep_roles.assignments("topic.bicep")} == topic

    def test_let_agents_send_telemetry_only_where_it_is_asked_for(self) -> None:
        [telemetry] = [each for each in bicep_roles.assignments(AGENTS) if each.role == TELEMETRY[0]]
        assert telemetry.when == "telemetry"

    def test_give_operators_what_the_doctor_and_a_redeployment_ask_for(self) -> None:
        sender = Grant(
            role="Storage Queue Data Message Sender",
            permissions=BUILT_IN["Storage Queue Data Message Sender"],
            scope=f"queue {RECHECK_QUEUE}",
        )
        assert {*bicep_roles.grants(OPERATORS)} == {*grants_in(section(DOCTOR, "## Rights")), sender}
        assert f"*{sender.role}* on the queue `{RECHECK_QUEUE}`" in section(DEPLOY, "## 9. Uploaders")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_stands_in_for_the_custom_role_is_enough_and_more(run: WholeRun) -> None:
    instead = bicep_roles.grants(AGENTS, customised=False)
    # What another test asked for is no agent's.
    assert all(allowed(instead, each) for each in run.agent.asked if allowed(AGENT, each))
    assert allowed(instead, StorageRequest(operation="Delete Queue", resource=f"queue {RECHECK_QUEUE}"))


ALICE = [replace(UPLOADER[0], condition=condition(SECURITY))]
READS = {"List Blobs", "Get Blob", "Get Blob Properties", "Get Entity", "Query Entities"}


def cannot(grants: list[Grant], resource: str, *, but: Collection[str] = (), path: str = "x.pfx") -> None:
    """Check that nothing may be done to a container, table or queue, except for some operations."""
    for operation in operations_on(resource):
        request = StorageRequest(operation=operation, resource=resource, path=path)
        assert allowed(grants, request) is (operation in but), request


class TestAnInstance:
    def test_neither_reads_nor_writes_uploads_and_their_history(self) -> None:
        cannot(AGENT, "container certificates")
        for table in (UPLOADS_TABLE, HISTORY_TABLE):
            cannot(AGENT, f"table {table}")

    def test_writes_no_desired_row_no_report_and_no_bundle(self) -> None:
        for resource in ("container bundles", f"table {BINDINGS_TABLE}", f"table {INSTALLATIONS_TABLE}"):
            cannot(AGENT, resource, but=READS)

    def test_neither_reads_nor_fills_the_functions_queue(self) -> None:
        cannot(AGENT, f"queue {RECHECK_QUEUE}", but={"Create Queue"})

    def test_only_adds_to_the_reports(self) -> None:
        cannot(AGENT, f"queue {RESULTS_QUEUE}", but={"Create Queue", "Put Message"})

    def test_deletes_no_queue(self) -> None:
        taking_part = {"Create Queue", "Put Message", "Get Messages", "Delete Message"}
        cannot(AGENT, "queue cert-agent-another", but=taking_part)


class TestAnUploader:
    def test_reaches_no_bundle_no_desired_row_and_no_queue(self) -> None:
        queues = (f"queue {name}" for name in (RECHECK_QUEUE, RESULTS_QUEUE, "cert-agent-1"))
        for resource in ("container bundles", f"table {BINDINGS_TABLE}", f"table {HISTORY_TABLE}", *queues):
            cannot(UPLOADER, resource)

    def test_writes_no_row_and_no_tag(self) -> None:
        for table in (UPLOADS_TABLE, INSTANCES_TABLE, INSTALLATIONS_TABLE):
            cannot(UPLOADER, f"table {table}", but=READS)
        changes = {"Create Container", "Put Blob", "Set Blob Metadata", "Delete Blob"}
        cannot(UPLOADER, "container certificates", but=READS | changes)

    @pytest.mark.parametrize("path", ["shops/bob/x.pfx", "shops/alice2/x.pfx", "x/shops/alice/x.pfx", "x.pfx"])
    def test_with_a_condition_changes_nothing_outside_a_prefix(self, path: str) -> None:
        cannot(ALICE, "container certificates", path=path, but=READS | {"Create Container"})

    def test_with_a_condition_works_as_ever_within_a_prefix(self) -> None:
        changes = {"Put Blob", "Set Blob Metadata", "Delete Blob"}
        cannot(ALICE, "container certificates", path="shops/alice/x.pfx", but=READS | changes | {"Create Container"})


def test_the_table_of_who_may_do_what_is_what_the_roles_come_to() -> None:
    header, *found = [cells for cells in rows(section(SECURITY, "## Who may do what")) if len(cells) == 4]
    assert header[1:] == ["an uploader", "an instance", "the Function"]
    for resource, *cells in found:
        named = resource.replace("`", "").replace("cert-agent-…", "cert-agent-1")
        assert cells == [words(grants, named) for grants in (UPLOADER, AGENT, FUNCTION)], resource
    everything = {cells[0] for cells in found}
    assert {f"table `{name}`" for name in TABLES} < everything
    assert {f"queue `{name}`" for name in (RECHECK_QUEUE, RESULTS_QUEUE, "cert-agent-…")} < everything
