"""The files of a release: from one commit the same bytes, each with what it should have; and what is said of them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devtools import locks
from devtools.cures import SetupError
from devtools.environment import Environment
from devtools.packages import building, cyclonedx_documents, releasing
from shared import VERSION
from tests.rigs.deployment import ROOT, deployed_files, repository_files
from tests.rigs.pages import blocks, section
from tests.rigs.programs import needs
from tests.unit.project.test_locks import pins

pytestmark = needs("git", "sha256sum", "dpkg-deb")

RELEASING = Path("docs/releasing.md")
PARTS = ("shared", "instance_agent", "operator_cli", "local_azure", "infra", "devtools")
COMMITTED_AT = datetime(2030, 1, 31, 12, 34, 56, tzinfo=UTC)
GIT = {
    **dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"), os.devnull),  # nothing is signed, no hook runs
    **{f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{f"GIT_{who}_DATE": COMMITTED_AT.isoformat() for who in ("AUTHOR", "COMMITTER")},
}


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, env={**os.environ, **GIT}, check=True, capture_output=True)


def lend_environment(folder: Path) -> Environment:
    """Let a checkout use this one's environment, unseen by git."""
    (folder / ".venv").symlink_to(ROOT / ".venv")
    with (folder / ".git" / "info" / "exclude").open("a", encoding="utf-8") as exclude:
        exclude.write(".venv\n")
    return Environment(root=folder)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A repository of one commit: what a release is made of, as it stands in the working copy."""
    root = tmp_path_factory.mktemp("released")
    for path in repository_files():
        if len(path.parts) == 1 or path.parts[0] in PARTS:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, root / path)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "all")
    return lend_environment(root)


@pytest.fixture(scope="module")
def made(here: Environment) -> list[Path]:
    """The files of its release."""
    return releasing.build(here, here.root / "dist")


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package indexes have nothing new."""
    monkeypatch.setattr(locks, "resolve", lambda here: {file: (here.root / file).read_bytes() for file in LOCKED})


OF_DEBIAN = re.escape(VERSION).replace(r"\.dev", r"(?:\.|~)dev")
"""The version as a file's name has it: Debian writes what comes before a release with a tilde."""
LOCKED = ("requirements.txt", "infra/agent/requirements.lock")


def test_another_clone_at_another_time_builds_the_same_bytes(
    here: Environment, made: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "--quiet", str(here.root), "clone")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    before = os.umask(0o077)
    try:
        again = releasing.build(lend_environment(tmp_path / "clone"), tmp_path / "dist")
    finally:
        os.umask(before)
    assert [path.name for path in again] == [path.name for path in made]
    assert [path.name for path in again if path.read_bytes() != (here.root / "dist" / path.name).read_bytes()] == []


def test_every_file_is_named_after_the_version_or_on_the_page_and_has_its_hash_told(made: Sequence[Path]) -> None:
    *files, sums = made
    unnumbered = {path.name for path in files if not re.match(rf"certcast[\w-]*[-_]{OF_DEBIAN}", path.name)}
    assert unnumbered == {"install.sh", "requirements-agent.txt"}
    shown = re.findall(r"`([\w.+-]+)`", section(RELEASING, "## What is in a release"))
    kinds = {re.sub(r"[-_]1\.2\.3", "", name) for name in shown}
    assert {re.sub(rf"[-_]{OF_DEBIAN}", "", path.name) for path in made} <= kinds
    hashes = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(files)]
    assert sums.read_text("utf-8").splitlines() == hashes
    assert set(sums.parent.iterdir()) == set(made)


def test_a_download_is_checked_as_the_page_says(made: Sequence[Path], tmp_path: Path) -> None:
    command, *_ = blocks(section(RELEASING, "## Checking what you downloaded"), "sh")
    zipped = next(path for path in made if path.suffix == ".zip")
    for path in (zipped, made[-1]):
        shutil.copy(path, tmp_path)
    downloaded = tmp_path / zipped.name
    run = partial(subprocess.run, ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run().returncode, run().stdout) == (0, f"{zipped.name}: OK\n")
    downloaded.write_bytes(downloaded.read_bytes()[:-1])
    assert run().returncode == 1


