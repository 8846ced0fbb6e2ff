"""nginx with its Lua module: the contract of all targets, and what is this mode's own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from instance_agent.installing.installer import install
from instance_agent.targets.base import Remove, ServerUnavailableError
from instance_agent.targets.parts.pem_file import TAG
from shared.bundle import CertificateBundle
from shared.messages import InstallOutcome as Outcome
from tests.contracts.names import NamesContract
from tests.contracts.targets import (
    DefaultContract,
    DefaultRestartContract,
    HandmadeChangeContract,
    OpenConnectionsContract,
    RestartContract,
    TlsContract,
)
from tests.rigs.nginx import NginxRig, running_as_root, serving_nginx
from tests.rigs.targets import bind, endpoint, expect, fresh, root, seen, served
from tests.rigs.visitors import fingerprint_for_raw_name, flight_for_raw_name, visiting


class TestTheContract(
    TlsContract,
    OpenConnectionsContract,
    RestartContract,
    HandmadeChangeContract,
    NamesContract,
    DefaultContract,
    DefaultRestartContract,
):
    """With the module's rig."""


@pytest.fixture
async def rig() -> AsyncIterator[NginxRig]:
    async with serving_nginx(dynamic=True) as rig:
        yield rig


def hand_made(path: Path) -> bytes:
    """Put a PEM file there as an administrator would; its leaf's DER."""
    issued = root().issue("hand.example.com")
    path.write_bytes(issued.bundle().to_pem())
    return issued.certificate.public_bytes(Encoding.DER)


class TestServerNames:
    @pytest.mark.parametrize(
        "name",
        [
            b"../secret",
            b"../../secret",
            b"../443/inside",
            b"./inside",
            b"x/../inside",
            b"..",
            b".",
            b".inside",
            b"in..side",
            b"-inside",
            b"inside-",
            b"inside/",
            b"inside.pem",
            b"inside\0",
            b"inside\xc3\xa9",
            b"_inside",
            b"_.inside",
            b"a._inside.example",
            b"*.inside.example",
            b"x" * 64,
            b"x" * 255,
        ],
    )
    async def test_a_server_name_reaches_no_file_but_its_own(self, rig: NginxRig, name: bytes) -> None:
        live = rig.server.certificates / "live"
        places = (
            live / "secret.pem",
            live.parent / "secret.pem",
            live / "443" / "inside.pem",
            live / "443" / "_.inside.example.pem",
        )
        leaves = [hand_made(place) for place in places]
        for plain, leaf in ((b"inside", leaves[2]), (b"a.inside.example", leaves[3])):
            assert leaf in await flight_for_raw_name(endpoint(rig, 443), plain), "names are looked up as files"
        flight = await flight_for_raw_name(endpoint(rig, 443), name)
        assert not any(leaf in flight for leaf in leaves)
        fallback = CertificateBundle.from_pem((live.parent / "fallback.pem").read_bytes())
        assert fallback.leaf.public_bytes(Encoding.DER) in flight or flight[:1] in {b"", b"\x15"}  # an alert
        assert leaves[2] in await flight_for_raw_name(endpoint(rig, 443), b"INSIDE")

    async def test_a_trailing_dot_and_the_longest_labels_are_names_too(self, rig: NginxRig) -> None:
        host = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.example.com"
        issued = root().issue("shop.example.com", host, subject="long")
        await rig.target.apply([bind(issued, "shop.example.com", 443), bind(issued, host, 443)])
        assert await seen(rig, 443, host) == issued.fingerprint
        found = await asyncio.to_thread(fingerprint_for_raw_name, endpoint(rig, 443), b"shop.example.com.")
        assert found == issued.fingerprint


