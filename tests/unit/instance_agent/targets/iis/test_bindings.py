"""Which bindings the IIS target makes, replaces and leaves alone: scenarios on an IIS in memory."""

import pytest

from instance_agent.targets.base import ApplyError, Remove
from instance_agent.targets.iis.target import IisTarget
from shared.errors import ConfigurationError
from tests.fakes.iis.changes import install, issue
from tests.fakes.iis.rig import WEB, Machine
from tests.fakes.iis.world import Row

SHOP = "shop.example.com"
OLD = "01" * 20


async def refusal(machine: Machine, *changes: object) -> ApplyError:
    """The error of a batch that must leave no trace."""
    before = (machine.iis.sites, machine.iis.records(), set(machine.stores.entries))
    target = machine.target()
    await target.start()
    with pytest.raises(ApplyError) as caught:
        await target.apply(changes)  # type: ignore[arg-type]
    assert (machine.iis.sites, machine.iis.records(), set(machine.stores.entries)) == before
    assert machine.iis.commits == machine.iis.open_sessions == 0
    assert machine.stores.imports == []
    return caught.value


class TestNewHosts:
    @pytest.mark.parametrize("store", ["My", "WebHosting"])
    @pytest.mark.parametrize("port", [443, 1234])
    async def test_a_host_gets_one_sni_binding_for_all_addresses(self, machine: Machine, store: str, port: int) -> None:
        change = install(SHOP, port=port)
        await machine.target(store=store).apply([change])
        assert machine.bindings() == {f"*:{port}:{SHOP}": 1}
        assert machine.iis.records() == {f"{SHOP}:{port}": (change.bundle.thumbprint_sha1, store)}

    async def test_http_bindings_of_the_host_are_not_copied(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"10.0.0.4:80:{SHOP}", protocol="http", flags=0)
        machine.iis.add_binding(WEB, f"10.0.0.4:81:{SHOP}", protocol="http", flags=0)
        machine.iis.add_binding(WEB, f"[fe80::1]:80:{SHOP}", protocol="http", flags=0)
        await machine.target().apply([install(SHOP)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}
        assert len(machine.iis.rows(WEB)) == 5

    async def test_several_hosts_of_one_certificate_get_a_binding_each(self, machine: Machine) -> None:
        issued = issue("one.example.com", "two.example.com", "*.example.net")
        await machine.target().apply(
            [install(host, issued) for host in ("one.example.com", "two.example.com", "*.example.net")]
        )
        assert list(machine.bindings()) == ["*:443:one.example.com", "*:443:two.example.com", "*:443:*.example.net"]
        assert machine.stores.imports == [issued.thumbprint]

    async def test_one_host_on_two_ports_gets_two_bindings_with_a_certificate_each(self, machine: Machine) -> None:
        first, second = install(SHOP, port=443), install(SHOP, port=8443)
        await machine.target().apply([first, second])
        assert machine.served(f"{SHOP}:443") == first.bundle.thumbprint_sha1
        assert machine.served(f"{SHOP}:8443") == second.bundle.thumbprint_sha1

    @pytest.mark.parametrize("present", ["*.b.example.com", "*.example.com", "x.b.example.com", ""])
    async def test_a_binding_for_another_pattern_that_covers_the_host_is_not_touched(
        self, machine: Machine, present: str
    ) -> None:
        machine.iis.add_binding(WEB, f"*:443:{present}", flags=1 if present else 0, thumbprint=OLD)
        await machine.target().apply([install("a.b.example.com")])
        assert f"*:443:{present}" in machine.bindings()
        assert OLD in {thumbprint for thumbprint, _ in machine.iis.records().values()}
        assert machine.bindings()["*:443:a.b.example.com"] == 1

    async def test_a_wildcard_certificate_does_not_take_over_bindings_of_single_hosts(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "*:443:a.example.com", thumbprint=OLD)
        await machine.target().apply([install("*.example.com")])
        assert machine.served("a.example.com:443") == OLD
        assert "*:443:*.example.com" in machine.bindings()

    async def test_an_international_host_is_bound_in_its_letters(self, machine: Machine) -> None:
        change = install("xn--bcher-kva.example")
        target = machine.target()
        await target.apply([change])
        assert machine.bindings() == {"*:443:bücher.example": 1}
        (found,) = await target.current([change.key])
        assert change.is_done_by(found)

    @pytest.mark.parametrize("version", [(8, 0), (8, 5)])
    async def test_a_wildcard_is_refused_with_the_reason_before_iis_10(self, version: tuple[int, int]) -> None:
        machine = Machine(version=version)
        target = machine.target()
        await target.start()
        assert "IIS 10" in (target.refusal(install("*.example.com")) or "")
        assert target.refusal(install(SHOP)) is None
        assert (await refusal(machine, install(SHOP), install("*.example.com"))).culprit == ("*.example.com", 443)

    async def test_a_wildcard_is_bound_on_iis_10(self) -> None:
        machine = Machine(version=(10, 0))
        target = machine.target()
        await target.start()
        assert target.refusal(install("*.example.com")) is None
        await target.apply([install("*.example.com")])
        assert machine.bindings() == {"*:443:*.example.com": 1}

    @pytest.mark.parametrize("version", [(7, 0), (7, 5)])
    async def test_an_iis_without_sni_is_no_target(self, version: tuple[int, int]) -> None:
        with pytest.raises(ConfigurationError, match="no SNI"):
            await Machine(version=version).target().start()

    async def test_a_store_that_iis_does_not_bind_from_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_IIS_STORE"):
            await Machine().target(store="Root").start()


class TestRenewals:
    async def test_a_renewal_replaces_the_certificate_of_the_same_binding(
        self, machine: Machine, target: IisTarget
    ) -> None:
        old, new = install(SHOP), install(SHOP)
        await target.apply([old])
        await target.apply([new])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}
        assert machine.served(f"{SHOP}:443") == new.bundle.thumbprint_sha1
        assert machine.iis.commits == 2

    async def test_renewals_across_sites_and_ports_are_one_commit(self, machine: Machine) -> None:
        machine.add_web_site("Second")
        target = machine.target()
        keys = [(SHOP, 443, None), (SHOP, 8443, None), ("other.example.com", 443, "Second")]
        await target.apply([install(host, port=port, site=site) for host, port, site in keys])
        renewed = [install(host, port=port, site=site) for host, port, site in keys]
        await target.apply(renewed)
        assert machine.iis.commits == 2
        assert list(machine.bindings()) == [f"*:443:{SHOP}", f"*:8443:{SHOP}"]
        assert list(machine.bindings("Second")) == ["*:443:other.example.com"]
        for change in renewed:
            assert machine.served(f"{change.host}:{change.port}") == change.bundle.thumbprint_sha1

    @pytest.mark.parametrize(("before", "after"), [(1, 1), (5, 5), (33, 33), (0, 1), (36, 37), (1 + 4 + 8 + 16, 29)])
    async def test_other_flags_and_attributes_are_kept_and_sni_is_set(
        self, machine: Machine, before: int, after: int
    ) -> None:
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", flags=before, thumbprint=OLD, ds_mapper=True)
        await machine.target().apply([install(SHOP)])
        row = Row(protocol="https", information=f"*:443:{SHOP}", flags=after, ds_mapper=True)
        assert row in machine.iis.rows(WEB)

    @pytest.mark.parametrize("in_iis", ["SHOP.example.com", "shop.example.com", "Shop.Example.COM"])
    async def test_upper_and_lower_case_are_the_same_host(self, machine: Machine, in_iis: str) -> None:
        machine.iis.add_binding(WEB, f"*:443:{in_iis}", thumbprint=OLD)
        await machine.target().apply([install(SHOP)])
        assert list(machine.bindings()) == [f"*:443:{in_iis}"]
        assert machine.served(f"{SHOP}:443") != OLD

    async def test_a_host_header_in_unicode_is_the_same_host_as_its_a_label(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "*:443:bücher.example", thumbprint=OLD)
        await machine.target().apply([install("xn--bcher-kva.example")])
        assert list(machine.bindings()) == ["*:443:bücher.example"]
        assert machine.served("xn--bcher-kva.example:443") != OLD

    @pytest.mark.parametrize("any_address", ["*", "0.0.0.0", ""])  # noqa: S104 - text
    async def test_every_way_to_write_all_addresses_is_the_same_binding(
        self, machine: Machine, any_address: str
    ) -> None:
        machine.iis.add_binding(WEB, f"{any_address}:443:{SHOP}", thumbprint=OLD)
        await machine.target().apply([install(SHOP)])
        assert list(machine.bindings()) == [f"{any_address}:443:{SHOP}"]

    async def test_a_binding_whose_hash_is_null_is_put_right(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"*:443:{SHOP}")
        change = install(SHOP)
        await machine.target().apply([change])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}
        assert machine.served(f"{SHOP}:443") == change.bundle.thumbprint_sha1

    async def test_a_binding_that_names_a_certificate_no_longer_in_the_store_is_put_right(
        self, machine: Machine, target: IisTarget
    ) -> None:
        change = install(SHOP)
        await target.apply([change])
        machine.stores.entries.clear()
        await target.apply([change])
        assert machine.stores.thumbprints() == {change.bundle.thumbprint_sha1}
        assert machine.iis.commits == 2

    async def test_a_binding_moves_to_the_store_that_is_now_set(self, machine: Machine) -> None:
        change = install(SHOP)
        await machine.target().apply([change])
        await machine.target(store="WebHosting").apply([change])
        assert machine.iis.records()[f"{SHOP}:443"] == (change.bundle.thumbprint_sha1, "WebHosting")

    async def test_the_same_change_again_commits_nothing(self, machine: Machine, target: IisTarget) -> None:
        change = install(SHOP)
        await target.apply([change])
        await target.apply([change, Remove(host="nowhere.example.com", port=443)])
        await target.apply([])
        assert machine.iis.commits == 1
        assert machine.stores.imports == [change.bundle.thumbprint_sha1]


