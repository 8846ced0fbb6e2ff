"""What people and instances meet in a running cloud whose account refuses as Azure's does, and that it passes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from local_azure.as_azure import AsAzure
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.proxy.answers import Refusal
from local_azure.proxy.faults import Rule
from local_azure.proxy.refusals import (
    NETWORK_RULES,
    PERMISSION_MISMATCH,
    TABLE_BEING_DELETED,
)
from shared.messages import queue_of
from tests.rigs.certificates import authority
from tests.rigs.command_line import certcast, clean_environment
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 2
AGENT = "agent-0"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    settings = PlatformSettings(
        agents=AGENTS,
        ports=FREE_PORTS,
        function_environment={"CERTCAST_SWEEP_SCHEDULE": "0 0 0 1 1 *"},
        as_azure=AsAzure(deleting_s=1, busy=0, lost=0),
    )
    async with witnessed(settings) as witness:
        yield witness


async def said(cloud: Witness, who: str, what: str) -> None:
    """Wait until a part of the cloud has said something."""

    async def seen() -> bool:
        return any(speaker == who and what in line for speaker, line in cloud.lines)

    await eventually(seen, f"{who} to say '{what}'")


async def status(cloud: Witness, name: str) -> str:
    """What a person reads who asks for one upload, in one line."""
    env = clean_environment(CERTCAST_STORAGE=cloud.platform.connection_string, COLUMNS="1000")
    ran = await certcast("status", name, env=env)
    assert ran.code == 0, ran.err
    return " ".join(ran.out.split())


def agents_rule(answer: Refusal, operation: str, resource: str) -> Rule:
    return Rule(answer=answer, operations=frozenset({operation}), resource=resource, callers=(AGENT,), times=1)


TROUBLES = {
    "its queue refuses": (
        agents_rule(PERMISSION_MISMATCH, "Get Messages", f"queue {queue_of(AGENT)}"),
        f"instance {AGENT}: reading queue {queue_of(AGENT)}: refused (AuthorizationPermissionMismatch); a role",
    ),
    "its rows refuse": (
        agents_rule(NETWORK_RULES, "Query Entities", "table bindings"),
        f"instance {AGENT}: reading table bindings: refused (AuthorizationFailure); the account's network rules",
    ),
    "a table is being deleted": (
        agents_rule(TABLE_BEING_DELETED, "Query Entities", "table bindings"),
        f"instance {AGENT}: reading table bindings: one of that name was deleted a moment ago",
    ),
    "its bundles refuse": (
        agents_rule(PERMISSION_MISMATCH, "Get Blob", "container bundles"),
        "refused (AuthorizationPermissionMismatch); a role assignment takes up to half an hour",
    ),
    "its reports are refused": (
        agents_rule(PERMISSION_MISMATCH, "Put Message", "queue install-results"),
        f"instance {AGENT}: 1 report(s) are not made yet: sending to queue install-results: refused",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_an_instance_says_what_it_was_refused_and_serves_when_that_has_passed(
    cloud: Witness, trouble: str
) -> None:
    rule, sentence = TROUBLES[trouble]
    host = f"{trouble.replace(' ', '-')}.test"
    with cloud.platform.faults.during(rule) as fault:
        await cloud.goes_live(f"{host}.pfx", authority().issue(host), live=AGENTS)
    assert fault.applied > 0
    await said(cloud, AGENT, sentence)
    assert (await status(cloud, f"{host}.pfx")).count(" live ") >= 1


async def test_an_instance_whose_queue_was_deleted_makes_it_again_when_azure_lets_it(cloud: Witness) -> None:
    await cloud.account.queues.delete(queue_of(AGENT))
    await said(cloud, AGENT, f"instance {AGENT}: its queue is gone, registering again")
    await said(cloud, AGENT, "one of that name was deleted a moment ago, and can be made again")

    async def made() -> bool:
        return queue_of(AGENT) in [name async for name in cloud.account.queues.names(queue_of(AGENT))]

    await eventually(made, "the queue to be there again")
    await cloud.goes_live("again.pfx", authority().issue("again.test"), live=AGENTS)


async def test_a_person_reads_why_the_password_is_still_there_until_a_sweep_has_taken_it_out(cloud: Witness) -> None:
    refused = Rule(answer=PERMISSION_MISMATCH, operations=frozenset({"Set Blob Metadata"}), callers=("function",))
    with cloud.platform.faults.during(refused):
        await cloud.goes_live("left.pfx", authority().issue("left.test"), live=AGENTS)
        assert (
            "Its password is still in the metadata: writing the metadata of blob left.pfx: refused "
            "(AuthorizationPermissionMismatch); a role assignment takes up to half an hour"
        ) in await status(cloud, "left.pfx")
    # The process that was refused waits for a minute; one that starts meanwhile has met with nothing.
    await cloud.platform.functions.stop()
    await cloud.platform.functions.start()
    await cloud.sweep()

    async def taken_out() -> bool:
        found = await cloud.account.uploads.version("left.pfx")
        return found is not None and PASSWORD not in found.metadata.values()

    await eventually(taken_out, "the password to be taken out")
    await cloud.becomes("left.pfx", "live", live=AGENTS)
