"""What `dev.py build` makes: the same bytes each time, and nothing in it that is not locked."""

import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from devtools.cures import SetupError
from devtools.environment import Environment
from devtools.packages import agent_requirements, deb, wheel
from tests.rigs.deployment import ROOT
from tests.rigs.programs import needs
from tests.rigs.releases import HERE

LOCK = ROOT / agent_requirements.LOCK


def locked(*names: str) -> str:
    """Some packages' entries in the agents' lock file."""
    entries = re.findall(r"^[\w.-]+==(?:.+\\\n)+.+$", LOCK.read_text("utf-8"), re.MULTILINE)
    return "\n".join(entry for entry in entries if entry.partition("==")[0] in names) + "\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(HERE, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_brings_the_unit_of_its_version(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        inside = {name for name in archive.namelist() if name.startswith("instance_agent/systemd/")}
        assert (
            archive.read("instance_agent/systemd/certcast-agent.service")
            == (ROOT / "infra" / "agent" / "certcast-agent.service").read_bytes()
        )
    targets = {path.name for path in (ROOT / "infra" / "agent" / "targets").iterdir()}
    others = {"agent.env", "certcast-agent.service", "control.sh", "ready.py"}
    assert inside == {f"instance_agent/systemd/{name}" for name in others | {f"targets/{name}" for name in targets}}


def test_the_requirements_file_has_every_version_and_hash_of_the_lock(tmp_path: Path) -> None:
    written = agent_requirements.write(HERE, tmp_path).read_text("utf-8")
    pattern = r"^[\w.-]+==|--hash=\S+"
    assert re.findall(pattern, written, re.MULTILINE) == re.findall(pattern, LOCK.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("entry", ["idna>=3 --hash=sha256:" + "0" * 64, "idna==3.10", "git+https://example.com/idna"])
def test_what_is_not_pinned_with_hashes_is_refused(tmp_path: Path, entry: str) -> None:
    lock = tmp_path / agent_requirements.LOCK
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{locked('certifi')}{entry}\n", encoding="utf-8")
    with pytest.raises(SetupError, match="is not pinned with hashes"):
        agent_requirements.write(Environment(root=tmp_path), tmp_path)


@needs("dpkg-deb")
def test_the_package_has_the_same_bytes_whoever_builds_it(built: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements"
    requirements.write_text(locked("certifi", "pywin32", "yarl"), encoding="utf-8")
    first = deb.build(HERE, tmp_path / "first", built, requirements)
    before = os.umask(0o077)
    try:
        second = deb.build(HERE, tmp_path / "second", built, requirements)
    finally:
        os.umask(before)
    assert first.read_bytes() == second.read_bytes()

    def shown(option: str) -> str:
        return subprocess.run(["dpkg-deb", option, first], capture_output=True, text=True, check=True).stdout

    files = shown("--contents")
    assert {line.split()[1] for line in files.splitlines()} == {"root/root"}
    assert not re.search(r"etc/certcast|__pycache__|direct_url|site-packages/win32", files)
    assert " ./usr/lib/certcast-agent/bin/python -> ../../../bin/python3.11\n" in files
    assert "Depends: python3.11, " in shown("--field")


@needs("dpkg-deb")
@pytest.mark.parametrize(
    ("older", "newer"),
    [("0.2.0.dev0", "0.2.0rc1"), ("0.2.0rc1", "0.2.0"), ("0.2.0", "0.2.0.post1"), ("0.9.0", "0.10.0a1")],
)
def test_versions_have_debians_order(older: str, newer: str) -> None:
    compare = ["dpkg", "--compare-versions", deb._debian(older), "lt", deb._debian(newer)]
    assert subprocess.run(compare, check=False).returncode == 0


def test_an_architecture_that_no_wheels_are_for_is_refused(built: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="there is no package for riscv64; there is for amd64, arm64"):
        deb.build(HERE, tmp_path, built, LOCK, edition=deb.Edition(architecture="riscv64"))
