"""What becomes of bindings without SNI under each policy of CERTCAST_IIS_CATCH_ALL."""

import pytest

from instance_agent.targets.base import Remove
from instance_agent.targets.iis.catch_all import CatchAllAction, CatchAllPolicy
from shared.errors import ConfigurationError
from tests.fakes.iis.changes import install
from tests.fakes.iis.rig import WEB, Machine

SHOP = "shop.example.com"
OLD = "01" * 20


def machine_with(*information: str, site: str = WEB) -> Machine:
    machine = Machine()
    if site != WEB:
        machine.iis.add_site(site, site_id=2)
    for one in information:
        machine.iis.add_binding(site, one, flags=0, thumbprint=OLD)
    return machine


class TestSetting:
    @pytest.mark.parametrize(
        ("text", "action", "host"),
        [
            ("keep", CatchAllAction.KEEP, None),
            (" Remove ", CatchAllAction.REMOVE, None),
            ("replace:Shop.Example.com", CatchAllAction.REPLACE, "shop.example.com"),
            ("replace:*.example.com", CatchAllAction.REPLACE, "*.example.com"),
            ("replace:*", CatchAllAction.REPLACE, "*"),
            ("replace:bücher.example", CatchAllAction.REPLACE, "xn--bcher-kva.example"),
        ],
    )
    def test_is_read(self, text: str, action: CatchAllAction, host: str | None) -> None:
        assert CatchAllPolicy.parse(text) == CatchAllPolicy(action=action, host=host)

    @pytest.mark.parametrize("text", ["", "delete", "replace", "replace:", "replace:no host", "keep:x", "remove:"])
    def test_in_another_form_names_itself(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_IIS_CATCH_ALL"):
            CatchAllPolicy.parse(text)


class TestKeep:
    async def test_a_catch_all_stays_as_it_is(self) -> None:
        machine = machine_with("*:443:", "10.0.0.4:443:")
        await machine.target(catch_all="keep").apply([install(SHOP)])
        assert machine.bindings() == {"*:443:": 0, "10.0.0.4:443:": 0, f"*:443:{SHOP}": 1}
        assert machine.served("*:443") == machine.served("10.0.0.4:443") == OLD


class TestRemove:
    @pytest.mark.parametrize("information", ["*:443:", "10.0.0.4:443:", "[fe80::1]:443:"])
    async def test_goes_with_the_commit_that_brings_sni(
        self, information: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine = machine_with(information)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}
        assert list(machine.iis.records()) == [f"{SHOP}:443"]
        assert machine.iis.commits == 1
        assert "clients that send no server name" in caplog.text

    async def test_goes_from_every_address(self) -> None:
        machine = machine_with("*:443:", "10.0.0.4:443:", "10.0.0.5:443:")
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}

    async def test_stays_until_there_is_a_binding_with_sni(self) -> None:
        machine = machine_with("*:443:")
        await machine.target(catch_all="remove").apply([Remove(host=SHOP, port=443)])
        assert (machine.bindings(), machine.iis.commits) == ({"*:443:": 0}, 0)

    @pytest.mark.parametrize("sibling_site", [WEB, "Other"])
    async def test_stays_while_a_sibling_needs_its_certificate(
        self, sibling_site: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine = machine_with("*:443:")
        if sibling_site != WEB:
            machine.iis.add_site(sibling_site, site_id=2)
        machine.iis.add_binding(sibling_site, "*:443:legacy.example.com", flags=0)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings()["*:443:"] == 0
        assert machine.served("*:443") == OLD
        assert "*:443:legacy.example.com" in caplog.text

    async def test_goes_when_its_only_sibling_gets_sni_in_the_same_batch(self) -> None:
        machine = machine_with("*:443:")
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", flags=0)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}
        assert list(machine.iis.records()) == [f"{SHOP}:443"]

    async def test_a_sibling_on_another_address_or_port_does_not_matter(self) -> None:
        machine = machine_with("*:443:")
        machine.iis.add_binding(WEB, "10.0.0.4:443:legacy.example.com", flags=0, thumbprint=OLD)
        machine.iis.add_binding(WEB, "*:444:legacy.example.com", flags=0, thumbprint=OLD)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert "*:443:" not in machine.bindings()
        assert machine.served("10.0.0.4:443") == machine.served("*:444") == OLD

    async def test_two_sites_that_share_a_catch_all_keep_it(self) -> None:
        machine = machine_with("*:443:")
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding("Other", "*:443:", flags=0)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings()["*:443:"] == machine.bindings("Other")["*:443:"] == 0

    async def test_a_catch_all_of_another_site_or_port_is_not_ours_to_remove(self) -> None:
        machine = machine_with("*:443:", site="Other")
        machine.iis.add_binding(WEB, "*:444:", flags=0, thumbprint=OLD)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings("Other") == {"*:443:": 0}
        assert machine.bindings()["*:444:"] == 0

    async def test_done_again_changes_nothing(self) -> None:
        machine = machine_with("*:443:")
        target = machine.target(catch_all="remove")
        change = install(SHOP)
        await target.apply([change])
        await target.apply([change])
        assert machine.iis.commits == 1


class TestReplace:
    async def test_serves_the_named_hosts_certificate_from_the_same_commit_on(self) -> None:
        machine = machine_with("*:443:", "10.0.0.4:443:")
        fallback = install("*.example.com")
        await machine.target(catch_all="replace:*.example.com").apply([install(SHOP), fallback])
        assert machine.bindings()["*:443:"] == machine.bindings()["10.0.0.4:443:"] == 0
        assert machine.served("*:443") == machine.served("10.0.0.4:443") == fallback.bundle.thumbprint_sha1
        assert machine.iis.commits == 1

    async def test_follows_a_renewal_of_the_named_host(self) -> None:
        machine = machine_with("*:443:")
        target = machine.target(catch_all=f"replace:{SHOP}")
        old, new = install(SHOP), install(SHOP)
        await target.apply([old])
        await target.apply([new])
        assert machine.served("*:443") == new.bundle.thumbprint_sha1

    async def test_uses_the_certificate_that_was_installed_earlier(self, machine: Machine) -> None:
        target = machine.target(catch_all=f"replace:{SHOP}")
        fallback = install(SHOP)
        await target.apply([fallback])
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint=OLD)
        await target.apply([install("blog.example.com")])
        assert machine.served("*:443") == fallback.bundle.thumbprint_sha1

    async def test_keeps_its_certificate_while_the_named_host_has_none(self, caplog: pytest.LogCaptureFixture) -> None:
        machine = machine_with("*:443:")
        machine.iis.add_binding(WEB, "*:443:fallback.example.com", thumbprint=OLD)
        await machine.target(catch_all="replace:fallback.example.com").apply([install(SHOP)])
        assert machine.served("*:443") == OLD
        assert "fallback.example.com" in caplog.text

    async def test_is_left_alone_while_a_sibling_shares_its_certificate(self, caplog: pytest.LogCaptureFixture) -> None:
        machine = machine_with("*:443:")
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding("Other", "*:443:legacy.example.com", flags=0)
        await machine.target(catch_all=f"replace:{SHOP}").apply([install(SHOP)])
        assert machine.served("*:443") == OLD
        assert "shares its certificate" in caplog.text

    async def test_none_is_made_where_there_was_none(self, machine: Machine) -> None:
        await machine.target(catch_all=f"replace:{SHOP}").apply([install(SHOP)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}

    async def test_is_not_what_we_own(self) -> None:
        machine = machine_with("*:443:")
        target = machine.target(catch_all=f"replace:{SHOP}")
        await target.apply([install(SHOP)])
        assert {it.key for it in await target.current()} == {(SHOP, 443)}
        before = await target.current()
        await target.apply([Remove(host=SHOP, port=443)])
        await target.retire(list(before))
        assert machine.bindings() == {"*:443:": 0}
        assert machine.served("*:443") in machine.stores.thumbprints()

    async def test_done_again_changes_nothing(self) -> None:
        machine = machine_with("*:443:")
        target = machine.target(catch_all=f"replace:{SHOP}")
        change = install(SHOP)
        await target.apply([change])
        await target.apply([change])
        assert machine.iis.commits == 1
