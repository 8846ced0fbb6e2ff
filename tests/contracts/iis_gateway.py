"""What an IIS gateway must do, as functions for the one in memory and the one over Microsoft.Web.Administration alike.

Functions, because the .NET gateway runs in a process of its own: a CLR, once loaded, stays.
"""

from collections.abc import Callable
from inspect import isfunction, signature

import pytest

from instance_agent.targets.iis.bindings import EVERYTHING, Binding, Scope, Site, SiteState, SslFlags
from instance_agent.targets.iis.gateway import (
    AddBinding,
    CommitConflictError,
    GatewayError,
    IisGateway,
    Operation,
    RemoveBinding,
    ReplaceBinding,
)
from instance_agent.targets.iis.hresult import ALREADY_EXISTS, NO_LOGON_SESSION
from tests.fakes.iis.world import Row, World

Case = Callable[[IisGateway, World], None]

OLD = "01" * 20
NEW = "AB" * 20
SHOP = ("shop.example.com", 443)


def run_case(case: Case, gateway: IisGateway, world: World) -> None:
    """Run a case over an empty world; one whose world is called `web` finds the site Web in it."""
    if "web" in signature(case).parameters:
        world.add_site("Web")
    case(gateway, world)


def read(gateway: IisGateway, scope: Scope = EVERYTHING) -> tuple[Site, ...]:
    with gateway.session() as session:
        return tuple(session.sites(scope))


def commit(gateway: IisGateway, *operations: Operation) -> None:
    with gateway.session() as session:
        session.sites(EVERYTHING)
        for operation in operations:
            session.perform(operation)
        session.commit()


def add(information: str, *, site: str = "Web", flags: SslFlags = SslFlags.SNI, thumbprint: str = NEW) -> AddBinding:
    return AddBinding(key=SHOP, site=site, information=information, flags=flags, thumbprint=thumbprint, store="My")


def only(sites: tuple[Site, ...]) -> Binding:
    ((binding,),) = [site.bindings for site in sites if site.bindings]
    return binding


def a_server_without_sites_has_none(gateway: IisGateway, world: World) -> None:
    assert read(gateway) == ()
    assert world.open_sessions == 0


def sites_are_read_in_their_order_with_their_kind(gateway: IisGateway, world: World) -> None:
    world.add_site("Zebra", site_id=7)
    world.add_site("Alpha", site_id=2)
    world.add_site("Files", site_id=3)
    world.add_site("Empty", site_id=4)
    world.add_binding("Zebra", "*:80:", protocol="http", flags=0)
    world.add_binding("Alpha", "*:443:a.example.com")
    world.add_binding("Files", "*:21:", protocol="ftp", flags=0)
    found = [(site.name, site.id, site.web) for site in read(gateway)]
    assert found == [("Zebra", 7, True), ("Alpha", 2, True), ("Files", 3, False), ("Empty", 4, False)]


