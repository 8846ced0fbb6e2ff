from pathlib import Path

from tests.corpus.bags import ROWS
from tests.corpus.trying import faults
from tests.rigs.programs import needs

pytestmark = needs("openssl")


def test_bags_orders_and_keys(tmp_path: Path) -> None:
    assert "\n".join(faults(ROWS, tmp_path)) == ""
