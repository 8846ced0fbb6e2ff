"""The IIS in memory keeps the contract of the real gateway, or the scenarios would prove nothing."""

import pytest

from tests.contracts.iis_gateway import CASES, Case, run_case
from tests.fakes.iis.memory import MemoryIis


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_in_memory(case: Case) -> None:
    iis = MemoryIis()
    run_case(case, iis, iis)
