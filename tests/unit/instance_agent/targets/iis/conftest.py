"""The machine and the target that most tests begin with."""

import pytest

from instance_agent.targets.iis.target import IisTarget
from tests.fakes.iis.rig import Machine


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def target(machine: Machine) -> IisTarget:
    """Over that machine, not started."""
    return machine.target()
