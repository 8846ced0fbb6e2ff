"""The caddy target over a real Caddy: the contract of all targets, and what is its own."""

import asyncio
import base64
import errno
import logging
import os
import re
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.caddy.manager import Manager
from instance_agent.targets.caddy.target import CaddyTarget
from local_azure.processes.listening import port_offsets
from local_azure.servers.caddy import CaddyServer
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import DefaultContract, OpenConnectionsContract, RestartContract, TlsContract
from tests.rigs.programs import require
from tests.rigs.targets import QUICK, expect, fresh, root, seen, unfit
from tests.rigs.visitors import visiting


class CaddyRig:
    """A target beside two servers of the test's own, one for each PortNumber."""

    ports = (443, 444)
    probe = staticmethod(served_fingerprint)

    def __init__(self, server: CaddyServer, target: CaddyTarget) -> None:
        self.server = server
        self.target = target
        own = server.folder / "certcast" / "fallback.pem"
        self.fallback = CertificateBundle.from_pem(own.read_bytes()).fingerprint_sha256

    async def restart_agent(self) -> None:
        await self.target.stop()
        self.target = await started(self.server)


async def started(server: CaddyServer, **settings: str) -> CaddyTarget:
    target = make_target("caddy", server.agent_environment | settings)
    assert isinstance(target, CaddyTarget)
    await target.start()
    return target


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[CaddyRig]:
    """A server whose PortNumbers 443 and 444 are free ports, and a started target beside it."""
    require("caddy")
    async with AsyncExitStack() as stack:
        [offset] = stack.enter_context(port_offsets(1, ports=(443, 444)))
        server = CaddyServer(folder=folder, port_offset=offset)
        for each in (server, replace(server, port_numbers=(444,))):
            stack.push_async_callback(each.stop)
            await each.start()
        rig = CaddyRig(server, await started(server))
        try:
            yield rig
        finally:
            await rig.target.stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[CaddyRig]:
    async with serving(tmp_path) as rig:
        yield rig


class TestTheContract(TlsContract, OpenConnectionsContract, RestartContract, DefaultContract):
    """With the module's rig."""


