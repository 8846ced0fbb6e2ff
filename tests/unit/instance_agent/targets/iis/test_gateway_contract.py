"""The IIS in memory keeps the contract of the real gateway, or the scenarios would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.iis_gateway import CASES
from tests.fakes.iis.memory import MemoryIis

if TYPE_CHECKING:
    from tests.contracts.iis_gateway import Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_in_memory(case: Case) -> None:
    iis = MemoryIis()
    case(iis, iis)
