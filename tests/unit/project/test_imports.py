"""Who may know whom, where import-linter cannot see it; its own rules are [tool.importlinter] in pyproject.toml."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.rigs.deployment import ROOT

PACKAGES = ("shared", "instance_agent", "operator_cli", "local_azure")
MOST_ENTRIES = {"shared": 22, "instance_agent/targets": 10}
"""A folder with more than these at its top is no longer one that a reader takes in at a look."""


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


def test_an_azure_sdk_is_imported_by_edges_the_functions_app_and_the_local_cloud_alone() -> None:
    importers = {path.relative_to(ROOT) for path in sources() if "azure" in top(imports(path))}
    allowed = ("shared/azure/", "shared/sources/", "shared/telemetry/recording.py", "local_azure/", "function_app.py")
    assert not [path for path in importers if not path.as_posix().startswith(allowed)]


def test_the_functions_app_is_imported_by_none() -> None:
    everything = [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    assert not [path for path in everything if "function_app" in top(imports(path))]


def test_the_functions_app_imports_nothing_that_is_not_deployed() -> None:
    assert not top(imports(ROOT / "function_app.py")) & {"instance_agent", "operator_cli", "local_azure", "tests"}


def test_the_use_cases_and_edges_meet_in_one_place() -> None:
    rooms = {"shared.function", "shared.azure"}
    both = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "shared").rglob("*.py")
        if rooms <= {".".join(module.split(".")[:2]) for module in imports(path)}
    ]
    assert both == ["shared/opening.py"]


def test_a_folder_is_taken_in_at_a_look() -> None:
    for folder, most in MOST_ENTRIES.items():
        entries = [path.name for path in (ROOT / folder).iterdir() if path.name != "__pycache__"]
        assert len(entries) <= most, sorted(entries)
