"""Checkov finds nothing weak in infra/ that is not explained beside it."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.bicep import INFRA, files
from tests.rigs.checkov import checked

WEAK = """resource weak 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: 'weak'
  location: 'westeurope'
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    supportsHttpsTrafficOnly: false
  }
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """On all files, and on one that is weak."""
    folder = tmp_path_factory.mktemp("checked")
    shutil.copytree(INFRA, folder / "infra")
    (folder / "weak.bicep").write_text(WEAK)
    return checked(folder)


def test_what_is_weak_is_found_and_nothing_else(report: Any) -> None:
    found = {(Path(each["file_path"]).name, each["check_id"]) for each in report["results"]["failed_checks"]}
    assert ("weak.bicep", "CKV_AZURE_3") in found
    assert {name for name, _ in found} == {"weak.bicep"}


def test_every_file_was_read(report: Any) -> None:
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 20


def test_each_exception_is_explained_and_of_a_check_that_looks_there(report: Any) -> None:
    used = {(Path(each["file_path"]).name, each["check_id"]) for each in report["results"]["skipped_checks"]}
    told = {
        (path.name, check)
        for path in files()
        for check, why in re.findall(r"// checkov:skip=(\w+): (.+)", path.read_text("utf-8"))
        if why
    }
    assert used == told
