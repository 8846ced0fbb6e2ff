"""Proves on a real IIS that certificates can be installed, renewed and removed, and leaves it as it was."""

from __future__ import annotations

import asyncio
import platform
import secrets
import socket
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.installing.installer import install
from instance_agent.installing.listener_probe import ListenerProbe
from instance_agent.installing.probe import served_fingerprint
from instance_agent.installing.probe_settings import ProbeSettings
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import Install, Remove
from instance_agent.targets.iis.bindings import EVERYTHING
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.preflight import judge
from instance_agent.targets.iis.target import IisTarget
from instance_agent.targets.parts.fallback import self_signed
from instance_agent.windows import machine
from instance_agent.windows.making import gateways, http_api
from instance_agent.windows.settings import IisSettings
from shared.bundle import bundle_id
from shared.errors import CertcastError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from instance_agent.installing.probe import Probe
    from instance_agent.installing.result import Result
    from instance_agent.targets.base import BindingChange, InstalledBinding
    from instance_agent.targets.iis.gateway import IisGateway
    from instance_agent.targets.iis.records import HttpSys
    from instance_agent.targets.iis.stores import CertificateStores

_HOSTS = ("one.certcast-selftest.invalid", "two.certcast-selftest.invalid")  # RFC 2606: no one's
_FRESHNESS_S = 7
_DAY = timedelta(days=1)
_USUAL_PACE = Pace()


def main(env: Mapping[str, str], *, preflight_only: bool, say: Callable[[str], None]) -> int:
    """Run the preflight and, unless it is to be all, the whole test; print a transcript.

    Args:
        env: The agent's settings.
        preflight_only: Whether to look only, and change nothing.
        say: Takes each line of the transcript.

    Returns:
        0 if all is well, else 1.
    """
    findings = judge(machine.look_around())
    say(f"certcast selftest, {platform.platform()}, Python {platform.python_version()}")
    for finding in findings:
        say(f"{'ok  ' if finding.sound else 'FAIL'} {finding.line}")
    if not all(finding.sound for finding in findings):
        return 1
    if preflight_only:
        return 0
    settings = IisSettings.from_env(env)
    test = SelfTest(
        *gateways(settings),
        http_sys=http_api(),
        store=settings.store,
        probe_address=settings.probe_address or machine.own_address(),
        say=say,
        probe=ListenerProbe(ProbeSettings.from_env(env)),
    )
    return 0 if asyncio.run(test.run()) else 1


