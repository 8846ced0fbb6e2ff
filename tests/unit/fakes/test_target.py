"""The fake target keeps the contract of all targets, or the installer's tests would prove nothing."""

import pytest

from shared.bundle import CertificateBundle
from tests.contracts.targets import BindingContract, DefaultContract, HandmadeChangeContract, RestartContract
from tests.fakes.target import FALLBACK, FakeServer, FakeTarget
from tests.rigs.targets import change_to


class FakeRig:
    ports = (443, 8443)
    fallback = FALLBACK

    def __init__(self, *, names_culprits: bool) -> None:
        self.server = FakeServer(stale_looks=1)
        self.probe = self.server.probe
        self.target = FakeTarget(self.server, names_culprits=names_culprits)

    async def restart_agent(self) -> None:
        self.target = FakeTarget(self.server, names_culprits=self.target.names_culprits)

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        self.server.replace({**self.server.bound, (host, port): change_to(bundle, host, port).bound})

    async def untie(self, host: str, port: int) -> None:
        self.server.replace({key: each for key, each in self.server.bound.items() if key != (host, port)})


class TestFakeTarget(BindingContract, RestartContract, DefaultContract, HandmadeChangeContract):
    @pytest.fixture(params=[True, False], ids=["names the culprit", "does not name it"])
    def rig(self, request: pytest.FixtureRequest) -> FakeRig:
        return FakeRig(names_culprits=request.param)
