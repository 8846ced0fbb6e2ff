from pathlib import Path

from tests.corpus.certificates import ROWS
from tests.corpus.trying import faults
from tests.rigs.programs import needs

pytestmark = needs("openssl")


def test_certificates_that_break_rules(tmp_path: Path) -> None:
    assert "\n".join(faults(ROWS, tmp_path)) == ""
