"""Who may know whom, where import-linter cannot see it; its own rules are [tool.importlinter] in pyproject.toml."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.rigs.deployment import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("shared", "instance_agent", "operator_cli", "local_azure")
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
}


def names(layer: str) -> frozenset[str]:
    return frozenset(re.findall(r"\(([\w.]+)\)", layer))


USE_CASES, EDGES, CORE = map(names, CONTRACTS["rings"]["layers"])


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")
    yield from ROOT.glob("*.py")


def imports(path: Path) -> set[str]:
    """Every module a file imports anywhere in it, lazily or for its types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def top(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_every_contract_has_the_same_rings() -> None:
    assert names(CONTRACTS["use-cases"]["layers"][0]) == EDGES
    assert names(CONTRACTS["use-cases"]["layers"][1]) == USE_CASES
    assert names(CONTRACTS["agent"]["layers"][0]) == {f"shared.{name}" for name in USE_CASES}
    assert set(CONTRACTS["sdks"]["ignore_imports"]) == {f"shared.{name} -> *" for name in EDGES}


def test_the_rings_name_only_modules_that_exist() -> None:
    existing = {path.stem for path in (ROOT / "shared").glob("*.py")} - {"__init__"}
    assert not (USE_CASES | EDGES | CORE) - existing


def test_an_azure_sdk_is_imported_by_edges_the_functions_app_and_the_local_cloud_alone() -> None:
    importers = {path.relative_to(ROOT) for path in sources() if "azure" in top(imports(path))}
    allowed = {Path("shared", f"{edge}.py") for edge in EDGES} | {Path("function_app.py")}
    assert not {path for path in importers - allowed if path.parts[0] != "local_azure"}


def test_nobody_imports_the_functions_app() -> None:
    everything = [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    assert not [path for path in everything if "function_app" in top(imports(path))]


def test_the_functions_app_imports_nothing_that_is_not_deployed() -> None:
    assert not top(imports(ROOT / "function_app.py")) & {"instance_agent", "operator_cli", "local_azure", "tests"}


SERVERS = {"embedded", "iis", "nginx", "haproxy", "caddy", "files"}
"""Each names a target and, before an underscore, its modules; the other modules are parts that targets are made of."""


@pytest.mark.parametrize(
    "target", sorted((ROOT / "instance_agent" / "targets").glob("*.py")), ids=lambda path: str(path.stem)
)
def test_a_target_imports_the_core_its_own_modules_and_parts_but_no_other_target(target: Path) -> None:
    own = target.stem.partition("_")[0]
    for module in imports(target):
        package, _, rest = module.partition(".")
        if package == "shared":
            assert rest.partition(".")[0] in {"", *CORE}, module
        if module.startswith("instance_agent.targets."):
            sibling = module.split(".")[2].partition("_")[0]
            assert sibling == own or sibling not in SERVERS, module