class TestFiles:
    @pytest.mark.skipif(
        not running_as_root(), reason="needs root: only then do nginx's workers have a user of their own"
    )
    async def test_the_workers_may_read_certificates_and_nothing_else_is_opened_to_them(self) -> None:
        async with serving_nginx(dynamic=True, worker_user="www-data") as rig:
            await served(rig, fresh("shop.example.com", 443))
            pem, folder = rig.pem("shop.example.com"), rig.server.certificates
            assert (pem.stat().st_mode & 0o777, pem.owner(), pem.group()) == (0o640, "root", "www-data")
            for each in (folder, pem.parent, pem.parent.parent):
                assert (each.stat().st_mode & 0o777, each.owner(), each.group()) == (0o750, "root", "www-data")
            assert (folder / "fallback.pem").stat().st_mode & 0o777 == 0o600
            assert rig.server.socket.parent.stat().st_mode & 0o777 == 0o700
            assert (folder / ".staging").stat().st_mode & 0o777 == 0o700

    async def test_files_are_the_owners_alone_where_the_workers_are_the_same_user(self, rig: NginxRig) -> None:
        await rig.target.apply([fresh("shop.example.com", 443)])
        modes = {path.stat().st_mode & 0o777 for path in rig.server.certificates.rglob("*") if path.is_file()}
        assert modes == {0o600}

    async def test_what_was_made_by_hand_is_served_reported_and_left_alone(self, rig: NginxRig) -> None:
        leaf = hand_made(rig.pem("hand.example.com"))
        before = rig.pem("hand.example.com").read_bytes()
        changes = [fresh(host, 443) for host in ("a.example.com", "hand.example.com")]
        results = await install(rig.target, changes, rig.probe)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.FAILED]
        assert "was not made by certcast" in results[1].reason
        await rig.target.apply([Remove(host="hand.example.com", port=443)])
        assert rig.pem("hand.example.com").read_bytes() == before
        assert await seen(rig, 443, "hand.example.com") == hashlib.sha256(leaf).hexdigest()
        assert {binding.host for binding in await rig.target.current()} == {"a.example.com"}

    async def test_a_tag_that_was_copied_to_another_host_makes_it_not_ours(self, rig: NginxRig) -> None:
        await rig.target.apply([bind(root().issue("*.example.com"), "a.example.com", 443)])
        rig.pem("b.example.com").write_bytes(rig.pem("a.example.com").read_bytes())
        assert {binding.host for binding in await rig.target.current()} == {"a.example.com"}

    async def test_a_file_damaged_by_hand_does_not_take_down_what_is_served(self, rig: NginxRig) -> None:
        issued = root().issue("a.example.com")
        await rig.target.apply([bind(issued, "a.example.com", 443)])
        for _ in range(8):  # until every worker has it
            assert await seen(rig, 443, "a.example.com") == issued.fingerprint
        edited = rig.server.folder / "edited"
        edited.write_text(f"{TAG}{{}}\nnonsense", encoding="utf-8")
        edited.replace(rig.pem("a.example.com"))
        await rig.target.apply([fresh("b.example.com", 443)])
        assert await seen(rig, 443, "a.example.com") in {issued.fingerprint, rig.fallback}
        assert {binding.host for binding in await rig.target.current()} == {"b.example.com"}


class TestRestarts:
    async def test_an_nginx_that_is_down_is_reported_and_healed_by_the_same_batch(self, rig: NginxRig) -> None:
        old, change = fresh("shop.example.com", 443), fresh("shop.example.com", 443)
        await rig.target.apply([old])
        before = await rig.target.current()
        await rig.server.stop()
        (result,) = await install(rig.target, [change], rig.probe)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "is it running" in result.reason
        assert await rig.target.current() == before
        await rig.server.start()
        await expect(rig, 443, {"shop.example.com": old})
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE

    async def test_an_nginx_restarted_behind_our_back_serves_the_same(self, rig: NginxRig) -> None:
        exact, wide = fresh("shop.example.com", 443), fresh("*.example.net", 443)
        await rig.target.apply([exact, wide])
        before = await rig.target.current()
        await rig.server.stop()
        await rig.server.start()
        await expect(rig, 443, {exact.host: exact, "x.example.net": wide, "unknown.example": rig.fallback})
        assert await rig.target.current() == before
        await served(rig, fresh("shop.example.com", 443))

    async def test_the_socket_of_a_killed_nginx_does_not_keep_the_next_one_from_starting(self, rig: NginxRig) -> None:
        await rig.server.process.kill()
        assert rig.server.socket.exists()
        with pytest.raises(ServerUnavailableError):
            await rig.target.apply([fresh("a.example.com", 443)])
        assert not rig.server.socket.exists()
        await rig.server.start()
        assert await seen(rig, 443, "a.example.com") == rig.fallback

    async def test_an_agent_started_again_closes_no_connection(self, rig: NginxRig) -> None:
        async with visiting(endpoint(rig, 443), "a.example") as (visitor,):
            await visitor.get()
            await rig.restart_agent()
            assert (await visitor.get()).status == 200

    async def test_a_folder_changes_from_one_mode_to_the_other_and_back(self, rig: NginxRig) -> None:
        change = fresh("shop.example.com", 443)
        await rig.target.apply([change])
        before = await rig.target.current()
        for mode in ("blocks", "dynamic"):
            await rig.restart_agent(CERTCAST_NGINX_MODE=mode)
            assert rig.target.mode == mode
            assert await rig.target.current() == before
            await expect(rig, 443, {"shop.example.com": change, "unknown.example": rig.fallback})
        assert not list(rig.server.certificates.glob("blocks/*/*.conf"))
