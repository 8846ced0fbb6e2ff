"""The pictures of the dashboard in docs/pictures/."""

import struct

from tests.pictures import FOLDER, MOST_BYTES, PICTURES
from tests.rigs.deployment import ROOT

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_there_is_each_picture_small_and_as_large_as_it_is_taken() -> None:
    assert {path.stem for path in (ROOT / FOLDER).iterdir()} == set(PICTURES)
    for name, (_, size, _) in PICTURES.items():
        content = (ROOT / FOLDER / f"{name}.png").read_bytes()
        assert content.startswith(_SIGNATURE), name
        assert struct.unpack(">II", content[16:24]) == size, name
        assert len(content) < MOST_BYTES, name
