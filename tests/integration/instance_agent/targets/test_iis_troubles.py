"""What users of the original pattern met on IIS, with the installer, real handshakes and an IIS in memory."""

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import Install, InstalledBinding, Remove
from instance_agent.windows.selftest import SelfTest
from shared.bounded import Delays
from shared.bundle import CertificateBundle
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.fakes.iis.changes import install as install_change
from tests.fakes.iis.changes import issue
from tests.fakes.iis.http_sys import free_ports
from tests.fakes.iis.rig import WEB, Machine

ADDRESS = "127.0.0.2"  # stands for the role instance's own
SHOP = "shop.example.com"
QUICK = Pace(patience_s=0.3, confirm_s=0.1, pauses=Delays((0.02, 0.04, 0.08)))


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def change(host: str, port: int) -> Install:
    return install_change(host, port=port)


async def seen(port: int, sni: str | None, address: str = ADDRESS) -> str | None:
    try:
        return await served_fingerprint((address, port), sni, timeout_s=5)
    except ProbeError:
        return None


def machine_with_fabric_binding(port: int) -> tuple[Machine, str]:
    """The binding with the instance's address that Cloud Services' fabric makes, and its certificate's fingerprint."""
    machine = Machine()
    fabric = issue("fabric.cloudapp.net")
    machine.stores.put(fabric)
    machine.iis.add_binding(WEB, f"{ADDRESS}:{port}:", flags=0, thumbprint=fabric.thumbprint)
    return machine, fabric.fingerprint


