"""The files target with a real Apache: the contract of all targets, and what is its own."""

from collections.abc import AsyncIterator

import pytest

from instance_agent.installing.installer import install
from instance_agent.selection import make_target
from instance_agent.targets.base import Install, ServerUnavailableError
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import (
    DefaultContract,
    DefaultRestartContract,
    HandmadeChangeContract,
    ReloadContract,
    RestartContract,
    TlsContract,
)
from tests.rigs.apache import ApacheRig, serving_apache
from tests.rigs.targets import QUICK, expect, fresh, fresh_default, root


class TestTheContract(
    TlsContract,
    ReloadContract,
    RestartContract,
    DefaultContract,
    DefaultRestartContract,
    HandmadeChangeContract,
):
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


@pytest.fixture
async def quiet() -> AsyncIterator[tuple[ApacheRig, Install]]:
    """An Apache that has read its one binding, and is told to read nothing again: a reload that is due reads all."""
    async with serving_apache(CERTCAST_FILES_RELOAD="") as rig:
        change = fresh("a.example.com", 443)
        await rig.target.apply([change])
        await rig.reload()
        await expect(rig, 443, {"a.example.com": change})
        yield rig, change


async def test_an_apache_that_somebody_broke_is_waited_for_at_the_start(quiet: tuple[ApacheRig, Install]) -> None:
    rig, change = quiet
    configuration = rig.folder / "httpd.conf"
    sound = configuration.read_text()
    configuration.write_text(sound + "Nonsense on\n")
    template = rig.folder / "templates" / "all" / "apache.conf.j2"
    template.write_text(f"# changed meanwhile\n{template.read_text()}")
    await rig.target.stop()
    target = make_target("files", rig.env)
    with pytest.raises(ServerUnavailableError, match=r"broken without certcast's part: .*Invalid command 'Nonsense'"):
        await target.start()
    await expect(rig, 443, {"a.example.com": change})
    configuration.write_text(sound)
    await target.start()
    assert (rig.folder / "certcast" / "rendered" / "apache.conf").read_text().startswith("# changed meanwhile\n")
    await target.stop()


@pytest.mark.parametrize("how", ["changed", "without its tag", "deleted"])
async def test_a_file_that_somebody_changed_without_a_reload_is_written_again_before_it_is_read(
    quiet: tuple[ApacheRig, Install], how: str
) -> None:
    rig, change = quiet
    path = rig.folder / "certcast" / "live" / "443" / "a.example.com.pem"
    before, theirs = path.read_bytes(), root().issue("a.example.com").bundle().to_pem()
    path.unlink()
    if how != "deleted":
        path.write_bytes((before.partition(b"\n")[0] + b"\n" if how == "changed" else b"") + theirs)
    await expect(rig, 443, {"a.example.com": change})
    rig.target.forget()
    assert not [binding for binding in await rig.target.current() if change.is_done_by(binding)]
    (result,) = await install(rig.target, [change], rig.probe)
    assert result.outcome is Outcome.LIVE, result.reason
    assert path.read_bytes() == before
    await expect(rig, 443, {"a.example.com": change})


async def test_a_server_that_does_not_use_the_default_is_told_which_file_to_use(rig: ApacheRig) -> None:
    template = rig.folder / "templates" / "all" / "apache.conf.j2"
    template.write_text(template.read_text().replace('"{{ pem }}"', '"{{ fallback }}"'))
    await rig.restart_agent()
    (result,) = await install(rig.target, [fresh_default(443)], rig.probe, pace=QUICK)
    assert result.outcome is Outcome.PROBE_MISMATCH
    assert f"have it use {rig.folder}/certcast/live/443/_default_.pem" in result.reason
    await expect(rig, 443, {None: rig.fallback})


async def test_a_template_that_apache_refuses_ends_the_start_and_leaves_what_was_there(rig: ApacheRig) -> None:
    change = fresh("a.example.com", 443)
    await rig.target.apply([change])
    made = (rig.folder / "certcast" / "rendered" / "apache.conf").read_text()
    (rig.folder / "templates" / "all" / "apache.conf.j2").write_text("Nonsense on\n")
    with pytest.raises(ConfigurationError, match="Invalid command 'Nonsense'"):
        await rig.restart_agent()
    assert (rig.folder / "certcast" / "rendered" / "apache.conf").read_text() == made
    await expect(rig, 443, {"a.example.com": change})
