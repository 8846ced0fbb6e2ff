"""The fake target keeps the contract of all targets, or the installer's tests would prove nothing."""

import pytest

from tests.contracts.targets import BindingContract, RestartContract
from tests.fakes.target import FALLBACK, FakeServer, FakeTarget


class FakeRig:
    ports = (443, 8443)
    fallback = FALLBACK

    def __init__(self, *, names_culprits: bool) -> None:
        self.server = FakeServer(stale_looks=1)
        self.probe = self.server.probe
        self.target = FakeTarget(self.server, names_culprits=names_culprits)

    async def restart_agent(self) -> None:
        self.target = FakeTarget(self.server, names_culprits=self.target.names_culprits)


class TestFakeTarget(BindingContract, RestartContract):
    @pytest.fixture(params=[True, False], ids=["names the culprit", "does not name it"])
    def rig(self, request: pytest.FixtureRequest) -> FakeRig:
        return FakeRig(names_culprits=request.param)
