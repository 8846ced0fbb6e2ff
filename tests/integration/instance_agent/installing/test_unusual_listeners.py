"""Installing on real servers whose listeners let no usual handshake finish: PROXY protocol, client certificates."""

import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.listener_probe import ListenerProbe
from instance_agent.installing.probe import Probe, served_fingerprint
from instance_agent.installing.probe_settings import ProbeSettings, ProxyProtocol
from instance_agent.selection import make_target
from instance_agent.targets.base import BindingTarget, Remove
from local_azure.processes.listening import port_offsets
from local_azure.servers.base import WebServer
from local_azure.servers.caddy import CaddyServer
from local_azure.servers.haproxy import HAProxyServer
from shared.messages import InstallOutcome as Outcome
from tests.rigs.nginx import serving_nginx
from tests.rigs.targets import QUICK, bind, fresh, root

PORT = 443
HOST = "shop.example.com"
PATIENT = replace(QUICK, patience_s=20)

missing = [name for name in ("nginx", "haproxy", "caddy") if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@dataclass(kw_only=True)
class OtherHAProxy(HAProxyServer):
    """One whose `bind` lines have more options."""

    options: str

    def _files(self) -> Mapping[Path, bytes]:
        return {
            path: content.replace(b" alpn ", f" {self.options} alpn ".encode())
            for path, content in super()._files().items()
        }


@dataclass(kw_only=True)
class OtherCaddy(CaddyServer):
    """One that asks for client certificates and speaks no more than TLS 1.2, where a missing one ends the handshake."""

    def _files(self) -> Mapping[Path, bytes]:
        ((path, content),) = super()._files().items()
        configuration = json.loads(content)
        policy = {"client_authentication": {"mode": "require"}, "protocol_max": "tls1.2"}
        configuration["apps"]["http"]["servers"]["https"]["tls_connection_policies"] = [policy]
        return {path: json.dumps(configuration).encode()}


@asynccontextmanager
async def beside(kind: str, made: Callable[..., WebServer]) -> AsyncIterator[BindingTarget]:
    """A target started beside a server of the test's own."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="odd-"))
        [offset] = stack.enter_context(port_offsets(1, ports=(PORT,)))
        server = made(folder=Path(folder), port_offset=offset)
        await server.start()
        try:
            target = make_target(kind, server.agent_environment)
            await target.start()
            yield target
            await target.stop()
        finally:
            await server.close()


@asynccontextmanager
async def nginx(*, dynamic: bool, extra_http: str = "", **settings: str) -> AsyncIterator[BindingTarget]:
    async with serving_nginx(dynamic=dynamic, extra_http=extra_http, **settings) as rig:
        yield rig.target


def authorities(folder: Path) -> Path:
    path = folder / "clients.pem"
    path.write_bytes(root().root_pem)
    path.chmod(0o644)
    folder.chmod(0o755)
    return path


def asking_for_a_certificate(server: str, version: str, folder: Path) -> AbstractAsyncContextManager[BindingTarget]:
    """A server whose clients must have certificates of their own."""
    path = authorities(folder)
    if server == "caddy":
        return beside("caddy", OtherCaddy)
    if server == "haproxy":
        options = f"verify required ca-file {path} ssl-min-ver TLSv{version} ssl-max-ver TLSv{version}"
        return beside("haproxy", partial(OtherHAProxy, options=options))
    lines = f"ssl_verify_client on; ssl_client_certificate {path}; ssl_protocols TLSv{version};\n"
    return nginx(dynamic=True, extra_http=lines)


def behind_a_balancer(server: str) -> AbstractAsyncContextManager[BindingTarget]:
    """A server that expects the PROXY protocol."""
    if server == "haproxy":
        return beside("haproxy", partial(OtherHAProxy, options="accept-proxy"))
    return nginx(dynamic=server == "dynamic nginx", CERTCAST_NGINX_LISTEN_OPTIONS="proxy_protocol")


def probe_set_to(way: ProxyProtocol) -> ListenerProbe:
    return ListenerProbe(ProbeSettings(proxy_protocol=way))


async def goes_well(target: BindingTarget, probe: Probe) -> None:
    """A first certificate, a renewal, and what becomes of the host when it is removed."""
    for _ in range(2):
        change = fresh(HOST, PORT)
        (result,) = await install(target, [change], probe, pace=PATIENT)
        assert (result.outcome, result.reason) == (Outcome.LIVE, "")
        assert result.seen_fingerprint_sha256 == change.bundle.fingerprint_sha256
    (result,) = await install(target, [Remove(host=HOST, port=PORT)], probe, pace=PATIENT)
    assert (result.outcome, result.reason) == (Outcome.REMOVED, "")


@pytest.mark.parametrize(
    ("server", "version"),
    [("nginx", "1.2"), ("nginx", "1.3"), ("haproxy", "1.2"), ("haproxy", "1.3"), ("caddy", "1.2")],
)
async def test_a_server_that_asks_for_client_certificates_is_judged_by_what_it_shows(
    server: str, version: str, tmp_path: Path
) -> None:
    async with asking_for_a_certificate(server, version, tmp_path) as target:
        await goes_well(target, served_fingerprint)


@pytest.mark.parametrize("server", ["nginx", "dynamic nginx", "haproxy"])
async def test_a_listener_that_expects_the_proxy_protocol_is_found_out_to(server: str) -> None:
    async with behind_a_balancer(server) as target:
        await goes_well(target, probe_set_to(ProxyProtocol.AUTO))
        for way in (ProxyProtocol.V1, ProxyProtocol.V2):
            await goes_well(target, probe_set_to(way))


@pytest.mark.parametrize("options", ["strict-sni", "strict-sni accept-proxy"])
async def test_a_server_that_refuses_unknown_names_serves_what_is_bound_and_nothing_after_a_removal(
    options: str,
) -> None:
    async with beside("haproxy", partial(OtherHAProxy, options=options)) as target:
        await goes_well(target, probe_set_to(ProxyProtocol.AUTO))


@pytest.mark.parametrize("server", ["dynamic nginx", "haproxy"])
async def test_what_is_not_seen_stays_bound_and_is_to_be_tried_again(server: str) -> None:
    async with behind_a_balancer(server) as target:
        change = fresh(HOST, PORT)
        (result,) = await install(target, [change], probe_set_to(ProxyProtocol.OFF), pace=QUICK)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        assert "is bound, but no certificate was seen" in result.reason
        assert "CERTCAST_PROBE_PROXY_PROTOCOL is off" in result.reason
        (binding,) = await target.current()
        assert change.is_done_by(binding)
        (result,) = await install(target, [change], probe_set_to(ProxyProtocol.AUTO), pace=PATIENT)
        assert result.outcome is Outcome.LIVE


async def test_a_wildcard_with_another_kind_of_key_never_takes_an_exact_host_over_in_silence() -> None:
    """HAProxy prefers an ECDSA certificate to an RSA one, be it a wildcard's: either it is told not to, or told on."""
    async with beside("haproxy", HAProxyServer) as target:
        exact = bind(root().issue(HOST, key="rsa"), HOST, PORT)
        (result,) = await install(target, [exact], served_fingerprint, pace=PATIENT)
        assert result.outcome is Outcome.LIVE
        wide = bind(root().issue("*.example.com"), "*.example.com", PORT)
        (result,) = await install(target, [wide], served_fingerprint, pace=PATIENT)
        assert result.outcome in {Outcome.LIVE, Outcome.PROBE_MISMATCH}
        if result.outcome is Outcome.PROBE_MISMATCH:
            assert f"{HOST}:{PORT} now gets its certificate too" in result.reason
        address = target.endpoint(PORT)
        assert address is not None
        assert await served_fingerprint(address, HOST, timeout_s=5) == exact.bundle.fingerprint_sha256
