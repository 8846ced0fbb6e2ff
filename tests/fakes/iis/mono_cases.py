"""What is run inside the Mono process beside the gateway's contract: the whole target, and the real X509Store."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.iis.bindings import SiteState, SslFlags
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.hresult import NO_LOGON_SESSION
from instance_agent.targets.iis.pfx import new_certificate
from instance_agent.targets.iis.tag import tag_of
from instance_agent.targets.iis.target import IisTarget
from instance_agent.windows.certificates import DotNetStores
from tests.fakes.iis.mono import MonoHttpSys, MonoWorld, gateway
from tests.fakes.iis.stores import MemoryStores
from tests.fakes.iis.world import Row
from tests.rigs.certificates import Issued, authority

ROOT = authority(key="rsa")  # Mono's store derives file names from the issuer's key, and knows RSA only
INTERMEDIATE = ROOT.intermediate(key="rsa")
CONTENT = "0" * 64


def story(told: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async case to its end: the Mono process calls plain functions."""

    @wraps(told)
    def run() -> None:
        asyncio.run(told())

    return run


class Rig:
    """The target over the C# assembly, its certificates in memory."""

    def __init__(self, catch_all: str = "keep", *, flags: SslFlags = SslFlags.NONE) -> None:
        self.world = MonoWorld()
        self.world.add_site("Web")
        self.world.add_binding("Web", "*:80:", protocol="http", flags=0)
        self.stores = MemoryStores()
        self.pauses: list[float] = []
        self.target = IisTarget(
            gateway(),
            self.stores,
            http_sys=MonoHttpSys(self.world),
            catch_all=CatchAllPolicy.parse(catch_all),
            new_flags=flags,
            windows_build=20348,
            pause=self.pauses.append,
        )

    def install(self, host: str) -> Install:
        return install(INTERMEDIATE.issue("fallback.example.com" if host == "*" else host), host)

    def https(self) -> list[Row]:
        return [row for row in self.world.rows("Web") if row.protocol == "https"]


def install(issued: Issued, host: str) -> Install:
    return Install(
        host=host, port=443, bundle_id=f"{issued.fingerprint}/{CONTENT}", bundle=issued.bundle(), generation=3
    )


@story
async def installs_renews_and_removes_in_one_commit_each() -> None:
    rig = Rig()
    await rig.target.start()
    old, new = rig.install("shop.example.com"), rig.install("shop.example.com")
    await rig.target.apply([old, rig.install("blog.example.com")])
    assert [row.information for row in rig.https()] == ["*:443:shop.example.com", "*:443:blog.example.com"]
    before = [it for it in await rig.target.current() if it.host == "shop.example.com"]
    await rig.target.apply([new])
    await rig.target.retire(before)
    assert rig.world.records()["shop.example.com:443"] == (new.bundle.thumbprint_sha1, "My")
    assert rig.stores.deleted_keys == [old.bundle.thumbprint_sha1]
    await rig.target.apply([Remove(host="shop.example.com", port=443)])
    assert [row.information for row in rig.https()] == ["*:443:blog.example.com"]
    await rig.target.apply([Remove(host="shop.example.com", port=443)])
    assert (rig.world.commits, rig.world.open_sessions) == (3, 0)


@story
async def plans_again_after_conflicts() -> None:
    rig = Rig()
    rig.world.conflict(2, intruder=("Web", "*:443:intruder.example.com"))
    await rig.target.apply([rig.install("shop.example.com")])
    found = [row.information for row in rig.https()]
    assert found == ["*:443:intruder.example.com", "*:443:shop.example.com"]
    assert (rig.world.commits, rig.world.open_sessions, len(rig.pauses)) == (1, 0, 2)


@story
async def gives_up_when_conflicts_do_not_end() -> None:
    rig = Rig()
    rig.world.conflict(1000)
    with pytest.raises(ServerUnavailableError):
        await rig.target.apply([rig.install("shop.example.com")])
    assert (rig.https(), rig.stores.entries, rig.world.open_sessions) == ([], {}, 0)


