"""Certificates of Caddy's own, loaded or obtained, and files of ours that somebody changed; on a real Caddy."""

import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import name_to_probe
from instance_agent.targets.base import Remove
from local_azure.processes.listening import free_port, port_offsets
from local_azure.servers.by_hand import by_hand
from local_azure.servers.caddy import CaddyServer
from shared.messages import InstallOutcome as Outcome
from tests.integration.instance_agent.targets.test_caddy import CaddyRig, serving, started
from tests.rigs.pages import blocks, text_of
from tests.rigs.programs import require
from tests.rigs.some import some
from tests.rigs.targets import QUICK, expect, fresh, fresh_default, owned, owned_after, root, served

PAGE = Path("docs/targets/caddy.md")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[CaddyRig]:
    async with serving(tmp_path) as rig:
        yield rig


class TestWhatSomebodyChanges:
    """What Caddy's own configuration loads is not certcast's to take away: it is found, and said with its cause."""

    @pytest.mark.parametrize("host", ["shop.example.com", "*.example.net"])
    async def test_a_certificate_that_caddy_is_given_is_told_of_and_when_it_is_gone_ours_is_served(
        self, rig: CaddyRig, host: str
    ) -> None:
        change, somebody = fresh(host, 443), some(by_hand(rig.server))
        await served(rig, change)
        theirs = root().issue(host).bundle()
        await somebody.replace(host, theirs)
        name = name_to_probe(host)
        await expect(rig, 443, {name: theirs.fingerprint_sha256})
        rig.target.forget()
        (result,) = await install(rig.target, [change], rig.probe, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert result.seen_fingerprint_sha256 == theirs.fingerprint_sha256
        for cause in ("Caddy has a certificate of its own there, and asks for none", "certificates: load_pem)"):
            assert cause in result.reason
        await somebody.take_back()
        await expect(rig, 443, {name: change})
        rig.target.forget()
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE
        assert owned(await rig.target.current()) == owned_after(change)

    @pytest.mark.parametrize("how", ["deleted", "replaced", "replaced, without its tag", "emptied"])
    async def test_a_file_that_somebody_changed_is_written_again_and_never_served(
        self, rig: CaddyRig, how: str
    ) -> None:
        change, other = fresh("a.example.com", 443), fresh("b.example.com", 443)
        await served(rig, change, other)
        path = rig.server.folder / "certcast" / "443" / "a.example.com.pem"
        before, theirs = path.read_bytes(), root().issue("a.example.com").bundle().to_pem()
        tag = before.partition(b"\n")[0] + b"\n"
        path.unlink()
        if how != "deleted":
            path.write_bytes({"replaced": tag + theirs, "emptied": b""}.get(how, theirs))
        assert owned(await rig.target.current()) == owned_after(change, other)
        rig.target.forget()
        found = {binding.key: binding for binding in await rig.target.current()}
        assert not change.is_done_by(found[change.key])
        assert other.is_done_by(found[other.key])
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE
        assert path.read_bytes() == before
        await rig.restart_agent()
        await expect(rig, 443, {"a.example.com": change})

    async def test_what_lost_its_file_can_still_be_removed(self, rig: CaddyRig) -> None:
        change = fresh("a.example.com", 443)
        await served(rig, change)
        (rig.server.folder / "certcast" / "443" / "a.example.com.pem").unlink()
        rig.target.forget()
        (result,) = await install(rig.target, [Remove(host=change.host, port=443)], rig.probe)
        assert result.outcome is Outcome.REMOVED
        await expect(rig, 443, {"a.example.com": rig.fallback})


OBTAINED = re.compile(r"tls\.obtain|obtaining certificate")
"""What Caddy's log says of a certificate that it gets for itself."""


@dataclass(kw_only=True)
class CaddyOfTheDocumentation(CaddyServer):
    """A Caddy with the Caddyfile of docs/targets/caddy.md, and what is put beside it.

    Attributes:
        options: Further global options; no authority is asked over the network.
        sites: Further sites.
        without: What is left out of the documented text.
    """

    options: str = ""
    sites: str = ""
    without: str = "-"

    def _files(self) -> Mapping[Path, bytes]:
        files = dict(super()._files())
        [documented] = (block for block in blocks(text_of(PAGE), "") if block.startswith("{\n"))
        address = "http://certcast:PASSWORD@127.0.0.1:8485/443"
        assert documented.count(address) == 1
        assert documented.count("reverse_proxy 127.0.0.1:8080") == 1
        text = documented.replace(address, f"http://certcast:{self.password}@{self.listen}/443")
        text = text.replace("reverse_proxy 127.0.0.1:8080", "respond certcast").replace(self.without, "")
        own = f"admin unix/{self.admin}\nacme_ca https://127.0.0.1:1/\ndefault_bind 127.0.0.1\n"
        ports = f"http_port {free_port()}\nhttps_port {443 + self.port_offset}\n"
        path = self.folder / "Caddyfile"
        path.write_text(text.replace("{\n", f"{{\n{own}{ports}{self.options}\n", 1) + self.sites)
        adapted = subprocess.run([self.find(), "adapt", "--config", path], capture_output=True, check=True, text=True)
        return {next(iter(files)): adapted.stdout.encode()}


class TestHostNamedSites:
    """A Caddy whose sites have names obtains certificates for them, beside any manager."""

    SITES = "https://shop.example.com {\n respond shop\n}\nblog.example.com {\n respond blog\n}\n"

    @asynccontextmanager
    async def _caddy(self, folder: Path, *, options: str = "", without: str = "-") -> AsyncIterator[CaddyRig]:
        require("caddy")
        async with AsyncExitStack() as stack:
            [offset] = stack.enter_context(port_offsets(1, ports=(443,)))
            server = CaddyOfTheDocumentation(
                folder=folder, port_offset=offset, options=options, sites=self.SITES, without=without
            )
            stack.push_async_callback(server.stop)
            await server.start()
            rig = CaddyRig(server, await started(server))
            stack.push_async_callback(rig.target.stop)
            yield rig

    async def test_as_documented_it_obtains_nothing_and_asks_for_every_name(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with self._caddy(tmp_path) as rig:
            shop, default = fresh("shop.example.com", 443), fresh_default(443)
            await served(rig, shop, default)
            await expect(rig, 443, {None: default, "blog.example.com": default, "unknown.example": default})
            rig.target.forget()
            await rig.target.current()
            await rig.server.stop()
            said = "".join(rig.server.process.last_lines)
        assert not OBTAINED.search(said), said
        assert not list((tmp_path / "data").rglob("*.lock"))
        assert "in place of certcast's" not in caplog.text

    async def test_without_the_option_it_does_and_the_agent_warns_of_it_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with self._caddy(tmp_path, without="auto_https off", options="auto_https disable_redirects") as rig:
            await rig.server.process.line_matching(re.compile("obtaining certificate"), timeout_s=10)
            for _ in range(2):
                rig.target.forget()
                await rig.target.current()
        [warning] = [record.message for record in caplog.records if "in place of certcast's" in record.message]
        assert "for shop.example.com, blog.example.com (server srv0)" in warning
        assert "`auto_https off`" in warning

    async def test_a_default_sni_changes_nothing_of_what_clients_without_a_name_are_shown(self, tmp_path: Path) -> None:
        async with self._caddy(tmp_path, options="default_sni shop.example.com") as rig:
            shop, default = fresh("shop.example.com", 443), fresh_default(443)
            await served(rig, shop, default)
            await expect(rig, 443, {None: default, "shop.example.com": shop})