class TestWhileOneOfThemIsAway:
    async def test_a_restarted_agent_answers_at_once_from_its_files(self, rig: CaddyRig) -> None:
        change = fresh("a.example.com", 443)
        await rig.target.apply([change])
        async with visiting(rig.target.endpoint(443), "a.example.com") as (visitor,):
            await rig.target.stop()
            assert await seen(rig, 443, "a.example.com") is None
            assert (await visitor.get()).status == 200, "an open connection needs no agent"
            await rig.restart_agent()
            assert await seen(rig, 443, "a.example.com") == change.bundle.fingerprint_sha256
            assert await seen(rig, 443, "unknown.example") == rig.fallback

    async def test_caddys_log_does_not_tell_the_password_when_no_agent_answers(self, rig: CaddyRig) -> None:
        await rig.target.stop()
        assert await seen(rig, 443, "a.example.com") is None
        said = rig.server.process
        await said.line_matching(re.compile("connection refused"), timeout_s=10)
        assert rig.server.agent_environment["CERTCAST_CADDY_PASSWORD"] not in "".join(said.last_lines)
        await rig.restart_agent()

    async def test_a_restarted_server_serves_what_is_bound(self, rig: CaddyRig) -> None:
        change = fresh("a.example.com", 443)
        await rig.target.apply([change])
        await rig.server.stop()
        await rig.server.start()
        await expect(rig, 443, {"a.example.com": change, "unknown.example": rig.fallback})

    async def test_while_the_server_is_down_a_change_is_reported_as_not_seen_and_lives_once_it_is_up(
        self, rig: CaddyRig
    ) -> None:
        change = fresh("a.example.com", 443)
        await rig.server.stop()
        (result,) = await install(rig.target, [change], rig.probe, pace=QUICK)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "no listener answered" in result.reason
        await rig.server.start()
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class TestTheManager:
    async def test_without_the_password_there_is_no_key(self, rig: CaddyRig) -> None:
        await rig.target.apply([fresh("a.example.com", 443)])
        settings = rig.server.agent_environment
        url = f"http://{settings['CERTCAST_CADDY_LISTEN']}/443?server_name=a.example.com"
        password = settings["CERTCAST_CADDY_PASSWORD"]
        right = {"Authorization": basic("certcast", password)}
        wrong = ("", basic("certcast", "x" * 48), basic("root", password), "Basic", "Bearer x", "Basic " + "A" * 4000)
        async with aiohttp.ClientSession() as client:
            for authorization in wrong:
                async with client.get(url, headers={"Authorization": authorization}) as answer:
                    assert answer.status == 401
                    assert b"PRIVATE KEY" not in await answer.read()
            async with client.get(url) as answer:
                assert answer.status == 401
            async with client.get(url, headers=right) as answer:
                assert answer.status == 200
                assert b"PRIVATE KEY" in await answer.read()
                assert answer.headers["Cache-Control"] == "no-store"
            for path in ("/", "/x", "/443/x", "/999999", "/%C2%B2"):
                async with client.get(f"http://{settings['CERTCAST_CADDY_LISTEN']}{path}", headers=right) as answer:
                    assert answer.status == 404

    async def test_header_and_body_leave_together(self, rig: CaddyRig) -> None:
        settings = rig.server.agent_environment
        auth = basic("certcast", settings["CERTCAST_CADDY_PASSWORD"])
        host, _, port = settings["CERTCAST_CADDY_LISTEN"].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /443 HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n\r\n".encode())
        first = await reader.read(65536)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b"-----END CERTIFICATE-----\n")
        writer.close()
        await writer.wait_closed()

    async def test_an_address_in_use_is_waited_for_and_named_with_its_setting(self, rig: CaddyRig) -> None:
        second = make_target("caddy", rig.server.agent_environment)
        with pytest.raises(ServerUnavailableError, match="CERTCAST_CADDY_LISTEN: cannot listen on"):
            await second.start()
        await rig.target.stop()
        await second.start()
        assert await seen(rig, 443, "unknown.example") == rig.fallback
        await second.stop()
        await rig.restart_agent()

    async def test_an_address_of_no_use_is_for_a_person_to_correct(
        self, rig: CaddyRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(_: Manager, address: str, port: int) -> None:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL), f"{address}:{port}")

        monkeypatch.setattr(Manager, "listen", refused)
        with pytest.raises(ConfigurationError, match=r"Cannot assign requested address.*: name another one here"):
            await started(rig.server)

    async def test_the_installer_is_told_who_answered_instead(self, rig: CaddyRig) -> None:
        mine = fresh("a.example.com", 443)
        await rig.target.apply([mine])
        explain = rig.target.explain_mismatch
        assert "get_certificate" in (await explain("b.example.com", 443, "00" * 32) or "")
        assert await seen(rig, 443, "a.example.com") == mine.bundle.fingerprint_sha256
        assert "fallback" in (await explain("b.example.com", 443, rig.fallback) or "")
        assert "a.example.com:443" in (await explain("b.example.com", 443, mine.bundle.fingerprint_sha256) or "")
        assert "of its own" in (await explain("b.example.com", 443, "00" * 32) or "")

    async def test_the_fallback_named_in_the_settings_is_the_one_served(self, rig: CaddyRig, tmp_path: Path) -> None:
        fallback = root().issue("*.platform.example").bundle()
        path = tmp_path / "fallback.pem"
        path.write_bytes(fallback.to_pem())
        await rig.target.stop()
        rig.target = await started(rig.server, CERTCAST_CADDY_FALLBACK=str(path))
        assert await seen(rig, 443, "unknown.example") == fallback.fingerprint_sha256

    async def test_its_version_is_caddys(self, rig: CaddyRig) -> None:
        assert re.match(r"Caddy \d+\.\d+", await rig.target.version())


