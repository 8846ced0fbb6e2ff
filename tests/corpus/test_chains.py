from pathlib import Path

from tests.corpus.chains import ROWS
from tests.corpus.trying import faults
from tests.rigs.programs import needs

pytestmark = needs("openssl")


def test_dates_purposes_names_and_chains(tmp_path: Path) -> None:
    assert "\n".join(faults(ROWS, tmp_path)) == ""
