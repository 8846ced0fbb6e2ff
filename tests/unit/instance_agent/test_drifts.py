"""What is told of changes that something else made."""

import pytest

from instance_agent.proof.drifts import OFTEN, Change, Drifts
from shared.binding import BindingState, DesiredBinding
from shared.hostnames import DEFAULT_HOST
from shared.messages import BindingReport, InstallOutcome
from tests.fakes.storage import START, FakeClock


@pytest.mark.parametrize(
    ("host", "called"), [("a.example.com", "a.example.com:443"), (DEFAULT_HOST, "the default of port 443")]
)
def test_a_binding_that_is_changed_often_is_called_as_people_know_it(host: str, called: str) -> None:
    clock = FakeClock()
    drifts = Drifts(clock)
    for generation in range(1, OFTEN + 1):
        report = BindingReport(
            role="*",
            host=host,
            port=443,
            generation=generation,
            source="a.pfx",
            outcome=InstallOutcome.LIVE,
            finished_at=clock(),
        )
        drifts.find(report, Change.REPLACED)
    row = DesiredBinding(role="*", host=host, port=443, state=BindingState.PRESENT, generation=OFTEN, changed_at=START)
    assert drifts.waiting(row).endswith(f"look for another program that writes what the server has for {called}")