class TestTheDisk:
    async def test_keys_are_readable_by_their_owner_alone_and_go_with_the_binding(self, rig: CaddyRig) -> None:
        folder = rig.server.folder / "certcast"
        await rig.target.apply([fresh("a.example.com", 443)])
        paths = [folder, *folder.rglob("*")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
        await rig.target.apply([Remove(host="a.example.com", port=443)])
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["fallback.pem"]

    async def test_a_file_made_by_hand_is_left_alone(self, rig: CaddyRig) -> None:
        own = rig.server.folder / "certcast" / "443" / "hand.example.com.pem"
        own.parent.mkdir(mode=0o700)
        own.write_bytes(root().issue("hand.example.com").bundle().to_pem())
        before = own.read_bytes()
        with pytest.raises(ApplyError, match="was not made by certcast") as caught:
            await rig.target.apply([fresh("hand.example.com", 443)])
        assert caught.value.culprit == ("hand.example.com", 443)
        await rig.target.apply([Remove(host="hand.example.com", port=443)])
        await rig.restart_agent()
        assert await rig.target.current() == frozenset()
        assert own.read_bytes() == before

    async def test_a_folder_that_cannot_be_written_is_trouble_for_later_and_changes_nothing(
        self, rig: CaddyRig
    ) -> None:
        (rig.server.folder / "certcast" / "443").write_text("a file where the folder belongs")
        with pytest.raises(ServerUnavailableError, match="443"):
            await rig.target.apply([fresh("a.example.com", 443)])
        assert await rig.target.current() == frozenset()
        assert await seen(rig, 443, "a.example.com") == rig.fallback

    async def test_no_key_and_no_password_is_logged(self, rig: CaddyRig, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        changes = [fresh("a.example.com", 443), unfit("b.example.com", 443)]
        results = await install(rig.target, changes, rig.probe)
        told = caplog.text + repr(results) + repr(vars(rig.target)) + repr(rig.server)
        assert rig.server.agent_environment["CERTCAST_CADDY_PASSWORD"] not in told
        for change in changes:
            for line in change.bundle.key_pem().decode().splitlines()[1:-1]:
                assert line not in told


class TestSettings:
    def test_a_password_is_needed_and_the_text_says_how_to_make_one(self) -> None:
        for password in ("", "short", "with space and : in it, long enough"):
            with pytest.raises(ConfigurationError, match="openssl rand -hex 24") as caught:
                make_target("caddy", {"CERTCAST_CADDY_PASSWORD": password})
            assert not password or password not in str(caught.value)

    @pytest.mark.parametrize("listen", ["0.0.0.0:8485", "10.0.0.1:8485", "8485", "localhost:8485", "127.0.0.1:99999"])
    def test_keys_are_answered_on_loopback_alone(self, listen: str) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_CADDY_LISTEN must be a loopback address"):
            make_target("caddy", {"CERTCAST_CADDY_PASSWORD": "x" * 48, "CERTCAST_CADDY_LISTEN": listen})

    def test_a_port_beyond_the_last_and_a_host_that_is_none_are_refused(self) -> None:
        target = make_target("caddy", {"CERTCAST_CADDY_PASSWORD": "x" * 48, "CERTCAST_CADDY_PORT_OFFSET": "8000"})
        assert target.endpoint(443) == ("127.0.0.1", 8443)
        bundle = root().issue("a.example.com").bundle()
        refused = Install(host="a.example.com", port=60_000, bundle_id="", bundle=bundle)
        assert "CERTCAST_CADDY_PORT_OFFSET" in (target.refusal(refused) or "")
        assert target.refusal(Install(host="../a.example.com", port=443, bundle_id="", bundle=bundle))

    async def test_a_fallback_that_is_missing_is_named_with_its_setting(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        settings = {
            "CERTCAST_CADDY_PASSWORD": "x" * 48,
            "CERTCAST_CADDY_FOLDER": str(tmp_path),
            "CERTCAST_CADDY_LISTEN": f"127.0.0.1:{port}",
            "CERTCAST_CADDY_FALLBACK": str(tmp_path / "missing.pem"),
        }
        with pytest.raises(ConfigurationError, match=r"missing\.pem .*CERTCAST_CADDY_FALLBACK"):
            await make_target("caddy", settings).start()
