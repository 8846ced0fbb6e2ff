"""One commit for a batch: planned again after conflicts, never after an error, and stopped sites started again."""

import pytest

from instance_agent.targets.base import ApplyError, Remove, ServerUnavailableError
from instance_agent.targets.iis.bindings import SiteState
from instance_agent.targets.iis.hresult import ACCESS_DENIED, CLASS_NOT_REGISTERED, cure, described
from instance_agent.targets.iis.target import IisTarget
from tests.fakes.iis.changes import install
from tests.fakes.iis.rig import WEB, Machine

SHOP = "shop.example.com"


class TestConflicts:
    async def test_a_batch_is_planned_again_on_what_another_program_committed(self, machine: Machine) -> None:
        machine.iis.conflict(1, intruder=(WEB, f"10.0.0.4:443:{SHOP}"))
        change = install(SHOP)
        await machine.target().apply([change])
        assert set(machine.bindings()) == {f"10.0.0.4:443:{SHOP}", f"*:443:{SHOP}"}
        assert machine.served(f"{SHOP}:443") == change.bundle.thumbprint_sha1
        assert (machine.iis.commits, machine.iis.open_sessions) == (1, 0)

    async def test_the_certificate_is_imported_once_however_often_it_is_planned(self, machine: Machine) -> None:
        machine.iis.conflict(3)
        change = install(SHOP)
        await machine.target().apply([change])
        assert machine.stores.imports == [change.bundle.thumbprint_sha1]

    async def test_pauses_grow_and_have_jitter(self) -> None:
        pauses = []
        for _ in range(2):
            machine = Machine()
            machine.iis.conflict(4)
            await machine.target().apply([install(SHOP)])
            pauses.append(machine.pauses)
        first, second = pauses
        assert len(first) == 4
        assert first[0] < first[3]
        assert first != second

    async def test_a_name_that_another_site_took_meanwhile_is_an_error_that_leaves_no_import(
        self, machine: Machine
    ) -> None:
        machine.iis.add_site("Other", site_id=2)
        machine.iis.conflict(1, intruder=("Other", f"*:443:{SHOP}"))
        with pytest.raises(ApplyError, match="Other") as caught:
            await machine.target().apply([install(SHOP)])
        assert caught.value.culprit == (SHOP, 443)
        assert (machine.iis.commits, machine.stores.entries, machine.bindings()) == (0, {}, {})

    async def test_a_sharing_violation_is_tried_again(self, machine: Machine) -> None:
        machine.iis.share_violation(2)
        await machine.target().apply([install(SHOP)])
        assert machine.iis.commits == 1

    async def test_conflicts_without_end_are_the_servers_trouble(self, machine: Machine) -> None:
        machine.iis.conflict(1000)
        with pytest.raises(ServerUnavailableError, match="another program") as caught:
            await machine.target().apply([install(SHOP)])
        assert caught.value.retriable
        assert (machine.iis.commits, machine.stores.entries, machine.iis.open_sessions) == (0, {}, 0)


class TestErrors:
    async def test_a_binding_that_iis_refuses_names_its_change_and_nothing_is_committed(self, machine: Machine) -> None:
        machine.iis.refuse("*:443:bad.example.com")
        with pytest.raises(ApplyError, match="0x80070057") as caught:
            await machine.target().apply(
                [install(SHOP), install("bad.example.com"), Remove(host="x.example.com", port=443)]
            )
        assert caught.value.culprit == ("bad.example.com", 443)
        assert (machine.iis.commits, machine.iis.open_sessions, machine.bindings()) == (0, 0, {})

    @pytest.mark.parametrize("code", [ACCESS_DENIED, CLASS_NOT_REGISTERED])
    async def test_what_no_change_can_help_is_the_servers_trouble(self, machine: Machine, code: int) -> None:
        machine.iis.fail_commit(code)
        with pytest.raises(ServerUnavailableError):
            await machine.target().apply([install(SHOP)])

    async def test_another_error_of_the_commit_is_the_batchs(self, machine: Machine) -> None:
        machine.iis.fail_commit(0x8007000D)
        with pytest.raises(ApplyError, match="0x8007000D") as caught:
            await machine.target().apply([install(SHOP)])
        assert not isinstance(caught.value, ServerUnavailableError)
        assert caught.value.culprit is None

    def test_codes_are_told_with_their_cure(self) -> None:
        assert "Web-Scripting-Tools" in (cure(0x80040154) or "")
        assert "private key" in (cure(0x80070520) or "")
        assert "SNI" in (cure(0x80070585) or "")
        assert cure(0x8000FFFF) is None
        assert cure(None) is None
        assert described("Class not\r\nregistered.", 0x80040154).startswith("Class not registered (0x80040154): ")
        assert described("Odd", 0x8000FFFF) == "Odd (0x8000FFFF)"
        assert described("Odd.", None) == "Odd"


class TestStoppedSites:
    async def test_a_site_that_stopped_at_the_commit_is_started_again(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.iis.stop_on_commit(WEB)
        await machine.target().apply([install(SHOP)])
        assert machine.iis.starts == [WEB]
        assert machine.iis.state(WEB) is SiteState.STARTED
        assert "stopped when its bindings changed" in caplog.text

    async def test_a_site_that_was_stopped_before_stays_stopped(self, machine: Machine) -> None:
        machine.iis.states[WEB] = SiteState.STOPPED
        await machine.target().apply([install(SHOP)])
        assert machine.iis.starts == []

    async def test_another_web_site_that_stopped_is_started_but_no_ftp_site(self, machine: Machine) -> None:
        machine.add_web_site("Other")
        machine.iis.add_site("Files", site_id=3)
        machine.iis.add_binding("Files", "*:21:", protocol="ftp", flags=0)
        machine.iis.stop_on_commit("Other")
        machine.iis.stop_on_commit("Files")
        await machine.target().apply([install(SHOP)])
        assert machine.iis.starts == ["Other"]

    async def test_a_site_that_stays_stopped_is_reported(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.iis.stop_on_commit(WEB, stays=True)
        target = machine.target()
        await target.apply([install(SHOP)])
        assert "stays stopped" in caplog.text
        assert len(machine.iis.starts) > 1
        assert f"the site {WEB} stopped" in (await target.explain_mismatch(SHOP, 443, "0" * 64) or "")

    async def test_a_state_that_cannot_be_read_is_read_again(self, machine: Machine) -> None:
        machine.iis.stop_on_commit(WEB)
        machine.iis.hide_state(WEB, 1)
        target = machine.target()
        await target.apply([install(SHOP)])
        machine.iis.hide_state(WEB, 1)
        await target.apply([install("blog.example.com")])
        assert machine.iis.starts == [WEB, WEB]

    async def test_nothing_is_started_when_nothing_was_committed(self, machine: Machine, target: IisTarget) -> None:
        change = install(SHOP)
        await target.apply([change])
        machine.iis.states[WEB] = SiteState.STOPPED
        await target.apply([change])
        assert machine.iis.starts == []

    async def test_a_site_deleted_meanwhile_is_forgotten(self, machine: Machine) -> None:
        machine.add_web_site("Other")
        target = machine.target()
        await target.apply([install(SHOP)])
        machine.iis.sites = [site for site in machine.iis.sites if site.name != "Other"]
        await target.apply([install("blog.example.com")])
        assert machine.iis.starts == []
