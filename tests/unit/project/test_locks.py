"""The lock files agree with each other and pin everything by hash, and no index is named in them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.rigs.deployment import ROOT, repository_files

PYTHON_LOCKS = (
    *("requirements-dev.lock", "requirements.txt", "requirements-cli.lock"),
    *("infra/agent/requirements.lock", "infra/hooks/function.lock"),
    *("tests/runtime.lock", "tests/checkov.lock"),
)
DEPLOYED_PYTHONS = ("3.11", "3.12", "3.13")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    requirement: Requirement
    hashes: frozenset[str]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)


def pins(file: str) -> list[Pin]:
    joined = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [
        Pin(
            requirement=Requirement(line.split("--hash")[0].strip()),
            hashes=frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)),
        )
        for line in lines
    ]


def linux(python: str) -> dict[str, str]:
    return {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.1",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }


def chosen(file: str, environment: Mapping[str, Any]) -> dict[str, tuple[str, frozenset[str]]]:
    """What pip would install from a lock file there: name to version and hashes."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for pin in pins(file):
        marker = pin.requirement.marker
        if marker is None or marker.evaluate(dict(environment)):
            assert pin.name not in found, f"{file} pins {pin.name} twice for one Python"
            found[pin.name] = (str(pin.requirement.specifier), pin.hashes)
    return found


def closure(distribution: str, extra: str) -> set[str]:
    """Names of all distributions that one of them needs here with one of its extras, as the installed ones tell."""
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(need), extra) for need in metadata.requires(distribution) or []]
    while waiting:
        requirement, for_extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": for_extra}):
            continue
        for asked in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), asked)
            if key not in seen:
                seen.add(key)
                waiting += [(Requirement(need), asked) for need in metadata.requires(requirement.name) or []]
    return {name for name, _asked in seen}


@pytest.mark.parametrize("file", PYTHON_LOCKS)
def test_every_package_is_pinned_to_one_version_by_hash(file: str) -> None:
    for pin in pins(file):
        assert re.fullmatch(r"==[0-9][\w.+!]*", str(pin.requirement.specifier)), pin.name
        assert pin.hashes, pin.name
        assert pin.requirement.url is None, pin.name


@pytest.mark.parametrize("file", [*PYTHON_LOCKS, "package-lock.json", "package.json", "pyproject.toml"])
def test_no_index_is_named(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    assert not re.search(r"index-url|find-links|trusted-host|registry\s*=|\"resolved\"|pypi\.org|npmjs\.org", text)


@pytest.mark.parametrize("python", DEPLOYED_PYTHONS)
def test_what_is_deployed_is_what_is_tested(python: str) -> None:
    deployed, tested = chosen("requirements.txt", linux(python)), chosen("requirements-dev.lock", linux(python))
    assert deployed
    assert deployed.items() <= tested.items()


def test_what_azd_deploys_is_what_a_remote_build_would_install() -> None:
    azds = {pin.name: (str(pin.requirement.specifier), pin.hashes) for pin in pins("infra/hooks/function.lock")}
    assert azds == chosen("requirements.txt", linux("3.13"))
    assert not any(pin.requirement.marker for pin in pins("infra/hooks/function.lock"))


def test_the_runtimes_own_lock_agrees_with_what_is_deployed() -> None:
    deployed, runtime = chosen("requirements.txt", linux("3.13")), chosen("tests/runtime.lock", linux("3.13"))
    shared = deployed.keys() & runtime.keys()
    assert "azure-functions" in shared
    assert {name: runtime[name] for name in shared} == {name: deployed[name] for name in shared}


def test_what_is_deployed_is_what_the_function_and_its_spans_need_and_no_more() -> None:
    needed = closure("certcast", "function") | closure("certcast", "traces")
    assert chosen("requirements.txt", default_environment()).keys() == needed


def test_the_command_s_lock_has_what_the_command_and_its_build_need_and_no_more() -> None:
    needed = closure("certcast", "cli") | closure("certcast", "build")
    assert chosen("requirements-cli.lock", default_environment()).keys() == needed


_INSTALL = re.compile(r"^[^`\n]*\bpip3? install\b([^\n#]*)", re.MULTILINE)
INSTALLS = [
    (path, words)
    for path in repository_files()
    if path.parts[0] == "docs" or path.suffix == ".md"
    for words in _INSTALL.findall((ROOT / path).read_text("utf-8", "ignore"))
]


def test_the_pages_show_what_installs_packages() -> None:
    assert {Path("docs/deploy.md"), Path("docs/iis.md")} <= {path for path, _ in INSTALLS}


@pytest.mark.parametrize(("path", "words"), INSTALLS, ids=str)
def test_what_a_page_installs_is_locked(path: Path, words: str) -> None:
    """By hashes; or the one named thing alone, and what builds that is not fetched either."""
    alone = "--no-deps" in words and ("--no-build-isolation" in words or words.rstrip().endswith(".whl"))
    assert alone or "--require-hashes" in words, path


def test_azurite_is_pinned_with_all_it_needs() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert json.loads((ROOT / "package.json").read_text("utf-8"))["dependencies"] == {"azurite": "3.35.0"}
    assert packages["node_modules/azurite"]["version"] == "3.35.0"
    assert not [path for path, entry in packages.items() if not entry.get("integrity", "").startswith("sha512-")]
    assert not [path for path, entry in packages.items() if entry.get("hasInstallScript")]
