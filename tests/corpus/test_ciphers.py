from pathlib import Path

from tests.corpus.ciphers import ROWS
from tests.corpus.trying import faults
from tests.rigs.programs import needs

pytestmark = needs("openssl")


def test_ciphers_macs_and_counts(tmp_path: Path) -> None:
    assert "\n".join(faults(ROWS, tmp_path)) == ""
