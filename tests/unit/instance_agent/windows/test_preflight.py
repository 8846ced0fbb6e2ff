"""The preflight: one line for each thing the IIS targets need, and the cure where it is missing."""

import sys
from dataclasses import replace

import pytest

from instance_agent.targets.iis.preflight import Machine, ServiceState, judge
from instance_agent.windows.access import PRIVATE_FOLDER, exposed_to
from instance_agent.windows.machine import look_around
from instance_agent.windows.selftest import main

SOUND = Machine(
    windows=True,
    python_bits=64,
    elevated=True,
    w3svc=ServiceState.RUNNING,
    iis_version=(10, 0),
    dotnet_release=528040,
    pythonnet=True,
    administration=None,
)


def failures(machine: Machine) -> list[str]:
    return [finding.line for finding in judge(machine) if not finding.sound]


def test_a_sound_machine_has_one_good_line_for_each_thing() -> None:
    assert [finding.sound for finding in judge(SOUND)] == [True] * 8


@pytest.mark.parametrize(
    ("machine", "cure"),
    [
        (replace(SOUND, python_bits=32), "64-bit Python"),
        (replace(SOUND, elevated=False), "administrator"),
        (replace(SOUND, w3svc=ServiceState.STOPPED), "Start-Service W3SVC"),
        (replace(SOUND, w3svc=ServiceState.MISSING), "Install-WindowsFeature"),
        (replace(SOUND, iis_version=None), "Web-Scripting-Tools"),
        (replace(SOUND, iis_version=(7, 5)), "0x80070585"),
        (replace(SOUND, dotnet_release=None), ".NET Framework 4.8"),
        (replace(SOUND, dotnet_release=378389), ".NET Framework 4.8"),
        (replace(SOUND, pythonnet=False), "requirements.lock"),
        (replace(SOUND, settings_exposed=("BU",)), "install-service"),
        (
            replace(SOUND, administration="Class not registered", administration_code=0x80040154),
            "IIS Management Scripts and Tools",
        ),
        (replace(SOUND, administration="A specified logon session", administration_code=0x80070520), "private key"),
        (replace(SOUND, administration="the file is missing"), "the file is missing"),
    ],
)
def test_each_failure_is_one_line_that_names_the_cure(machine: Machine, cure: str) -> None:
    (line,) = failures(machine)
    assert cure in line
    assert "\n" not in line


def test_an_iis_without_wildcards_is_sound_and_says_so() -> None:
    findings = judge(replace(SOUND, iis_version=(8, 5)))
    assert all(finding.sound for finding in findings)
    assert any("IIS 8.5" in finding.line and "wildcard" in finding.line for finding in findings)


@pytest.mark.skipif(sys.platform == "win32", reason="about machines that are not Windows")
def test_off_windows_there_is_nothing_to_test() -> None:
    assert failures(look_around()) == ["this is not Windows; only the files of the target iis-ccs can be written here"]
    lines: list[str] = []
    assert main({}, preflight_only=True, say=lines.append) == 1
    assert main({}, preflight_only=False, say=lines.append) == 1
    assert "not Windows" in lines[1]


class TestAccessLists:
    def test_what_we_set_is_for_system_and_administrators_only(self) -> None:
        assert exposed_to(PRIVATE_FOLDER) == []

    @pytest.mark.parametrize(
        ("sddl", "accounts"),
        [
            ("D:PAI(A;;FA;;;SY)(A;;FA;;;BA)", []),
            ("O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)", ["BU"]),
            ("D:(A;;FR;;;WD)(A;;GA;;;S-1-5-21-1-2-3-1001)", ["S-1-5-21-1-2-3-1001", "WD"]),
            ("D:(A;OICIIO;FA;;;CO)(A;;FA;;;S-1-5-18)(A;;FA;;;S-1-5-32-544)", []),
            ("D:(D;;FA;;;BU)(A;;FA;;;SY)", []),
            ("D:(A;;0x100000;;;BU)(A;;FA;;;SY)", []),
            ("D:(A;;FA;;;SY)S:(AU;SAFA;FA;;;WD)", []),
            ("D:NO_ACCESS_CONTROL", ["everyone"]),
            ("O:BAG:SY", ["everyone"]),
        ],
    )
    def test_who_else_may_read_is_found(self, sddl: str, accounts: list[str]) -> None:
        assert exposed_to(sddl) == accounts