class TestBindingRightCertificateWrong:
    async def test_the_probe_sees_it_and_the_report_names_the_shadowing_binding(self, port: int) -> None:
        machine, fabric = machine_with_fabric_binding(port)
        target = machine.target(probe_address=ADDRESS)
        async with machine.http_sys.listening((ADDRESS, port)):
            (result,) = await install(target, [change(SHOP, port)], served_fingerprint, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert result.seen_fingerprint_sha256 == fabric
        assert f"{ADDRESS}:{port}: of site {WEB}" in result.reason
        assert "CERTCAST_IIS_CATCH_ALL=remove" in result.reason
        assert machine.bindings() == {f"{ADDRESS}:{port}:": 0}

    async def test_a_probe_of_the_loopback_address_would_not_have_seen_it(self, port: int) -> None:
        machine, fabric = machine_with_fabric_binding(port)
        wanted = change(SHOP, port)
        await machine.target().apply([wanted])
        async with machine.http_sys.listening((ADDRESS, port), ("127.0.0.1", port)):
            assert await seen(port, SHOP, "127.0.0.1") == wanted.bundle.fingerprint_sha256
            assert await seen(port, SHOP, ADDRESS) == fabric

    async def test_with_the_catch_all_removed_the_right_one_is_served(self, port: int) -> None:
        machine, _ = machine_with_fabric_binding(port)
        target = machine.target(probe_address=ADDRESS, catch_all="remove")
        async with machine.http_sys.listening((ADDRESS, port)):
            (result,) = await install(target, [change(SHOP, port)], served_fingerprint, pace=QUICK)
        assert result.outcome is Outcome.LIVE

    async def test_with_the_catch_all_replaced_clients_without_sni_get_the_fallback(self, port: int) -> None:
        machine = Machine()
        old = issue("old.example.com")
        machine.stores.put(old)
        machine.iis.add_binding(WEB, f"*:{port}:", flags=0, thumbprint=old.thumbprint)
        fallback = change("*.example.com", port)
        target = machine.target(probe_address=ADDRESS, catch_all="replace:*.example.com")
        async with machine.http_sys.listening((ADDRESS, port)):
            assert await seen(port, None) == old.fingerprint
            await target.apply([fallback])
            assert await seen(port, None) == fallback.bundle.fingerprint_sha256
            assert await seen(port, "unknown.example.net") == fallback.bundle.fingerprint_sha256

    async def test_a_renewal_that_is_not_seen_is_taken_back(self, port: int) -> None:
        machine = Machine()
        target = machine.target(probe_address=ADDRESS)
        old, new = change(SHOP, port), change(SHOP, port)
        known: dict[str, CertificateBundle] = {old.bundle_id: old.bundle}

        async def recall(binding: InstalledBinding) -> CertificateBundle | None:
            return known.get(binding.bundle_id)

        async with machine.http_sys.listening((ADDRESS, port)):
            await install(target, [old], served_fingerprint, recall=recall, pace=QUICK)
            fabric = issue("fabric.cloudapp.net")
            machine.stores.put(fabric)
            machine.iis.add_binding(WEB, f"{ADDRESS}:{port}:", flags=0, thumbprint=fabric.thumbprint)
            (result,) = await install(target, [new], served_fingerprint, recall=recall, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert machine.served(f"{SHOP}:{port}") == old.bundle.thumbprint_sha1
        (installed,) = await target.current()
        assert old.is_done_by(installed)
        assert machine.stores.thumbprints() == {old.bundle.thumbprint_sha1, fabric.thumbprint}


class TestOrder:
    async def test_store_then_bind_then_probe_then_clean_up(self, port: int) -> None:
        machine = Machine()
        target = machine.target(probe_address=ADDRESS)
        old, new = change(SHOP, port), change(SHOP, port)
        async with machine.http_sys.listening((ADDRESS, port)):
            await install(target, [old], served_fingerprint, pace=QUICK)
            found: list[set[str]] = []

            async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
                found.append(machine.stores.thumbprints())
                return await served_fingerprint(address, sni, timeout_s=timeout_s)

            (result,) = await install(target, [new], probe, pace=QUICK)
        assert result.outcome is Outcome.LIVE
        assert found[-1] == {old.bundle.thumbprint_sha1, new.bundle.thumbprint_sha1}
        assert machine.stores.thumbprints() == {new.bundle.thumbprint_sha1}

    async def test_one_bad_host_does_not_hold_up_the_others(self, port: int) -> None:
        machine = Machine()
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding("Other", f"*:{port}:taken.example.com", thumbprint="01" * 20)
        target = machine.target(probe_address=ADDRESS)
        changes = [change(f"h{number}.example.com", port) for number in range(5)]
        changes.insert(2, change("taken.example.com", port))
        async with machine.http_sys.listening((ADDRESS, port)):
            results = await install(target, changes, served_fingerprint, pace=QUICK)
        outcomes = {result.change.host: result.outcome for result in results}
        assert outcomes.pop("taken.example.com") is Outcome.FAILED
        assert set(outcomes.values()) == {Outcome.LIVE}

    async def test_an_erased_machine_gets_everything_back(self, port: int) -> None:
        changes = [change(f"h{number}.example.com", port) for number in range(3)]
        for _ in range(2):
            machine = Machine()
            target = machine.target(probe_address=ADDRESS)
            await target.start()
            assert await target.current() == frozenset()
            async with machine.http_sys.listening((ADDRESS, port)):
                results = await install(target, changes, served_fingerprint, pace=QUICK)
            assert {result.outcome for result in results} == {Outcome.LIVE}

    async def test_a_removed_host_is_seen_to_be_gone(self, port: int) -> None:
        machine = Machine()
        target = machine.target(probe_address=ADDRESS)
        async with machine.http_sys.listening((ADDRESS, port)):
            await install(target, [change(SHOP, port)], served_fingerprint, pace=QUICK)
            (result,) = await install(target, [Remove(host=SHOP, port=port)], served_fingerprint, pace=QUICK)
            assert await seen(port, SHOP) is None
        assert result.outcome is Outcome.REMOVED
        assert machine.stores.entries == {}


class TestDefault:
    async def test_clients_without_sni_and_with_unknown_names_get_it_and_bound_names_get_their_own(
        self, port: int
    ) -> None:
        machine = Machine()
        target = machine.target(probe_address=ADDRESS)
        default = install_change(DEFAULT_HOST, issue("*.example.com"), port=port)
        shop = change(SHOP, port)
        async with machine.http_sys.listening((ADDRESS, port)):
            results = await install(target, [default, shop], served_fingerprint, pace=QUICK)
            assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]
            for name in (None, "unknown.example.net", "x.example.com"):
                assert await seen(port, name) == default.bundle.fingerprint_sha256
            assert await seen(port, SHOP) == shop.bundle.fingerprint_sha256
            removal = Remove(host=DEFAULT_HOST, port=port)
            (result,) = await install(target, [removal], served_fingerprint, pace=QUICK)
            assert result.outcome is Outcome.REMOVED
            assert await seen(port, None) is None
            assert await seen(port, SHOP) == shop.bundle.fingerprint_sha256

    async def test_a_catch_all_of_the_administrator_is_named_in_the_report(self, port: int) -> None:
        machine = Machine()
        old = issue("old.example.com")
        machine.stores.put(old)
        machine.iis.add_binding(WEB, f"*:{port}:", flags=0, thumbprint=old.thumbprint)
        default = install_change(DEFAULT_HOST, issue("*.example.com"), port=port)
        target = machine.target(probe_address=ADDRESS)
        async with machine.http_sys.listening((ADDRESS, port)):
            results = await install(target, [default, change(SHOP, port)], served_fingerprint, pace=QUICK)
            assert await seen(port, None) == old.fingerprint
        assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.LIVE]
        assert f"catch-all binding *:{port}:" in results[0].reason


