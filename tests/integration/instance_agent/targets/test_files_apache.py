"""The files target with a real Apache: the contract of all targets, and what is its own."""

from collections.abc import AsyncIterator

import pytest

from instance_agent.installing.installer import install
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import ReloadContract, RestartContract, TlsContract
from tests.rigs.apache import ApacheRig, serving_apache
from tests.rigs.targets import expect, fresh


class TestTheContract(TlsContract, ReloadContract, RestartContract):
    """With the module's rig."""


@pytest.fixture
async def rig() -> AsyncIterator[ApacheRig]:
    async with serving_apache() as rig:
        yield rig


async def test_an_apache_that_is_down_is_reported_and_healed_by_the_same_batch(rig: ApacheRig) -> None:
    old = fresh("a.example.com", 443)
    await rig.target.apply([old])
    before = await rig.target.current()
    await rig.stop_server()
    change = fresh("a.example.com", 443)
    (result,) = await install(rig.target, [change], rig.probe)
    assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
    assert "cannot be reloaded" in result.reason
    assert await rig.target.current() == before
    await rig.start_server()
    await expect(rig, 443, {"a.example.com": old})
    (result,) = await install(rig.target, [change], rig.probe)
    assert result.outcome is Outcome.LIVE


async def test_what_the_check_refuses_is_found_and_the_others_go_live(rig: ApacheRig) -> None:
    template = rig.folder / "templates" / "all" / "apache.conf.j2"
    broken = "{% for each in bindings if each.host == 'bad.example.com' %}Nonsense on\n{% endfor %}"
    template.write_text(template.read_text() + broken)
    await rig.restart_agent()
    hosts = ("a.example.com", "b.example.com", "bad.example.com", "d.example.com")
    results = await install(rig.target, [fresh(host, 443) for host in hosts], rig.probe)
    assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE, Outcome.FAILED, Outcome.LIVE]
    assert "Invalid command 'Nonsense'" in results[2].reason


async def test_a_template_that_apache_refuses_ends_the_start_and_leaves_what_was_there(rig: ApacheRig) -> None:
    change = fresh("a.example.com", 443)
    await rig.target.apply([change])
    made = (rig.folder / "certcast" / "rendered" / "apache.conf").read_text()
    (rig.folder / "templates" / "all" / "apache.conf.j2").write_text("Nonsense on\n")
    with pytest.raises(ConfigurationError, match="Invalid command 'Nonsense'"):
        await rig.restart_agent()
    assert (rig.folder / "certcast" / "rendered" / "apache.conf").read_text() == made
    await expect(rig, 443, {"a.example.com": change})
