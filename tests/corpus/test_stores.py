from pathlib import Path

from tests.corpus.stores import ROWS
from tests.corpus.trying import faults
from tests.rigs.programs import needs

pytestmark = needs("openssl", "keytool")


def test_stores_of_other_programs(tmp_path: Path) -> None:
    assert "\n".join(faults(ROWS, tmp_path)) == ""