def a_binding_is_read_with_its_certificate(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:Shop.Example.com", flags=33, thumbprint=OLD, store="WebHosting")
    assert only(read(gateway)) == Binding(
        protocol="https",
        information="*:443:Shop.Example.com",
        ip="*",
        port=443,
        host="shop.example.com",
        flags=SslFlags.SNI | SslFlags.DISABLE_TLS13,
        thumbprint=OLD,
        store="WebHosting",
    )


def addresses_of_both_families_are_read(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "10.0.0.4:443:", flags=0, thumbprint=OLD)
    web.add_binding("Web", "[FE80::1]:443:", flags=0, thumbprint=NEW)
    found = [(it.ip, it.endpoint, it.thumbprint) for it in read(gateway)[0].bindings]
    assert found == [("10.0.0.4", "10.0.0.4:443", OLD), ("fe80::1", "fe80::1:443", NEW)]


def bindings_of_other_protocols_are_left_out(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "808:*", protocol="net.tcp", flags=0)
    web.add_binding("Web", "*:80:shop.example.com", protocol="http", flags=0)
    assert read(gateway)[0].bindings == ()


def a_scope_leaves_other_hosts_out_but_never_a_binding_without_sni(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:shop.example.com", thumbprint=OLD)
    web.add_binding("Web", "*:443:other.example.com", thumbprint=OLD)
    web.add_binding("Web", "*:444:shop.example.com", thumbprint=OLD)
    web.add_binding("Web", "*:445:legacy.example.com", flags=0, thumbprint=OLD)
    found = [it.information for it in read(gateway, Scope(keys=frozenset({SHOP})))[0].bindings]
    assert found == ["*:443:shop.example.com", "*:445:legacy.example.com"]


def a_binding_whose_record_is_missing_or_unreadable_has_no_certificate(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:missing.example.com")
    web.add_binding("Web", "*:443:unreadable.example.com", thumbprint=OLD)
    web.hide_certificate("*:443:unreadable.example.com")
    assert [it.thumbprint for it in read(gateway)[0].bindings] == ["", ""]


def an_added_binding_is_in_the_configuration_and_in_http_sys(gateway: IisGateway, web: World) -> None:
    commit(gateway, add("*:443:shop.example.com"))
    assert web.rows("Web") == [Row(protocol="https", information="*:443:shop.example.com", flags=1)]
    assert web.records() == {"shop.example.com:443": (NEW, "My")}
    assert (web.commits, web.open_sessions) == (1, 0)


def nothing_is_changed_before_the_commit(gateway: IisGateway, web: World) -> None:
    with gateway.session() as session:
        session.perform(add("*:443:shop.example.com"))
    assert web.rows("Web") == []
    assert (web.commits, web.open_sessions) == (0, 0)


def a_replaced_binding_keeps_its_other_attributes(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:Shop.example.com", flags=5, thumbprint=OLD, ds_mapper=True)
    old = only(read(gateway))
    commit(
        gateway,
        ReplaceBinding(key=SHOP, site="Web", old=old, flags=old.flags, thumbprint=NEW, store="WebHosting"),
    )
    assert web.rows("Web") == [Row(protocol="https", information="*:443:Shop.example.com", flags=5, ds_mapper=True)]
    assert web.records() == {"shop.example.com:443": (NEW, "WebHosting")}


def a_removed_binding_takes_its_record_with_it(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:shop.example.com", thumbprint=OLD)
    commit(gateway, RemoveBinding(key=SHOP, site="Web", old=only(read(gateway))))
    assert web.rows("Web") == []
    assert web.records() == {}


def a_binding_removed_from_the_configuration_only_leaves_its_record(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:", flags=0, thumbprint=OLD)
    web.add_binding("Web", "*:443:legacy.example.com", flags=0)
    commit(gateway, RemoveBinding(key=None, site="Web", old=read(gateway)[0].bindings[0], config_only=True))
    assert web.records() == {"*:443": (OLD, "My")}


def bindings_without_sni_on_one_address_and_port_share_a_certificate(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:", flags=0, thumbprint=OLD)
    web.add_binding("Web", "*:443:legacy.example.com", flags=0)
    assert [it.thumbprint for it in read(gateway)[0].bindings] == [OLD, OLD]


def a_binding_of_the_central_store_has_no_certificate_of_its_own(gateway: IisGateway, web: World) -> None:
    flags = SslFlags.SNI | SslFlags.CENTRAL_STORE
    commit(gateway, AddBinding(key=("", 443), site="Web", information="*:443:", flags=flags))
    assert web.rows("Web") == [Row(protocol="https", information="*:443:", flags=3)]
    assert only(read(gateway)).thumbprint == ""


def the_same_binding_twice_is_refused(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:443:Shop.Example.com", thumbprint=OLD)
    with gateway.session() as session, pytest.raises(GatewayError) as caught:
        session.perform(add("*:443:shop.example.com"))
    assert caught.value.code == ALREADY_EXISTS
    assert web.open_sessions == 0


def a_certificate_that_is_not_in_the_store_is_refused_after_the_configuration_was_committed(
    gateway: IisGateway, web: World
) -> None:
    web.require_certificates(OLD)
    with pytest.raises(GatewayError) as caught:
        commit(gateway, add("*:443:shop.example.com"))
    assert caught.value.code == NO_LOGON_SESSION
    assert (web.rows("Web"), web.records()) == (
        [Row(protocol="https", information="*:443:shop.example.com", flags=1)],
        {},
    )
    assert only(read(gateway)).thumbprint == ""
    assert (web.commits, web.open_sessions) == (1, 0)


def certificates_are_applied_in_their_order_until_one_is_refused(gateway: IisGateway, web: World) -> None:
    hosts = [f"{name}.example.com" for name in ("one", "two", "three", "four")]
    for host in (hosts[0], hosts[3]):
        web.add_binding("Web", f"*:443:{host}", thumbprint=OLD)
    replaced = {it.host: it for it in read(gateway)[0].bindings}
    web.refuse_record("two.example.com:443", 0x80070005)
    with pytest.raises(GatewayError) as caught:
        commit(
            gateway,
            ReplaceBinding(
                key=None, site="Web", old=replaced[hosts[0]], flags=SslFlags.SNI, thumbprint=NEW, store="My"
            ),
            add(f"*:443:{hosts[1]}"),
            add(f"*:443:{hosts[2]}"),
            RemoveBinding(key=None, site="Web", old=replaced[hosts[3]]),
        )
    assert caught.value.code == 0x80070005
    assert {row.information for row in web.rows("Web")} == {f"*:443:{host}" for host in hosts[:3]}
    assert web.records() == {"one.example.com:443": (NEW, "My"), "four.example.com:443": (OLD, "My")}


def a_commit_over_another_is_a_conflict(gateway: IisGateway, web: World) -> None:
    with gateway.session() as first:
        first.perform(add("*:443:one.example.com"))
        commit(gateway, add("*:443:two.example.com"))
        with pytest.raises(CommitConflictError):
            first.commit()
    assert [row.information for row in web.rows("Web")] == ["*:443:two.example.com"]


def a_sharing_violation_is_a_conflict_too(gateway: IisGateway, web: World) -> None:
    web.share_violation(1)
    with pytest.raises(CommitConflictError):
        commit(gateway, add("*:443:shop.example.com"))
    assert web.open_sessions == 0


def another_com_error_keeps_its_code(gateway: IisGateway, web: World) -> None:
    web.fail_commit(0x80070005)
    with pytest.raises(GatewayError) as caught:
        commit(gateway, add("*:443:shop.example.com"))
    assert not isinstance(caught.value, CommitConflictError)
    assert caught.value.code == 0x80070005


def states_are_those_of_the_sites_asked_for(gateway: IisGateway, world: World) -> None:
    world.add_site("Web", site_id=1)
    world.add_site("Off", site_id=2, started=False)
    world.add_site("Files", site_id=3)
    world.hide_state("Files", 1)
    with gateway.session() as session:
        assert session.states(["Web", "Off", "Gone"]) == {"Web": SiteState.STARTED, "Off": SiteState.STOPPED}


def a_state_that_cannot_be_read_is_unknown(gateway: IisGateway, web: World) -> None:
    web.add_binding("Web", "*:80:", protocol="http", flags=0)
    web.hide_state("Web", 1)
    with gateway.session() as session:
        assert session.states(["Web"]) == {"Web": SiteState.UNKNOWN}
        assert session.states(["Web"]) == {"Web": SiteState.STARTED}


def a_stopped_site_can_be_started(gateway: IisGateway, world: World) -> None:
    world.add_site("Web", started=False)
    world.add_binding("Web", "*:80:", protocol="http", flags=0)
    with gateway.session() as session:
        assert session.start_site("Web") is SiteState.STARTED
    assert world.state("Web") is SiteState.STARTED


def certificates_of_ftp_sites_are_known(gateway: IisGateway, world: World) -> None:
    world.add_site("Files", ftp=OLD.lower())
    world.add_site("Web", site_id=2)
    world.set_default_ftp(NEW)
    with gateway.session() as session:
        assert session.ftp_thumbprints() == {OLD, NEW}


def a_site_can_be_added_and_removed_with_what_was_bound(gateway: IisGateway, web: World) -> None:
    with gateway.session() as session:
        session.add_site("certcast-selftest", "127.0.0.1:8080:", "/anywhere")
        session.commit()
    commit(gateway, add("*:8443:one.example.com", site="certcast-selftest"))
    assert web.site_names() == ["Web", "certcast-selftest"]
    with gateway.session() as session:
        session.remove_site("certcast-selftest")
        session.commit()
    assert web.site_names() == ["Web"]
    assert web.records() == {}


def only_one_process_is_let_in_at_a_time(gateway: IisGateway, world: World) -> None:
    del world
    for _ in range(2):
        with gateway.exclusive():
            pass


def nothing_of_a_batch_with_an_error_is_committed(gateway: IisGateway, web: World) -> None:
    with pytest.raises(GatewayError):
        commit(gateway, add("*:443:shop.example.com"), add("*:443:SHOP.example.com"))
    assert (web.open_sessions, web.rows("Web")) == (0, [])


def a_hundred_changes_are_one_commit(gateway: IisGateway, web: World) -> None:
    commit(gateway, *(add(f"*:443:h{number}.example.com") for number in range(100)))
    assert len(web.rows("Web")) == len(web.records()) == 100
    assert web.commits == 1


CASES: tuple[Case, ...] = tuple(
    case
    for case in list(globals().values())
    if isfunction(case) and list(signature(case).parameters) in (["gateway", "world"], ["gateway", "web"])
)