class SelfTest:
    """One run on one IIS.

    Args:
        gateway: IIS.
        stores: The machine's certificate stores.
        http_sys: The records of http.sys.
        store: The store for new certificates.
        probe_address: Where to shake hands.
        say: Takes each line of the transcript.
        probe: How to shake hands.
        port: The port of the temporary site; a free high port by default.
        pace: How patiently to look.
    """

    def __init__(
        self,
        gateway: IisGateway,
        stores: CertificateStores,
        *,
        http_sys: HttpSys,
        store: str,
        probe_address: str,
        say: Callable[[str], None],
        probe: Probe = served_fingerprint,
        port: int | None = None,
        pace: Pace = _USUAL_PACE,
    ) -> None:
        self._gateway = gateway
        self._stores = stores
        self._http_sys = http_sys
        self._say = say
        self._probe = probe
        self._port = port or _free_port()
        self._pace = pace
        self._site = f"certcast-selftest-{secrets.token_hex(4)}"
        self._target = IisTarget(
            gateway, stores, http_sys=http_sys, store=store, probe_address=probe_address, pause=time.sleep
        )
        self._sound = True
        self._made: list[InstalledBinding] = []

    async def run(self) -> bool:
        """Every step, then the clearing away in any case; whether all went well."""
        started = time.monotonic()
        try:
            await self._target.start()
            before = await asyncio.to_thread(self._inventory)
            with tempfile.TemporaryDirectory(prefix="certcast-selftest-") as folder:
                try:
                    await asyncio.to_thread(self._add_site, folder)
                    await self._steps()
                finally:
                    await self._clear_away()
            self._note(await asyncio.to_thread(self._inventory) == before, "sites, bindings and stores are as before")
        except CertcastError as error:
            self._note(False, str(error))
        verdict = "passed" if self._sound else "FAILED: please attach this transcript to a bug report"
        self._say(f"{await self._target.version()}: {verdict}, {time.monotonic() - started:.1f} s")
        return self._sound

    async def _steps(self) -> None:
        one, two = (self._install(host) for host in _HOSTS)
        default = self._install(DEFAULT_HOST)
        what = "certificates installed for two names and for clients without SNI"
        await self._do(what, [one, two, default], Outcome.LIVE)
        if not self._sound:
            for record in await asyncio.to_thread(self._http_sys.records):
                self._say(f"     http.sys: {record.endpoint} {record.thumbprint} {record.application}")
            return
        await asyncio.to_thread(self._set_freshness)
        renewed = self._install(_HOSTS[0])
        await self._do("one of them renewed", [renewed, two, default], Outcome.LIVE)
        kept = await asyncio.to_thread(self._freshness)
        self._note(kept == [_FRESHNESS_S], f"a setting that only http.sys holds is kept, {kept}")
        listing = await asyncio.to_thread(self._stores.listing)
        gone = one.bundle.thumbprint_sha1 not in {certificate.thumbprint for certificate in listing}
        self._note(gone, "the renewed certificate's predecessor is deleted")
        removals = [Remove(host=change.host, port=self._port) for change in (one, two, default)]
        await self._do("all removed", removals, Outcome.REMOVED)

    def _set_freshness(self) -> None:
        """Change what only http.sys holds, as an administrator does with netsh."""
        for record in self._http_sys.records([f"{_HOSTS[0]}:{self._port}"]):
            self._http_sys.put(replace(record, settings=replace(record.settings, freshness_s=_FRESHNESS_S)))

    def _freshness(self) -> list[int]:
        return [record.settings.freshness_s for record in self._http_sys.records([f"{_HOSTS[0]}:{self._port}"])]

    async def _do(self, what: str, changes: Sequence[BindingChange], expected: Outcome) -> None:
        started = time.monotonic()
        results = await install(self._target, changes, self._probe, pace=self._pace)
        sound = all(result.outcome is expected for result in results)
        self._note(sound, f"{what}, {(time.monotonic() - started) * 1000:.0f} ms")
        for result in results:
            self._say(f"     {_told(result)}")

    def _note(self, sound: bool, line: str) -> None:  # noqa: FBT001 - private, and reads as a sentence
        self._sound = self._sound and sound
        self._say(f"{'ok  ' if sound else 'FAIL'} {line}")

    def _install(self, host: str) -> Install:
        bundle = self_signed(_HOSTS[0] if host == DEFAULT_HOST else host, datetime.now(UTC), _DAY)
        change = Install(
            host=host,
            port=self._port,
            bundle_id=bundle_id(bundle, secrets.token_bytes(16)),
            bundle=bundle,
            site=self._site,
            generation=1,
        )
        self._made.append(change.bound)
        return change

    def _inventory(self) -> tuple[object, ...]:
        """What the test must not change."""
        with self._gateway.session() as session:
            sites = tuple((site.name, site.bindings) for site in session.sites(EVERYTHING))
        return (sites, frozenset((it.store, it.thumbprint, it.friendly_name) for it in self._stores.listing()))

    def _add_site(self, folder: str) -> None:
        try:
            with self._gateway.exclusive(), self._gateway.session() as session:
                session.add_site(self._site, f"127.0.0.1:{_free_port()}:certcast-selftest.invalid", str(Path(folder)))
                session.commit()
        except GatewayError as error:
            self._note(False, f"temporary site {self._site}: {error}")
            raise
        self._note(True, f"temporary site {self._site} on port {self._port}")

    async def _clear_away(self) -> None:
        made = {change.key for change in self._made}
        left = [binding for binding in await self._target.current(made) if binding.key in made]
        await self._target.apply([Remove(host=binding.host, port=binding.port) for binding in left])
        await self._target.retire([*left, *self._made])
        await asyncio.to_thread(self._remove_site)

    def _remove_site(self) -> None:
        with self._gateway.exclusive(), self._gateway.session() as session:
            if any(site.name == self._site for site in session.sites(EVERYTHING)):
                session.remove_site(self._site)
                session.commit()


def _told(result: Result) -> str:
    seen = f", saw {result.seen_fingerprint_sha256[:16]}" if result.seen_fingerprint_sha256 else ""
    stages = "".join(f", {stage} {took_ms:.0f} ms" for stage, took_ms in result.stages_ms.items())
    reason = f": {result.reason}" if result.reason else ""
    return f"{result.change.host}:{result.change.port} {result.outcome}{seen}{stages}{reason}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
