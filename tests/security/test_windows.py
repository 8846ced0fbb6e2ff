"""Other accounts of a Windows machine: what they make first under our names is refused. With fakes, not on Windows."""

import re
from pathlib import Path

import pytest

from instance_agent.targets.parts.holding import LOCK_NAME
from instance_agent.windows import machine, making
from instance_agent.windows.access import PRIVATE_FOLDER, exposed_to, make_private, refuse_foreign
from instance_agent.windows.sites import _MUTEX_ACCESS
from shared.errors import ConfigurationError
from tests.fakes.win32 import ADMINISTRATORS, MALLORY, SYSTEM, Descriptor, Win32
from tests.rigs.deployment import ROOT

INSTALLER = (ROOT / "infra" / "agent" / "install.ps1").read_text("utf-8")


@pytest.fixture
def win32(monkeypatch: pytest.MonkeyPatch) -> Win32:
    machine = Win32()
    machine.install(monkeypatch)
    return machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "certcast"


class TestTheFolder:
    def test_is_the_administrators_from_its_first_moment_with_all_that_is_in_it(
        self, win32: Win32, folder: Path
    ) -> None:
        make_private(folder)
        assert win32.of[folder].owner == ADMINISTRATORS
        (folder / "logs").mkdir()
        for path in (folder / "agent.toml", folder / "logs" / "x"):
            path.touch()
            win32.of[path] = Descriptor(MALLORY, "everyone's")
        make_private(folder)
        everything = [folder, *folder.rglob("*")]
        assert len(everything) == 4
        assert {(win32.of[path].owner, win32.of[path].access) for path in everything} == {
            (ADMINISTRATORS, PRIVATE_FOLDER.partition("D:")[2])
        }

    @pytest.mark.parametrize("owner", [ADMINISTRATORS, SYSTEM])
    def test_of_an_earlier_installation_is_taken_over(self, win32: Win32, folder: Path, owner: str) -> None:
        folder.mkdir()
        win32.of[folder] = Descriptor(owner, "everyone's")
        refuse_foreign(folder)
        make_private(folder)
        assert win32.of[folder].owner == ADMINISTRATORS

    def test_that_another_account_made_first_is_refused_with_what_to_do(self, win32: Win32, folder: Path) -> None:
        folder.mkdir()
        (folder / "agent.toml").write_text("CERTCAST_STORAGE = 'theirs'")
        for refuse in (make_private, refuse_foreign):
            with pytest.raises(ConfigurationError, match=rf"made by another account \({MALLORY}\).*delete it, and try"):
                refuse(folder)
        assert win32.of == {}, "nothing of it was adopted"

    def test_that_another_account_makes_in_the_very_moment_is_refused(self, win32: Win32, folder: Path) -> None:
        win32.meanwhile = folder.mkdir
        with pytest.raises(ConfigurationError, match="made by another account"):
            make_private(folder)

    def test_that_is_a_link_to_one_of_the_administrators_is_refused(self, win32: Win32, folder: Path) -> None:
        theirs = folder.with_name("theirs")
        theirs.mkdir()
        win32.of[theirs] = win32.of[folder] = Descriptor(ADMINISTRATORS, "everyone's")
        folder.symlink_to(theirs)
        for refuse in (make_private, refuse_foreign):
            with pytest.raises(ConfigurationError, match="is a link"):
                refuse(folder)

    def test_that_holds_a_link_is_refused(self, win32: Win32, folder: Path) -> None:
        make_private(folder)
        (folder / "agent.toml").symlink_to("/etc/passwd")
        with pytest.raises(ConfigurationError, match=r"agent\.toml is a link"):
            make_private(folder)
        assert folder / "agent.toml" not in win32.of

    def test_that_is_not_there_is_nobodys(self, win32: Win32, folder: Path) -> None:
        refuse_foreign(folder)
        assert win32.of == {}

    def test_is_not_made_by_a_process_that_may_not_and_it_says_so(self, win32: Win32, folder: Path) -> None:
        win32.elevated = False
        with pytest.raises(ConfigurationError, match=r"cannot be made private \(Access is denied.\): run elevated"):
            make_private(folder)

    @pytest.mark.parametrize(
        ("sddl", "exposed"),
        [
            (PRIVATE_FOLDER, []),
            (f"O:{MALLORY}D:P(A;;FA;;;SY)(A;;FA;;;BA)", [MALLORY]),
            ("O:BUG:BUD:P(A;;FA;;;SY)", ["BU"]),
            ("O:SYG:SYD:P(A;;FA;;;SY)(A;;FR;;;WD)", ["WD"]),
        ],
    )
    def test_is_exposed_to_its_owner_whatever_its_list_says(self, sddl: str, exposed: list[str]) -> None:
        assert exposed_to(sddl) == exposed