class TestAddresses:
    async def test_ipv4_and_ipv6_bindings_of_the_host_get_its_certificate_too(self, machine: Machine) -> None:
        """http.sys keeps one certificate for a name and port, whatever address a binding names."""
        machine.iis.add_binding(WEB, f"10.0.0.4:443:{SHOP}", thumbprint=OLD)
        machine.iis.add_binding(WEB, f"[fe80::1]:443:{SHOP}", thumbprint=OLD)
        change = install(SHOP)
        await machine.target().apply([change])
        assert set(machine.bindings()) == {f"10.0.0.4:443:{SHOP}", f"[fe80::1]:443:{SHOP}", f"*:443:{SHOP}"}
        assert machine.iis.records() == {f"{SHOP}:443": (change.bundle.thumbprint_sha1, "My")}
        await machine.target().apply([change])
        assert machine.iis.commits == 1

    async def test_a_binding_without_sni_on_one_address_no_longer_shadows_sni(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"10.0.0.4:443:{SHOP}", flags=0, thumbprint=OLD)
        await machine.target().apply([install(SHOP)])
        assert machine.bindings()[f"10.0.0.4:443:{SHOP}"] == 1
        assert list(machine.iis.records()) == [f"{SHOP}:443"]

    async def test_bindings_of_no_host_on_both_families_are_not_touched(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "10.0.0.4:443:", flags=0, thumbprint=OLD)
        machine.iis.add_binding(WEB, "[fe80::1]:443:", flags=0, thumbprint=OLD)
        await machine.target().apply([install(SHOP)])
        assert machine.served("10.0.0.4:443") == machine.served("fe80::1:443") == OLD

    async def test_removal_takes_every_address_of_the_host(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"10.0.0.4:443:{SHOP}", thumbprint=OLD)
        target = machine.target()
        await target.apply([install(SHOP)])
        await target.apply([Remove(host=SHOP, port=443)])
        assert (machine.bindings(), machine.iis.records()) == ({}, {})