@story
async def says_what_an_unusable_private_key_means() -> None:
    rig = Rig()
    rig.world.fail_commit(NO_LOGON_SESSION)
    with pytest.raises(ApplyError, match=r"0x80070520.*private key") as caught:
        await rig.target.apply([rig.install("shop.example.com")])
    assert not caught.value.retriable
    assert (rig.https(), rig.stores.entries, rig.world.open_sessions) == ([], {}, 0)


@story
async def blames_the_certificate_that_a_half_made_commit_stopped_at_and_finishes_the_rest() -> None:
    rig = Rig()
    old = rig.install("two.example.com")
    await rig.target.apply([old])
    rig.world.refuse_record("three.example.com:443", 0x80070005)
    changes = {name: rig.install(f"{name}.example.com") for name in ("one", "two", "three", "four")}
    with pytest.raises(ApplyError, match=r"0x80070005.*denied") as caught:
        await rig.target.apply(list(changes.values()))
    assert caught.value.culprit == ("three.example.com", 443)
    assert {row.information for row in rig.https()} == {f"*:443:{name}.example.com" for name in ("one", "two", "four")}
    assert {it.host for it in await rig.target.current()} == {"one.example.com", "two.example.com"}
    del changes["three"]
    await rig.target.apply(list(changes.values()))
    served = {endpoint: thumbprint for endpoint, (thumbprint, _) in rig.world.records().items()}
    assert served == {f"{it.host}:443": it.bundle.thumbprint_sha1 for it in changes.values()}


@story
async def puts_the_old_certificate_back_where_a_half_made_commit_took_it() -> None:
    rig = Rig()
    old, new = rig.install("shop.example.com"), rig.install("shop.example.com")
    await rig.target.apply([old])
    rig.world.require_certificates(old.bundle.thumbprint_sha1)
    with pytest.raises(ApplyError, match="0x80070520") as caught:
        await rig.target.apply([new])
    assert caught.value.culprit == new.key
    assert rig.world.records() == {"shop.example.com:443": (old.bundle.thumbprint_sha1, "My")}
    (found,) = await rig.target.current()
    assert old.is_done_by(found)


@story
async def binds_the_default_without_sni_and_new_flags() -> None:
    rig = Rig(flags=SslFlags.DISABLE_LEGACY_TLS | SslFlags.DISABLE_HTTP2)
    default, shop = rig.install("*"), rig.install("shop.example.com")
    await rig.target.apply([default, shop])
    assert {row.information: row.flags for row in rig.https()} == {"*:443:": 68, "*:443:shop.example.com": 69}
    assert rig.world.records()["*:443"] == (default.bundle.thumbprint_sha1, "My")
    assert {it.key for it in await rig.target.current()} == {("*", 443), ("shop.example.com", 443)}


@story
async def names_the_binding_that_iis_refuses() -> None:
    rig = Rig()
    rig.world.refuse("*:443:bad.example.com")
    with pytest.raises(ApplyError, match="0x80070057") as caught:
        await rig.target.apply([rig.install("good.example.com"), rig.install("bad.example.com")])
    assert caught.value.culprit == ("bad.example.com", 443)
    assert (rig.https(), rig.world.commits, rig.world.open_sessions) == ([], 0, 0)


@story
async def starts_a_site_that_stopped_at_the_commit() -> None:
    rig = Rig()
    rig.world.add_site("Off", site_id=2, started=False)
    rig.world.add_binding("Off", "*:8080:", protocol="http", flags=0)
    rig.world.stop_on_commit("Web")
    rig.world.hide_state("Web", 1)
    await rig.target.apply([rig.install("shop.example.com")])
    assert rig.world.starts == ["Web"]
    assert rig.world.state("Web") is SiteState.STARTED
    assert rig.world.state("Off") is SiteState.STOPPED