class TestHalfMadeCommit:
    async def test_the_one_that_http_sys_refused_is_blamed_and_the_others_are_live(self, port: int) -> None:
        machine = Machine()
        target = machine.target(probe_address=ADDRESS)
        old = [change(f"h{number}.example.com", port) for number in range(5)]
        new = [change(each.host, port) for each in old]
        async with machine.http_sys.listening((ADDRESS, port)):
            await install(target, old, served_fingerprint, pace=QUICK)
            bad = new[2].bundle.thumbprint_sha1
            machine.iis.usable = lambda thumbprint: thumbprint != bad
            results = await install(target, new, served_fingerprint, pace=QUICK)
            outcomes = {result.change.host: result.outcome for result in results}
            assert outcomes.pop(old[2].host) is Outcome.FAILED
            assert set(outcomes.values()) == {Outcome.LIVE}
            assert "0x80070520" in results[2].reason
            assert await seen(port, old[2].host) == old[2].bundle.fingerprint_sha256
        assert bad not in machine.stores.thumbprints()


class TestSelfTest:
    def make(self, machine: Machine, port: int, lines: list[str]) -> SelfTest:
        return SelfTest(
            machine.iis,
            machine.stores,
            http_sys=machine.http_sys,
            store="My",
            probe_address=ADDRESS,
            say=lines.append,
            port=port,
            pace=QUICK,
        )

    async def test_installs_proves_renews_removes_and_restores(self, port: int) -> None:
        machine = Machine()
        machine.stores.put(issue("by-hand.example.com"))
        before = (machine.iis.rows(WEB), machine.iis.records(), set(machine.stores.entries))
        lines: list[str] = []
        async with machine.http_sys.listening((ADDRESS, port)):
            assert await self.make(machine, port, lines).run()
        transcript = "\n".join(lines)
        assert "FAIL" not in transcript
        assert transcript.count(" live, saw ") == 6
        assert transcript.count(f":{port} removed") == 3
        assert "a setting that only http.sys holds is kept, [7]" in transcript
        assert "passed" in lines[-1]
        assert (machine.iis.rows(WEB), machine.iis.records(), set(machine.stores.entries)) == before
        assert machine.iis.site_names() == [WEB]
        assert len(machine.stores.deleted_keys) == 4
        asked = [name for name in machine.http_sys.names if name is not None]
        assert {"one.certcast-selftest.invalid", "two.certcast-selftest.invalid"} <= set(asked)

    async def test_a_shadowing_binding_fails_it_with_a_transcript_and_leaves_nothing(self, port: int) -> None:
        machine, _ = machine_with_fabric_binding(port)
        before = (machine.iis.rows(WEB), machine.iis.records(), set(machine.stores.entries))
        lines: list[str] = []
        async with machine.http_sys.listening((ADDRESS, port)):
            assert not await self.make(machine, port, lines).run()
        transcript = "\n".join(lines)
        assert "probe_mismatch" in transcript
        assert f"http.sys: {ADDRESS}:{port}" in transcript
        assert "bug report" in lines[-1]
        assert (machine.iis.rows(WEB), machine.iis.records(), set(machine.stores.entries)) == before
        assert machine.iis.site_names() == [WEB]

    async def test_an_iis_that_takes_no_changes_fails_it_and_is_left_alone(self, port: int) -> None:
        machine = Machine()
        machine.iis.fail_commit(0x80070005)
        lines: list[str] = []
        assert not await self.make(machine, port, lines).run()
        assert "FAIL" in "\n".join(lines)
        assert machine.iis.site_names() == [WEB]
        assert machine.stores.entries == {}
