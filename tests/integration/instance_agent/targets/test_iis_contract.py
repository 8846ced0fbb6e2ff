"""The IIS targets keep the contract of all targets, over an IIS in memory whose http.sys speaks real TLS."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import served_fingerprint
from instance_agent.targets.base import HostPort
from instance_agent.targets.iis.ccs.notes import file_names
from instance_agent.targets.iis.ccs.target import IisCcsTarget
from instance_agent.targets.iis.pfx import pfx_for_windows
from instance_agent.targets.iis.planner import information_of
from instance_agent.targets.iis.target import IisTarget
from shared.bundle import CertificateBundle
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import (
    DefaultContract,
    DefaultRestartContract,
    HandmadeChangeContract,
    OpenConnectionsContract,
    RestartContract,
    TlsContract,
)
from tests.fakes.iis.central import PASSWORD, read_central
from tests.fakes.iis.http_sys import free_ports
from tests.fakes.iis.rig import WEB, Machine
from tests.rigs.targets import Rig, fresh


class IisRig:
    probe = staticmethod(served_fingerprint)
    fallback = None

    def __init__(self, machine: Machine, ports: tuple[int, int]) -> None:
        self.machine = machine
        self.ports = ports
        self.target: IisTarget = machine.target()

    async def restart_agent(self) -> None:
        await self.target.stop()
        self.target = self.machine.target()
        await self.target.start()

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        """Another certificate chosen for the binding in IIS Manager."""
        self.machine.stores.put_bundle(bundle)
        self.machine.iis.http_sys[f"{host}:{port}"] = (bundle.thumbprint_sha1, "My")

    async def untie(self, host: str, port: int) -> None:
        """The binding removed in IIS Manager."""
        self.machine.iis.take_away(WEB, information_of(HostPort(host=host, port=port)))


class TestIisTarget(
    TlsContract,
    OpenConnectionsContract,
    RestartContract,
    HandmadeChangeContract,
    DefaultContract,
    DefaultRestartContract,
):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[IisRig]:
        first, second = free_ports(2)
        rig = IisRig(Machine(), (first, second))
        async with rig.machine.http_sys.listening(("127.0.0.1", first), ("127.0.0.1", second)):
            await rig.target.start()
            yield rig
            await rig.target.stop()
            assert rig.machine.iis.open_sessions == 0


class CentralRig:
    probe = staticmethod(served_fingerprint)
    fallback = None

    def __init__(self, machine: Machine, folder: Path, ports: tuple[int, int]) -> None:
        self.machine = machine
        self.folder = folder
        self.ports = ports
        self.target = self._target()

    def _target(self) -> IisCcsTarget:
        return IisCcsTarget(
            self.folder,
            lambda: PASSWORD,
            gateway=self.machine.iis,
            stores=self.machine.stores,
            http_sys=self.machine.http_sys,
            port=self.ports[0],
            probe_address="127.0.0.1",
            pause=self.machine.pauses.append,
        )

    async def restart_agent(self) -> None:
        await self.target.stop()
        self.target = self._target()
        await self.target.start()

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        """Another file copied over those in the folder."""
        assert port == self.ports[0]
        for name in file_names(host):
            (self.folder / name).write_bytes(pfx_for_windows(bundle, PASSWORD, chain=True))

    async def untie(self, host: str, port: int) -> None:
        """The files deleted from the folder."""
        assert port == self.ports[0]
        for name in file_names(host):
            (self.folder / name).unlink()


class TestIisCcsTarget(TlsContract, OpenConnectionsContract, RestartContract, HandmadeChangeContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[CentralRig]:
        first, second = free_ports(2)
        machine = Machine()
        machine.http_sys.central = lambda name: read_central(tmp_path, name)
        rig = CentralRig(machine, tmp_path, (first, second))
        async with machine.http_sys.listening(("127.0.0.1", first), ("127.0.0.1", second)):
            await rig.target.start()
            yield rig
            await rig.target.stop()
            assert machine.iis.open_sessions == 0
            assert machine.iis.commits <= 1

    async def test_the_same_host_on_two_ports_has_a_certificate_for_each(self, rig: Rig) -> None:
        """The store finds a certificate by its host alone, so a second port is refused."""
        first, second = (fresh("shop.example.com", port) for port in rig.ports)
        results = await install(rig.target, [first, second], rig.probe)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.REFUSED]
        assert "PortNumber" in results[1].reason
