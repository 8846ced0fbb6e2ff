"""The settings that only http.sys holds outlive a change of a binding, a refusal and a crash, or are named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from instance_agent.installing.installer import install as install_batch
from instance_agent.targets.base import ApplyError, Install, Remove
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.records import SslSettings
from instance_agent.targets.iis.target import IisTarget
from shared.messages import InstallOutcome as Outcome
from tests.fakes.iis.changes import install
from tests.fakes.iis.rig import WEB, Machine

SHOP = "shop.example.com"
ENDPOINT = f"{SHOP}:443"
OLD = "01" * 20
SETTINGS = SslSettings(check_mode=1, freshness_s=60, ctl_identifier="Issuers", ctl_store="ClientAuthIssuer", flags=3)
DENIED = GatewayError("Access is denied", code=0x80070005)


async def bound(machine: Machine, target: IisTarget, settings: SslSettings = SETTINGS) -> Install:
    """A binding of ours whose settings an administrator changed with netsh."""
    change = install(SHOP)
    await target.apply([change])
    machine.iis.settings[ENDPOINT] = settings
    return change


def settings(machine: Machine, endpoint: str = ENDPOINT) -> SslSettings:
    (record,) = machine.http_sys.records([endpoint])
    return record.settings


class TestKept:
    @pytest.mark.parametrize(
        "one",
        [
            SslSettings(flags=1),
            SslSettings(flags=2),
            SslSettings(ctl_identifier="Issuers", ctl_store="CA"),
            SslSettings(check_mode=0x10002),
            SslSettings(freshness_s=1, retrieval_timeout_ms=2),
            SETTINGS,
        ],
    )
    async def test_across_a_renewal(self, machine: Machine, target: IisTarget, one: SslSettings) -> None:
        await bound(machine, target, one)
        new = install(SHOP)
        await target.apply([new])
        assert settings(machine) == one
        assert machine.served(ENDPOINT) == new.bundle.thumbprint_sha1
        (found,) = await target.current()
        assert new.is_done_by(found)

    async def test_when_a_binding_made_by_hand_without_sni_is_taken_over(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"10.0.0.4:443:{SHOP}", flags=0, thumbprint=OLD)
        machine.iis.settings["10.0.0.4:443"] = SETTINGS
        await machine.target().apply([install(SHOP)])
        assert settings(machine) == SETTINGS

    async def test_when_netsh_made_the_record_before_there_was_a_binding(self, machine: Machine) -> None:
        machine.iis.http_sys[ENDPOINT] = (OLD, "My")
        machine.iis.settings[ENDPOINT] = SETTINGS
        await machine.target().apply([install(SHOP)])
        assert settings(machine) == SETTINGS

    async def test_by_a_catch_all_that_gets_another_certificate(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint=OLD)
        machine.iis.settings["*:443"] = SETTINGS
        await machine.target(catch_all=f"replace:{SHOP}").apply([install(SHOP)])
        assert settings(machine, "*:443") == SETTINGS
        assert settings(machine) == SslSettings()

    async def test_where_a_renewal_is_refused_and_the_old_certificate_put_back(
        self, machine: Machine, target: IisTarget
    ) -> None:
        old, new = await bound(machine, target), install(SHOP)
        machine.iis.usable = lambda thumbprint: thumbprint == old.bundle.thumbprint_sha1
        with pytest.raises(ApplyError) as caught:
            await target.apply([new])
        assert caught.value.culprit == new.key
        assert machine.served(ENDPOINT) == old.bundle.thumbprint_sha1
        assert settings(machine) == SETTINGS

    async def test_nothing_is_written_where_there_is_nothing_to_keep(self, machine: Machine, target: IisTarget) -> None:
        await bound(machine, target, SslSettings())
        machine.http_sys.refused[ENDPOINT] = DENIED
        await target.apply([install(SHOP)])

    async def test_not_beyond_the_removal_of_the_binding(self, machine: Machine, target: IisTarget) -> None:
        await bound(machine, target)
        await target.apply([Remove(host=SHOP, port=443)])
        await target.apply([install(SHOP)])
        assert settings(machine) == SslSettings()


class TestNamed:
    async def test_what_http_sys_does_not_take_back_fails_with_its_name_until_it_does(
        self, machine: Machine, target: IisTarget
    ) -> None:
        await bound(machine, target)
        machine.http_sys.refused[ENDPOINT] = DENIED
        new, other = install(SHOP), install("blog.example.com")
        for _ in range(2):
            with pytest.raises(ApplyError, match=r"clientcertnegotiation=enable.*0x80070005") as caught:
                await target.apply([new, other])
            assert caught.value.culprit == new.key
            assert "sslctlstorename=ClientAuthIssuer" in str(caught.value)
            installed = {it.key: it for it in await target.current()}
            assert not new.is_done_by(installed[new.key])
            assert other.is_done_by(installed[other.key])
        machine.http_sys.refused.clear()
        await target.apply([new])
        assert settings(machine) == SETTINGS
        assert new.is_done_by({it.key: it for it in await target.current()}[new.key])

    async def test_the_result_says_it_and_the_others_are_live(self, machine: Machine, target: IisTarget) -> None:
        await bound(machine, target)
        machine.http_sys.refused[ENDPOINT] = DENIED
        new, other = install(SHOP), install("blog.example.com")
        fingerprints = {it.host: it.bundle.fingerprint_sha256 for it in (new, other)}

        async def probe(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            assert address[1] == 443
            assert timeout_s > 0
            return fingerprints[sni or ""]

        failed, live = await install_batch(target, [new, other], probe)
        assert (failed.outcome, live.outcome) == (Outcome.FAILED, Outcome.LIVE)
        assert "dsmapperusage=enable" in failed.reason

    async def test_settings_that_cannot_be_read_are_told_in_the_log_and_hold_nothing_up(
        self, machine: Machine, target: IisTarget, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.http_sys.broken = DENIED
        change = install(SHOP)
        await target.apply([change])
        assert "settings that only http.sys holds cannot be read" in caplog.text
        (found,) = await target.current()
        assert change.is_done_by(found)


class TestCrash:
    async def test_between_the_commit_and_the_putting_back_is_made_good_at_the_next_start(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        journal = tmp_path / "http_sys.json"
        target = machine.target(journal=journal)
        await bound(machine, target)
        machine.http_sys.refused[ENDPOINT] = DENIED  # as good as a crash: the journal is all that is left
        new = install(SHOP)
        with pytest.raises(ApplyError):
            await target.apply([new])
        assert settings(machine) == SslSettings()
        machine.http_sys.refused.clear()
        again = machine.target(journal=journal)
        await again.start()
        assert settings(machine) == SETTINGS
        assert json.loads(journal.read_bytes()) == {}
        (found,) = await again.current()
        assert new.is_done_by(found)

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a:443": {"color": 1}}', b'{"a:443": 1}', b"\xff"])
    async def test_a_journal_that_is_none_is_told_and_not_used(
        self, machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
    ) -> None:
        journal = tmp_path / "http_sys.json"
        journal.write_bytes(content)
        await machine.target(journal=journal).start()
        assert str(journal) in caplog.text

    async def test_nothing_is_changed_where_the_journal_cannot_be_written(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        target = machine.target(journal=tmp_path / "missing" / "http_sys.json")
        old = await bound(machine, target)
        with pytest.raises(ApplyError, match=r"http_sys\.json cannot be written") as caught:
            await target.apply([install(SHOP)])
        assert caught.value.retriable
        assert machine.served(ENDPOINT) == old.bundle.thumbprint_sha1
        assert settings(machine) == SETTINGS


class TestHttpSysAlone:
    async def test_a_record_that_netsh_changed_is_put_right_though_iis_says_it_is_ours(
        self, machine: Machine, target: IisTarget
    ) -> None:
        change = install(SHOP)
        await target.apply([change])
        (record,) = machine.http_sys.records([ENDPOINT])
        machine.iis.http_sys.pop(ENDPOINT)
        machine.http_sys.foreign.append(replace(record, thumbprint=OLD))
        machine.iis.http_sys[ENDPOINT] = (record.thumbprint, record.store)
        machine.http_sys.hidden.add(ENDPOINT)
        (found,) = await target.current()
        assert not change.is_done_by(found)
        machine.http_sys.foreign.clear()
        machine.http_sys.hidden.clear()
        target.forget()
        commits = machine.iis.commits
        await target.apply([change])
        assert machine.iis.commits == commits + 1
        (found,) = await target.current()
        assert change.is_done_by(found)

    async def test_a_record_that_a_half_made_commit_left_without_a_binding_goes(
        self, machine: Machine, target: IisTarget, caplog: pytest.LogCaptureFixture
    ) -> None:
        shop, bad = install(SHOP), install("bad.example.com")
        await target.apply([shop])
        machine.iis.refused_records["bad.example.com:443"] = 0x80070005
        with pytest.raises(ApplyError) as caught:
            await target.apply([bad, Remove(host=SHOP, port=443)])
        assert caught.value.culprit == bad.key
        assert (machine.bindings(), machine.served(ENDPOINT)) == ({}, shop.bundle.thumbprint_sha1)
        await target.apply([Remove(host=SHOP, port=443)])
        assert machine.served(ENDPOINT) is None
        assert f"deleted the record of http.sys for {ENDPOINT}" in caplog.text

    async def test_somebody_elses_record_for_a_removed_host_stays(self, machine: Machine, target: IisTarget) -> None:
        await target.apply([install(SHOP)])
        machine.iis.take_away(WEB, f"*:443:{SHOP}")
        machine.iis.http_sys[ENDPOINT] = (OLD, "My")
        await target.apply([Remove(host=SHOP, port=443)])
        assert machine.served(ENDPOINT) == OLD