class TestTheLock:
    @pytest.mark.usefixtures("win32")
    def test_of_an_agent_lies_in_that_folder_where_no_other_account_can_make_it_first(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "program_data", lambda: folder)
        with making.held_here("iis", "IIS on this machine"):
            assert (folder / "iis.lock").exists()
            with pytest.raises(ConfigurationError, match="another agent of this machine has IIS on this machine"):
                making.held_here("iis", "IIS on this machine").__enter__()
            with making.held_here("iis-ccs", "the store"):
                pass
        assert not (folder / LOCK_NAME).exists()

    def test_for_a_commit_is_for_system_and_administrators_alone(self) -> None:
        entries = re.findall(r"\((\w+);[^;]*;(0x\w+);;;(\w+)\)", _MUTEX_ACCESS)
        assert entries == [("A", "0x1F0001", "SY"), ("A", "0x1F0001", "BA")]
        assert _MUTEX_ACCESS.startswith("D:P(")


class TestTheInstaller:
    """Read, not run: there is no PowerShell here either."""

    def test_has_no_name_of_a_package_to_be_looked_up_anywhere(self) -> None:
        assert "'certcast[" not in INSTALLER
        (command,) = (line for line in INSTALLER.splitlines() if "'install'" in line)
        assert "'--isolated', '--only-binary', ':all:'" in command
        uses = [line for line in INSTALLER.splitlines() if "$pip +" in line]
        assert len(uses) == 2
        assert "'--require-hashes', '--requirement', $needs" in uses[0]
        assert "'--no-deps', '--no-index', '--force-reinstall', $wheel" in uses[1]

    def test_compares_the_wheel_and_copies_it_first_to_where_no_other_account_writes(self) -> None:
        body = INSTALLER[INSTALLER.index("function Copy-Checked") :]
        assert body.index("Copy-Item") < body.index("Assert-Hash $copy $Expected") < body.index("return $copy")
        assert_hash = INSTALLER[INSTALLER.index("function Assert-Hash") :]
        assert assert_hash.index("Get-FileHash") < assert_hash.index("throw") < assert_hash.index("function Copy-")
        assert "[Parameter(Mandatory = $true)]" in INSTALLER
        assert re.search(r"ValidatePattern\('\^\[0-9A-Fa-f\]\{64\}\$'\)\]\s+\[string\] \$PackageHash", INSTALLER)

    def test_stops_the_service_only_when_it_has_what_it_will_install(self) -> None:
        main = INSTALLER[INSTALLER.index("$wheel = ") :]
        assert main.index("Copy-Checked") < main.index("Stop-Service") < main.index("'--require-hashes'")

    def test_comes_with_the_versions_and_hashes_of_all_that_the_wheel_needs(self) -> None:
        lock = (ROOT / "infra" / "agent" / "requirements.lock").read_text("utf-8")
        pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==\S+.* \\\n    --hash=sha256:", lock, re.MULTILINE)
        assert {"pythonnet", "pywin32", "cryptography", "azure-storage-blob", "prometheus-client", "jinja2"} <= set(
            pinned
        )
        assert len(pinned) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE))