@story
async def removes_the_catch_all_in_the_same_commit() -> None:
    rig = Rig(catch_all="remove")
    rig.world.add_binding("Web", "*:443:", flags=0, thumbprint="01" * 20)
    await rig.target.apply([rig.install("shop.example.com")])
    assert [row.information for row in rig.https()] == ["*:443:shop.example.com"]
    assert list(rig.world.records()) == ["shop.example.com:443"]
    assert rig.world.commits == 1


class NamelessStores(DotNetStores):
    """Without friendly names: setting one is "not supported on Unix", says Mono."""

    def _name(self, native: object, friendly_name: str) -> None:
        pass


def stores() -> NamelessStores:
    return NamelessStores(location="CurrentUser")


def a_certificate_is_imported_found_and_deleted(key: str) -> None:
    issued = INTERMEDIATE.issue("shop.example.com", key="rsa" if key == "rsa" else "ec")
    change = install(issued, "shop.example.com")
    stores().add("My", new_certificate(change, tag_of([change])))
    (found,) = stores().listing()
    assert (found.store, found.thumbprint) == ("My", issued.thumbprint)
    assert stores().fingerprints([found]) == {issued.thumbprint: issued.fingerprint}
    stores().remove(found)
    assert stores().listing() == []


def a_missing_certificate_is_a_problem() -> None:
    assert list(stores().key_problems("My", ["00" * 20])) == ["00" * 20]


def a_certificate_without_its_key_is_a_problem() -> None:
    """Mono keeps no private keys, which here is just what the check must find."""
    issued = INTERMEDIATE.issue("shop.example.com", key="rsa")
    change = install(issued, "shop.example.com")
    stores().add("My", new_certificate(change, tag_of([change])))
    assert "no private key" in stores().key_problems("My", [issued.thumbprint])[issued.thumbprint]
    (found,) = stores().listing()
    stores().remove(found)


def a_file_with_another_certificate_is_refused() -> None:
    issued, other = INTERMEDIATE.issue("one.example.com"), INTERMEDIATE.issue("two.example.com")
    change = install(issued, "one.example.com")
    made = new_certificate(change, tag_of([change]))
    with pytest.raises(GatewayError, match=other.thumbprint):
        stores().add("My", replace(made, thumbprint=other.thumbprint))
    assert stores().listing() == []


def intermediates_are_added_once() -> None:
    ders = [link.der for link in INTERMEDIATE.issue("shop.example.com").bundle().chain]
    native = stores()
    for _ in range(2):
        native.add_intermediates(ders)
    with native._open("CA") as store:
        assert [str(it.Thumbprint) for it in store.Certificates].count(thumbprint_of_intermediate()) == 1


def thumbprint_of_intermediate() -> str:
    return INTERMEDIATE.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Windows' name for it


def a_password_is_in_no_error() -> None:
    issued = INTERMEDIATE.issue("shop.example.com")
    change = install(issued, "shop.example.com")
    made = new_certificate(change, tag_of([change]))
    wrong = replace(made, password="not-" + made.password)
    with pytest.raises(GatewayError) as caught:
        stores().add("My", wrong)
    assert made.password not in str(caught.value)
    assert made.password not in repr(wrong)


TARGET_CASES: tuple[Callable[[], None], ...] = (
    installs_renews_and_removes_in_one_commit_each,
    plans_again_after_conflicts,
    gives_up_when_conflicts_do_not_end,
    says_what_an_unusable_private_key_means,
    blames_the_certificate_that_a_half_made_commit_stopped_at_and_finishes_the_rest,
    puts_the_old_certificate_back_where_a_half_made_commit_took_it,
    binds_the_default_without_sni_and_new_flags,
    names_the_binding_that_iis_refuses,
    starts_a_site_that_stopped_at_the_commit,
    removes_the_catch_all_in_the_same_commit,
)
STORE_CASES: tuple[Callable[[], None], ...] = (
    a_missing_certificate_is_a_problem,
    a_certificate_without_its_key_is_a_problem,
    a_file_with_another_certificate_is_refused,
    intermediates_are_added_once,
    a_password_is_in_no_error,
)