def test_the_functions_app_is_what_is_deployed(made: Sequence[Path]) -> None:
    with zipfile.ZipFile(next(path for path in made if path.suffix == ".zip")) as archive:
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == sorted(path.as_posix() for path in deployed_files())
        assert archive.read("function_app.py") == (ROOT / "function_app.py").read_bytes()
    assert {entry.date_time for entry in entries} == {COMMITTED_AT.timetuple()[:6]}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_the_wheel_has_the_command_and_the_agent(made: Sequence[Path]) -> None:
    with zipfile.ZipFile(next(path for path in made if path.suffix == ".whl")) as wheel:
        names = set(wheel.namelist())
    assert {"instance_agent/__main__.py", "operator_cli/__main__.py", "shared/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "devtools/", "function_app"))]


@pytest.mark.parametrize(
    ("name", "lock"),
    [("certcast-function", "requirements.txt"), ("certcast-agent", "infra/agent/requirements.lock")],
)
def test_a_bill_of_materials_has_what_its_lock_file_has(made: Sequence[Path], name: str, lock: str) -> None:
    bill: dict[str, Any] = json.loads((made[0].parent / f"{name}-{VERSION}.cdx.json").read_text("utf-8"))
    about = bill["metadata"]["component"]
    assert (about["name"], about["version"], bill["metadata"]["timestamp"]) == (name, VERSION, COMMITTED_AT.isoformat())
    listed = {component["purl"] for component in bill["components"]}
    assert listed == {f"pkg:pypi/{pin.name}@{str(pin.requirement.specifier).removeprefix('==')}" for pin in pins(lock)}
    needs = {each["ref"]: set(each.get("dependsOn", ())) for each in bill["dependencies"]}
    reached, waiting = set[str](), [name]
    while waiting:
        found = needs[waiting.pop()] - reached
        reached |= found
        waiting += found
    assert reached == listed
    assert any(purl.startswith("pkg:pypi/cffi@") for purl in needs[f"pkg:pypi/cryptography@{of('cryptography', lock)}"])


def of(package: str, lock: str) -> str:
    return next(str(pin.requirement.specifier).removeprefix("==") for pin in pins(lock) if pin.name == package)


def test_a_bill_that_breaks_the_schema_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = '{"bomFormat": "CycloneDX", "specVersion": "1.6", "colour": "blue"}'
    monkeypatch.setattr(cyclonedx_documents, "document_of", lambda *_: wrong)
    assert cyclonedx_documents.main([str(tmp_path), "1.0.0", "0"]) == 1
    assert re.search(r"of certcast-function breaks the schema of CycloneDX 1\.6: .*colour", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def built(made: Sequence[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not built for each test."""
    monkeypatch.setattr(releasing, "build", lambda here, into: list(made))  # noqa: ARG005


@pytest.mark.usefixtures("built", "current")
class TestWhatIsSaid:
    def test_of_a_commit_that_can_be_released_is_what_to_do_next(
        self, here: Environment, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert releasing.release(here, tag="", lint=list) == 0
        said = capsys.readouterr().out
        release = VERSION.removesuffix(".dev0")
        assert f'git tag --sign v{release} -m "certcast {release}"' in said
        assert f"git push origin v{release}" in said
        wheel = here.root / "dist" / f"certcast-{VERSION}-py3-none-any.whl"
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() in said

    def test_of_one_that_cannot_is_everything_that_keeps_it(
        self, here: Environment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(_: Environment) -> dict[str, bytes]:
            raise SetupError("no network")

        monkeypatch.setattr(locks, "resolve", unreachable)
        stray = here.root / "stray.txt"
        stray.touch()
        try:
            assert releasing.release(here, tag="v9.9.9", lint=lambda: ["mypy"]) == 1
        finally:
            stray.unlink()
        said = capsys.readouterr().out.partition("This commit cannot be released:\n")[2].splitlines()
        assert said[:3] == [
            "- mypy failed",
            "- the working copy is not the commit (stray.txt): commit, stash or remove what differs",
            f"- the tag is v9.9.9, and shared/__init__.py says {VERSION}",
        ]
        assert said[-1] == "- no network"

    def test_of_a_tag_is_its_part_of_the_changelog(self, here: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
        monkeypatch.setenv("GITHUB_REPOSITORY", "o/n")
        releasing.write_notes(here, "## Unreleased\n\n## 1.0.0 - 2030-01-31\n\n[New](docs/a.md).\n", "v1.0.0")
        notes = (here.root / releasing.NOTES).read_text("utf-8")
        assert notes == "[New](https://github.example/o/n/blob/v1.0.0/docs/a.md).\n"


def test_outside_of_git_it_is_said_that_packages_carry_the_time_of_their_commit(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"git log -1 failed \(packages carry the time of their commit\): fatal: not"):
        building.built_at(Environment(root=tmp_path))


def test_a_time_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(SetupError, match="must be a number of seconds since 1970, not 'yesterday'"):
        building.built_at(Environment(root=tmp_path))
