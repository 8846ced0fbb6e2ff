"""The fuzzing itself: it finds faults that were planted, keeps to its ceilings, and both its targets run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import ROOT, TARGETS, main
from tests.fuzz.trial import Notes, Trial

pytest.importorskip("atheris", reason="atheris is for CPython on Linux x86_64")


def fuzz(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_planted_fault_is_found_kept_and_repeated() -> None:
    code, said = fuzz("--only", "planted", "--minutes", "1")
    named = re.search(r"--repeat (\S+)`", said)
    assert named is not None, said
    finding = ROOT / named[1]
    try:
        assert code == 1
        assert "LookupError: the planted fault" in said
        assert finding.read_bytes().startswith(b"FUZZ")
        code, said = fuzz("--repeat", named[1])
        assert (code, "still a fault, it raised" in said) == (1, True), said
    finally:
        finding.unlink()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("endless", r"_endless(.|\n)*more than 5 seconds of processor time"),
        ("greedy", r"MemoryError(.|\n)*it raised"),
        ("abort", "it ended the process by SIGABRT"),
        ("segfault", "it ended the process by SIGSEGV"),
        ("panic", r"BaseException: no Exception(.|\n)*it raised"),
    ],
)
def test_whatever_an_input_does_it_is_a_finding(name: str, said: str, tmp_path: Path) -> None:
    finding = tmp_path / f"planted-{name}"
    finding.write_text(name)
    code, output = fuzz("--repeat", str(finding))
    assert code == 1
    assert re.search(said, output), output


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_tries_inputs(target: str) -> None:
    code, said = fuzz("--only", target, "--minutes", "0.1")
    assert code == 0, said
    tried = re.search(rf"^{target}: (\d+) inputs, no fault$", said, re.MULTILINE)
    assert tried is not None, said
    assert int(tried[1]) > 100


def test_an_input_that_does_no_harm_any_more_passes(tmp_path: Path) -> None:
    finding = tmp_path / "planted-mended"
    finding.write_bytes(b"harmless")
    assert fuzz("--repeat", str(finding)) == (0, "planted: no fault any more\n")


def test_what_is_no_finding_cannot_be_repeated(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    for file in (other, tmp_path / "judging-gone"):
        code, said = fuzz("--repeat", str(file))
        assert code == 2
        assert "is no finding" in said


def test_without_atheris_it_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main([]) == 2
    assert re.search(r"needs atheris, .* and this is CPython 3\.\d+", capsys.readouterr().err)


def test_what_was_tried_last_outlives_the_process(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    assert Trial.read(notes) == Trial(count=0, data=b"")
    writing = Notes(notes)
    writing.put(b"a long first one")
    writing.put(b"short")
    assert Trial.read(notes) == Trial(count=2, data=b"short")
