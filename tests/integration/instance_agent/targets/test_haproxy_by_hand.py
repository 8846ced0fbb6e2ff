"""What somebody changed on a real HAProxy or in its files is found when it is read again, and put right."""

import os
import shutil
from collections.abc import AsyncIterator, Callable

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.haproxy import own_files
from instance_agent.targets.haproxy.target import NoListError
from shared.bundle import CertificateBundle
from shared.messages import InstallOutcome as Outcome
from tests.rigs.haproxy import HAProxyRig, serving
from tests.rigs.programs import needs
from tests.rigs.targets import QUICK, bind, expect, fresh, root, seen
from tests.rigs.visitors import trusting, visiting

pytestmark = needs("haproxy")

SHOP, OTHER = "shop.example.com", "other.example.com"


@pytest.fixture
async def rig() -> AsyncIterator[HAProxyRig]:
    async with serving() as rig:
        yield rig


def replaced(rig: HAProxyRig) -> None:
    """By a file of somebody's own."""
    rig.pem(SHOP).write_bytes(root().issue(SHOP).bundle().to_pem())


def replaced_below_its_tag(rig: HAProxyRig) -> None:
    """In its place, with the times that it had."""
    path, times = rig.pem(SHOP), rig.pem(SHOP).stat()
    tag, _, _ = path.read_bytes().partition(b"\n")
    path.write_bytes(tag + b"\n" + root().issue(SHOP).bundle().to_pem())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def with_damage(rig: HAProxyRig) -> None:
    content = rig.pem(SHOP).read_bytes()
    rig.pem(SHOP).write_bytes(content.replace(b"-----BEGIN CERTIFICATE-----\nMII", b"-----BEGIN CERTIFICATE-----\nAAA"))


def deleted(rig: HAProxyRig) -> None:
    rig.pem(SHOP).unlink()


def struck_out(rig: HAProxyRig) -> None:
    rig.crt_list().write_text(rig.crt_list().read_text().replace(str(rig.pem(SHOP)), f"# {rig.pem(SHOP)}"))


def listed_twice(rig: HAProxyRig) -> None:
    rig.crt_list().write_text(rig.crt_list().read_text() * 2)


def list_deleted(rig: HAProxyRig) -> None:
    rig.crt_list().unlink()


def all_deleted(rig: HAProxyRig) -> None:
    rig.crt_list().unlink()
    shutil.rmtree(rig.pem(SHOP).parent)


ON_THE_DISK = [
    replaced,
    replaced_below_its_tag,
    with_damage,
    deleted,
    struck_out,
    listed_twice,
    list_deleted,
    all_deleted,
]


@pytest.mark.parametrize("change", ON_THE_DISK)
async def test_what_was_changed_on_the_disk_is_found_and_a_restart_reads_what_it_should(
    rig: HAProxyRig, change: Callable[[HAProxyRig], None]
) -> None:
    ours, other = fresh(SHOP, 443), fresh(OTHER, 443)
    await rig.target.apply([ours, other])
    assert len(await rig.target.current()) == 2
    change(rig)
    rig.target.forget()
    found = await rig.target.current()
    assert not any(ours.is_done_by(each) for each in found)
    assert {each.key for each in found} == {ours.key, other.key}
    results = await install(rig.target, [ours, other], rig.probe, pace=QUICK)
    assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]
    rig.target.forget()
    assert await rig.target.current() == {ours.bound, other.bound}
    await rig.restart_server()
    await expect(rig, 443, {SHOP: ours, OTHER: other})


async def test_a_certificate_that_was_set_without_its_intermediates_is_found(rig: HAProxyRig) -> None:
    """The commonest slip with `set ssl cert`: clients that do not know the intermediate cannot verify it."""
    issued = root().intermediate().issue(SHOP)
    ours = bind(issued, SHOP, 443)
    await rig.target.apply([ours])
    await rig.tamper(SHOP, 443, CertificateBundle(leaf=issued.certificate, chain=(), key=issued.key))
    rig.target.forget()
    assert not any(ours.is_done_by(each) for each in await rig.target.current())
    await rig.target.apply([ours])
    assert await rig.target.current() == {ours.bound}
    async with visiting(rig.target.endpoint(443), SHOP, context=trusting(root().root_pem)) as (visitor,):
        assert visitor.fingerprint == issued.fingerprint


async def test_a_reload_to_a_configuration_without_a_list_is_found_and_one_with_it_again_too(rig: HAProxyRig) -> None:
    ours, other = fresh(SHOP, 443), fresh(SHOP, 444)
    await rig.target.apply([ours, other])
    config = rig.server.folder / "haproxy.cfg"
    text = config.read_text()
    config.write_text(text.replace(f" crt-list {rig.crt_list(444)}", ""))
    await rig.restart_server()
    rig.target.forget()
    assert await rig.target.current() == {ours.bound}
    with pytest.raises(NoListError, match=r"crt-list .*444\.list"):
        await rig.target.apply([other])
    config.write_text(text)
    await rig.restart_server()
    assert await rig.target.current() == {ours.bound, other.bound}
    await expect(rig, 444, {SHOP: other})


async def test_what_nothing_changed_is_not_read_again_from_the_disk(
    rig: HAProxyRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificates of thousands of files take a second to parse, and are asked for every five minutes."""
    changes = [fresh(f"h{number}.example.com", 443) for number in range(20)]
    await rig.target.apply(changes)
    rig.target.forget()
    await rig.target.current()
    monkeypatch.setattr(own_files, "x509", None)
    rig.target.forget()
    assert await rig.target.current() == {change.bound for change in changes}
    await rig.tamper(changes[0].host, 443, root().issue(changes[0].host).bundle())
    rig.target.forget()
    assert not any(changes[0].is_done_by(each) for each in await rig.target.current())
    await rig.target.apply(changes)
    assert await seen(rig, 443, changes[0].host) == changes[0].bundle.fingerprint_sha256
