"""The repository itself: nothing of one machine, no secret, modules of a readable size."""

import ast
import re
from pathlib import Path

import pytest

from tests.rigs.deployment import ROOT, repository_files

LONGEST_MODULE = 350
LONGEST_TEST_MODULE = 800  # a suite of sentences is read one at a time
HERE = Path(__file__).relative_to(ROOT)
FILES = repository_files()
MODULES = [path for path in FILES if path.suffix == ".py"]


def text_of(path: Path) -> str:
    try:
        return (ROOT / path).read_text("utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a path of one machine", r"(?<![\w.:$}])/(root|work|tmp|Users/\w+|home/(?!site/|user/|\w*admin)\w+)/"),
        ("a package registry's host", r"\b(registry\.npmjs|files\.pythonhosted|pypi\.python|test\.pypi)\.org"),
        ("an index of packages", r"--(extra-)?index-url\b|--registry\b|\bPIP_INDEX_URL\b|\bnpm_config_registry\b"),
        ("a private key", r"BEGIN [A-Z ]*PRIVATE KEY-----(\\n|\s)+[A-Za-z0-9+/]{40}"),
        ("work left to do", r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
    ],
)
def test_no_file_contains(what: str, pattern: str) -> None:
    found = [
        f"{path}:{text_of(path).count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path in FILES
        if path not in {HERE, Path("tests/unit/project/test_locks.py")}
        for match in re.finditer(pattern, text_of(path))
    ]
    assert not found, what


def test_no_file_is_a_secret_or_a_certificate() -> None:
    secret = re.compile(r".*\.(pfx|p12|key|pem|jks)|\.env(\..*)?|local\.settings\.json|id_(rsa|ecdsa|ed25519)")
    assert not [path for path in FILES if secret.fullmatch(path.name)]


@pytest.mark.parametrize("module", [path for path in MODULES if not path.name.startswith("test_")], ids=str)
def test_a_module_says_in_one_line_what_lives_in_it(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(text_of(module)))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith((".", "?"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_is_short_enough_to_be_read_at_once(module: Path) -> None:
    longest = LONGEST_TEST_MODULE if module.parts[0] == "tests" else LONGEST_MODULE
    assert len(text_of(module).splitlines()) <= longest
