from pathlib import Path

from tests.corpus.guises import ROWS
from tests.corpus.trying import faults
from tests.rigs.programs import needs

pytestmark = needs("openssl")


def test_what_is_no_pfx_or_no_longer_one(tmp_path: Path) -> None:
    assert "\n".join(faults(ROWS, tmp_path)) == ""
