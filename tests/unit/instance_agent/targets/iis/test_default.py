"""What clients without SNI get from IIS: the binding of an upload with Default=true, and what is in its way."""

import pytest

from instance_agent.targets.base import ApplyError, Install, Remove
from instance_agent.targets.iis.bindings import SslFlags
from instance_agent.targets.iis.target import IisTarget
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST
from tests.fakes.iis.changes import install, issue
from tests.fakes.iis.rig import WEB, Machine

SHOP = "shop.example.com"
OLD = "01" * 20


def default(port: int = 443, site: str | None = None) -> Install:
    return install(DEFAULT_HOST, issue("*.example.com"), port=port, site=site)


class TestTheDefault:
    async def test_is_a_binding_without_host_address_and_sni(self, machine: Machine, target: IisTarget) -> None:
        change, shop = default(), install(SHOP)
        await target.apply([change, shop])
        assert machine.bindings() == {"*:443:": 0, f"*:443:{SHOP}": 1}
        assert machine.served("*:443") == change.bundle.thumbprint_sha1
        assert machine.served(f"{SHOP}:443") == shop.bundle.thumbprint_sha1
        (found,) = await target.current([change.key])
        assert change.is_done_by(found)
        assert {it.key for it in await target.current()} == {change.key, shop.key}

    async def test_is_renewed_and_removed_as_any_other(self, machine: Machine, target: IisTarget) -> None:
        old, new = default(), default()
        await target.apply([old])
        await target.apply([new])
        assert (machine.bindings(), machine.served("*:443")) == ({"*:443:": 0}, new.bundle.thumbprint_sha1)
        await target.apply([new])
        assert machine.iis.commits == 2
        await target.apply([Remove(host=DEFAULT_HOST, port=443)])
        assert (machine.bindings(), machine.iis.records()) == ({}, {})
        assert await target.current() == frozenset()

    async def test_has_a_site_and_a_port(self, machine: Machine, target: IisTarget) -> None:
        machine.add_web_site("Second")
        await target.apply([default(8443, "Second"), default(443)])
        assert (machine.bindings("Second"), machine.bindings()) == ({"*:8443:": 0}, {"*:443:": 0})

    async def test_of_one_certificate_with_hosts_keeps_to_its_own_when_they_go(
        self, machine: Machine, target: IisTarget
    ) -> None:
        issued = issue("*.example.com")
        changes = [install(host, issued) for host in ("*.example.com", DEFAULT_HOST)]
        await target.apply(changes)
        await target.apply([Remove(host="*.example.com", port=443)])
        (found,) = await target.current()
        assert found.key == (DEFAULT_HOST, 443)
        assert machine.stores.thumbprints() == {issued.thumbprint}

    @pytest.mark.parametrize("policy", ["keep", "remove", "replace:*", f"replace:{SHOP}"])
    async def test_stays_whatever_the_catch_all_policy_when_hosts_are_bound(
        self, machine: Machine, policy: str
    ) -> None:
        target = machine.target(catch_all=policy)
        change = default()
        await target.apply([change])
        await target.apply([install(SHOP)])
        assert machine.bindings()["*:443:"] == 0
        assert machine.served("*:443") == change.bundle.thumbprint_sha1


class TestOthersInItsWay:
    @pytest.mark.parametrize("policy", ["keep", f"replace:{SHOP}"])
    async def test_a_catch_all_of_the_administrator_is_named_and_stays(self, machine: Machine, policy: str) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint=OLD)
        with pytest.raises(ApplyError, match=r"site Web has a catch-all binding \*:443: .*replace:\*") as caught:
            await machine.target(catch_all=policy).apply([install("blog.example.com"), default()])
        assert caught.value.culprit == (DEFAULT_HOST, 443)
        assert (machine.served("*:443"), machine.iis.commits, machine.stores.entries) == (OLD, 0, {})

    @pytest.mark.parametrize("policy", ["remove", "replace:*"])
    async def test_a_catch_all_makes_room_where_the_setting_says_so(self, machine: Machine, policy: str) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint=OLD)
        target = machine.target(catch_all=policy)
        change = default()
        await target.apply([change])
        assert (machine.bindings(), machine.served("*:443")) == ({"*:443:": 0}, change.bundle.thumbprint_sha1)
        (found,) = await target.current()
        assert change.is_done_by(found)

    async def test_with_replace_catch_alls_of_single_addresses_get_the_default_too(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "10.0.0.4:443:", flags=0, thumbprint=OLD)
        change = default()
        await machine.target(catch_all="replace:*").apply([change, install(SHOP)])
        assert machine.served("10.0.0.4:443") == machine.served("*:443") == change.bundle.thumbprint_sha1

    async def test_another_sites_catch_all_is_named_whatever_the_setting(self, machine: Machine) -> None:
        machine.add_web_site("Other")
        machine.iis.add_binding("Other", "*:443:", flags=0, thumbprint=OLD)
        with pytest.raises(ApplyError, match="the site Other already has the binding"):
            await machine.target(catch_all="replace:*").apply([default()])

    async def test_a_binding_that_shares_the_record_is_named_since_it_would_get_the_certificate(
        self, machine: Machine, target: IisTarget
    ) -> None:
        machine.iis.add_binding(WEB, "*:443:legacy.example.com", flags=0, thumbprint=OLD)
        with pytest.raises(ApplyError, match=r"the binding \*:443:legacy\.example\.com of site Web shares"):
            await target.apply([default()])
        change = default()
        await target.apply([change, install("legacy.example.com")])
        assert machine.bindings() == {"*:443:legacy.example.com": 1, "*:443:": 0}
        assert machine.served("*:443") == change.bundle.thumbprint_sha1

    async def test_a_record_for_the_address_goes_before_it_and_is_named(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "10.0.0.4:443:", flags=0, thumbprint=OLD)
        target = machine.target(probe_address="10.0.0.4")
        await target.apply([default()])
        text = await target.explain_mismatch(DEFAULT_HOST, 443, "0" * 64) or ""
        assert "http.sys has a record for 10.0.0.4:443" in text


class TestFlagsOfNewBindings:
    FLAGS = SslFlags.DISABLE_LEGACY_TLS | SslFlags.DISABLE_HTTP2

    async def test_are_set_beside_sni_and_those_of_bindings_that_are_there_stay(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "*:443:there.example.com", flags=17, thumbprint=OLD)
        target = machine.target(new_flags=self.FLAGS)
        await target.start()
        await target.apply([install(SHOP), install("there.example.com"), default()])
        assert machine.bindings() == {f"*:443:{SHOP}": 69, "*:443:there.example.com": 17, "*:443:": 68}
        await target.apply([install(SHOP)])
        assert machine.bindings()[f"*:443:{SHOP}"] == 69

    @pytest.mark.parametrize("build", [9200, 14393])
    async def test_that_this_windows_does_not_know_are_named(self, machine: Machine, build: int) -> None:
        with pytest.raises(ConfigurationError, match=r"CERTCAST_IIS_SSL_FLAGS: disable-legacy-tls needs .* 2019"):
            await machine.target(new_flags=SslFlags.DISABLE_LEGACY_TLS, windows_build=build).start()

    async def test_that_this_windows_knows_are_none_of_its_trouble(self, machine: Machine) -> None:
        flags = SslFlags.DISABLE_HTTP2 | SslFlags.DISABLE_OCSP_STAPLING
        await machine.target(new_flags=flags, windows_build=14393).start()
