"""The machine and the target that most tests begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.iis.rig import Machine

if TYPE_CHECKING:
    from instance_agent.targets.iis.target import IisTarget


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def target(machine: Machine) -> IisTarget:
    """Over that machine, not started."""
    return machine.target()