class TestSniTraps:
    async def test_taking_a_host_out_of_a_shared_record_leaves_the_record_to_its_siblings(
        self, machine: Machine
    ) -> None:
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", flags=0, thumbprint=OLD)
        machine.iis.add_binding("Other", "*:443:", flags=0)
        change = install(SHOP)
        await machine.target().apply([change])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}
        assert machine.bindings("Other") == {"*:443:": 0}
        assert machine.served("*:443") == OLD
        assert machine.served(f"{SHOP}:443") == change.bundle.thumbprint_sha1

    async def test_the_record_goes_with_the_last_binding_without_sni(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", flags=0, thumbprint=OLD)
        machine.iis.add_binding(WEB, "*:443:blog.example.com", flags=0)
        await machine.target().apply([install(SHOP), install("blog.example.com")])
        assert "*:443" not in machine.iis.records()

    async def test_a_site_with_a_catch_all_only_gets_a_binding_beside_it(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint=OLD)
        await machine.target().apply([install(SHOP)])
        assert machine.bindings() == {"*:443:": 0, f"*:443:{SHOP}": 1}
        assert machine.served("*:443") == OLD

    async def test_three_hosts_without_sni_that_share_a_record_on_two_sites(self, machine: Machine) -> None:
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding(WEB, "*:443:one.example.com", flags=0, thumbprint=OLD)
        machine.iis.add_binding("Other", "*:443:two.example.com", flags=0)
        machine.iis.add_binding("Other", "*:443:three.example.com", flags=0)
        await machine.target().apply(
            [install("one.example.com"), install("two.example.com", site="Other"), install("four.example.com")]
        )
        assert machine.bindings() == {"*:443:one.example.com": 1, "*:443:four.example.com": 1}
        assert machine.bindings("Other") == {"*:443:three.example.com": 0, "*:443:two.example.com": 1}
        assert machine.served("*:443") == OLD


class TestOtherPeoplesBindings:
    async def test_sites_out_of_scope_are_not_touched_even_with_the_same_old_certificate(
        self, machine: Machine
    ) -> None:
        machine.iis.add_site("Other", site_id=2)
        target = machine.target()
        old = install(SHOP)
        await target.apply([old])
        machine.iis.add_binding("Other", "*:443:other.example.com", thumbprint=old.bundle.thumbprint_sha1)
        machine.iis.add_binding("Other", "*:444:", flags=0, thumbprint=old.bundle.thumbprint_sha1)
        before = machine.iis.rows("Other")
        await target.apply([install(SHOP)])
        assert machine.iis.rows("Other") == before
        assert machine.served("other.example.com:443") == machine.served("*:444") == old.bundle.thumbprint_sha1

    async def test_a_binding_made_by_hand_with_our_certificate_for_another_host_is_not_ours(
        self, machine: Machine, target: IisTarget
    ) -> None:
        change = install("*.example.com")
        await target.apply([change])
        machine.iis.add_binding(WEB, "*:443:by-hand.example.com", thumbprint=change.bundle.thumbprint_sha1)
        assert {it.host for it in await target.current()} == {"*.example.com"}
        await target.apply([Remove(host="by-hand.example.com", port=443)])
        assert "*:443:by-hand.example.com" in machine.bindings()

    async def test_removal_leaves_a_binding_made_by_hand(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", thumbprint=OLD)
        await machine.target().apply([Remove(host=SHOP, port=443)])
        assert (machine.served(f"{SHOP}:443"), machine.iis.commits) == (OLD, 0)
        assert "left the binding" in caplog.text

    async def test_removal_leaves_a_binding_without_a_certificate(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, f"*:443:{SHOP}")
        await machine.target().apply([Remove(host=SHOP, port=443)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1}

    async def test_removal_touches_the_port_it_names_only(self, machine: Machine, target: IisTarget) -> None:
        await target.apply([install(SHOP, port=443), install(SHOP, port=8443)])
        await target.apply([Remove(host=SHOP, port=443)])
        assert list(machine.bindings()) == [f"*:8443:{SHOP}"]
        assert list(machine.iis.records()) == [f"{SHOP}:8443"]

    async def test_a_binding_that_takes_its_certificate_from_the_central_store_is_left_alone(
        self, machine: Machine
    ) -> None:
        machine.iis.add_site("Central", site_id=2)
        machine.iis.add_binding("Central", f"*:443:{SHOP}", flags=3)
        for target_site in (None, "Central"):
            assert "iis-ccs" in str(await refusal(machine, install(SHOP, site=target_site)))
        await machine.target().apply([Remove(host=SHOP, port=443)])
        assert machine.bindings("Central") == {f"*:443:{SHOP}": 3}

    async def test_hosts_beside_a_central_binding_are_bound_as_usual(self, machine: Machine) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=2)
        await machine.target(catch_all="remove").apply([install(SHOP)])
        assert machine.bindings() == {"*:443:": 2, f"*:443:{SHOP}": 1}


class TestDuplicates:
    @pytest.mark.parametrize("ip", ["*", "10.0.0.4", "[fe80::1]"])
    @pytest.mark.parametrize("flags", [0, 1])
    async def test_the_same_name_and_port_on_another_site_is_a_clear_error(
        self, machine: Machine, ip: str, flags: int
    ) -> None:
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding("Other", f"{ip}:443:Shop.Example.com", flags=flags, thumbprint=OLD)
        error = await refusal(machine, install("fine.example.com"), install(SHOP))
        assert error.culprit == (SHOP, 443)
        assert "Other" in str(error)
        assert "SiteName" in str(error)

    async def test_the_same_name_on_another_port_or_over_http_is_no_duplicate(self, machine: Machine) -> None:
        machine.iis.add_site("Other", site_id=2)
        machine.iis.add_binding("Other", f"*:444:{SHOP}", thumbprint=OLD)
        machine.iis.add_binding("Other", f"*:8080:{SHOP}", protocol="http", flags=0)
        await machine.target().apply([install(SHOP)])
        assert f"*:443:{SHOP}" in machine.bindings()
        assert machine.served(f"{SHOP}:444") == OLD

    async def test_a_binding_of_ours_moves_with_the_site_name(self, machine: Machine) -> None:
        machine.add_web_site("Second")
        target = machine.target()
        await target.apply([install(SHOP)])
        moved = install(SHOP, site="Second")
        await target.apply([moved])
        assert (machine.bindings(), machine.bindings("Second")) == ({}, {f"*:443:{SHOP}": 1})
        assert machine.served(f"{SHOP}:443") == moved.bundle.thumbprint_sha1
        assert machine.iis.commits == 2


class TestSites:
    async def test_without_a_site_name_the_first_web_site_is_bound(self) -> None:
        machine = Machine(site=None)
        machine.iis.add_site("Files", site_id=1)
        machine.iis.add_binding("Files", "*:21:", protocol="ftp", flags=0)
        machine.iis.add_site("Second", site_id=5)
        machine.iis.add_binding("Second", "*:80:", protocol="http", flags=0)
        machine.add_web_site("Third")
        await machine.target().apply([install(SHOP)])
        assert machine.bindings("Second") == {f"*:443:{SHOP}": 1}
        assert (machine.bindings("Files"), machine.bindings("Third")) == ({}, {})

    @pytest.mark.parametrize("name", ["Second", "SECOND", "second"])
    async def test_a_site_name_selects_the_site_in_any_case(self, machine: Machine, name: str) -> None:
        machine.add_web_site("Second")
        change = install(SHOP, site=name)
        await machine.target().apply([change])
        assert machine.bindings("Second") == {f"*:443:{SHOP}": 1}
        (installed,) = await machine.target().current()
        assert change.is_done_by(installed)

    async def test_another_sites_name_is_not_done_by_this_one(self, machine: Machine) -> None:
        await machine.target().apply([install(SHOP)])
        (installed,) = await machine.target().current()
        assert not install(SHOP, site="Second").is_done_by(installed)

    async def test_a_site_of_a_cloud_service_is_found_by_the_name_in_its_service_definition(
        self, machine: Machine
    ) -> None:
        machine.iis.add_site("WebRole1_IN_0_Shop", site_id=2)
        machine.iis.add_binding("WebRole1_IN_0_Shop", "10.0.0.4:80:", protocol="http", flags=0)
        target = machine.target(role_instance="WebRole1_IN_0")
        change = install(SHOP, site="Shop")
        await target.apply([change])
        assert machine.bindings("WebRole1_IN_0_Shop") == {f"*:443:{SHOP}": 1}
        (installed,) = await target.current()
        assert change.is_done_by(installed)

    async def test_an_unknown_site_is_an_error_that_lists_the_sites(self) -> None:
        error = await refusal(Machine(), install(SHOP, site="Nowhere"))
        assert error.culprit == (SHOP, 443)
        assert "Nowhere" in str(error)
        assert WEB in str(error)

    async def test_an_ftp_site_is_no_web_site(self, machine: Machine) -> None:
        machine.iis.add_site("Files", site_id=2)
        machine.iis.add_binding("Files", "*:21:", protocol="ftp", flags=0)
        assert "no http or https binding" in str(await refusal(machine, install(SHOP, site="Files")))

    async def test_a_server_without_web_sites_may_have_one_later(self) -> None:
        error = await refusal(Machine(site=None), install(SHOP))
        assert "no web site" in str(error)
        assert error.retriable

    async def test_one_change_that_cannot_be_made_leaves_the_batch_undone(self) -> None:
        error = await refusal(
            Machine(), install("a.example.com"), Remove(host="b.example.com", port=443), install(SHOP, site="Nowhere")
        )
        assert error.culprit == (SHOP, 443)


class TestCurrent:
    async def test_what_is_installed_is_read_back_from_iis(self, machine: Machine) -> None:
        issued = issue("one.example.com", "two.example.com")
        changes = [install(host, issued) for host in ("one.example.com", "two.example.com")]
        changes.append(install(SHOP, port=8443))
        await machine.target().apply(changes)
        found = {it.key: it for it in await machine.target().current()}
        assert set(found) == {change.key for change in changes}
        for change in changes:
            assert change.is_done_by(found[change.key])
            assert found[change.key].bundle_id == change.bundle_id
            assert found[change.key].site == WEB

    async def test_what_others_made_is_not_ours(self, machine: Machine) -> None:
        by_hand = issue("by-hand.example.com")
        machine.stores.put(by_hand, friendly_name="certcast is nice")
        machine.iis.add_binding(WEB, "*:443:by-hand.example.com", thumbprint=by_hand.thumbprint)
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint=by_hand.thumbprint)
        machine.iis.add_binding(WEB, "*:443:central.example.com", flags=3)
        assert await machine.target().current() == frozenset()
