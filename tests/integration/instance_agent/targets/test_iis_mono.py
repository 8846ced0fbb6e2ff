"""The .NET gateway of production, called through pythonnet on Mono over an assembly with IIS's own strict types."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instance_agent.windows.dotnet import load_assembly
from shared.errors import ConfigurationError
from tests.contracts.iis_gateway import CASES, Case, run_case
from tests.fakes.iis.mono import MonoProcess, MonoWorld, build, gateway
from tests.fakes.iis.mono_cases import STORE_CASES, TARGET_CASES, a_certificate_is_imported_found_and_deleted
from tests.rigs.programs import needs

pytestmark = needs("mcs", "mono")


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonoProcess]:
    folder = tmp_path_factory.mktemp("mono")
    process = MonoProcess(build(folder), folder)
    yield process
    process.end()


def run_by_name(name: str) -> None:
    run_case(next(case for case in CASES if case.__name__ == name), gateway(), MonoWorld())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_gateway_keeps_the_contract(mono: MonoProcess, case: Case) -> None:
    mono.run(run_by_name, case.__name__)


@pytest.mark.parametrize("case", TARGET_CASES, ids=lambda case: case.__name__)
def test_the_target_over_the_gateway(mono: MonoProcess, case: Callable[[], None]) -> None:
    mono.run(case)


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_a_certificate_is_imported_found_and_deleted_in_a_real_store(mono: MonoProcess, key: str) -> None:
    mono.run(a_certificate_is_imported_found_and_deleted, key)


@pytest.mark.parametrize("case", STORE_CASES, ids=lambda case: case.__name__)
def test_a_real_certificate_store(mono: MonoProcess, case: Callable[[], None]) -> None:
    mono.run(case)


def test_an_assembly_that_is_missing_is_named_with_its_cure(mono: MonoProcess, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Web-Scripting-Tools"):
        mono.run(load_assembly, tmp_path / "Microsoft.Web.Administration.dll")


def test_an_assembly_that_is_none_is_refused(mono: MonoProcess, tmp_path: Path) -> None:
    broken = tmp_path / "Microsoft.Web.Administration.dll"
    broken.write_bytes(b"not an assembly")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        mono.run(load_assembly, broken)
