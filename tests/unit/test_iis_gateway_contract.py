"""The IIS in memory keeps the contract of the real gateway, or the scenarios would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.iis_stub.gateway_contract import CASES
from tests.iis_stub.memory import MemoryIis

if TYPE_CHECKING:
    from tests.iis_stub.gateway_contract import Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_in_memory(case: Case) -> None:
    iis = MemoryIis()
    case(iis, iis)
