"""docs/iis.md names only tests, settings and files that there are."""

import re

import pytest

from tests.rigs.deployment import ROOT

TEXT = (ROOT / "docs" / "iis.md").read_text("utf-8")


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)+)`", TEXT))))
def test_a_test_that_is_named_exists(reference: str) -> None:
    path, *names = reference.split("::")
    source = (ROOT / path).read_text("utf-8")
    for name in names:
        assert re.search(rf"^\s*(async def|def|class) {name}\b", source, re.MULTILINE), name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:infra|bench|tests)/[\w/.-]+)`", TEXT))))
def test_a_file_that_is_named_exists(path: str) -> None:
    assert list(ROOT.glob(path.rstrip("/")))


def test_every_setting_that_is_read_is_told() -> None:
    source = (ROOT / "instance_agent" / "windows" / "settings.py").read_text("utf-8")
    read = set(re.findall(r'"(CERTCAST_IIS_\w+)"', source))
    assert read
    assert read == set(re.findall(r"^\| `(CERTCAST_IIS_\w+)`", TEXT, re.MULTILINE))
