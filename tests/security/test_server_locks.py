"""Two agents on one machine for one server: the second is kept out, by a lock that only the agent's account takes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from instance_agent.identity import mark_of
from instance_agent.selection import make_target
from instance_agent.targets.base import BindingTarget
from instance_agent.targets.parts.holding import LOCK_NAME, holding
from local_azure.processes.listening import free_port
from shared.errors import ConfigurationError
from tests.rigs.deployment import ROOT

HOLD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from instance_agent.targets.parts.holding import holding
with holding(Path(sys.argv[1]), "the server"):
    print("held", flush=True)
    time.sleep(600)
"""


def _files(folder: Path) -> dict[str, str]:
    return {"CERTCAST_FILES_FOLDER": str(folder)}


def _caddy(folder: Path) -> dict[str, str]:
    return {"CERTCAST_CADDY_FOLDER": str(folder), "CERTCAST_CADDY_PASSWORD": "x" * 16}


def _nginx(folder: Path) -> dict[str, str]:
    return {"CERTCAST_NGINX_FOLDER": str(folder)}


def _haproxy(folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "443.list").touch()
    return {"CERTCAST_HAPROXY_FOLDER": str(folder), "CERTCAST_HAPROXY_SOCKET": str(folder / "socket")}


def _iis_ccs(folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    return {"CERTCAST_IIS_CCS_FOLDER": str(folder), "CERTCAST_IIS_CCS_PASSWORD_FILE": str(folder / "password")}


FOLDERS: dict[str, Callable[[Path], dict[str, str]]] = {
    "files": _files,
    "caddy": _caddy,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "iis-ccs": _iis_ccs,
}
KINDS = [pytest.param(kind, id=kind) for kind in FOLDERS]


def target(kind: str, folder: Path) -> BindingTarget:
    return make_target(kind, FOLDERS[kind](folder))


@pytest.mark.skipif(sys.platform == "win32", reason="nginx and iis-ccs are others there")
class TestEveryTarget:
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_one_agents_at_a_time(self, kind: str, tmp_path: Path) -> None:
        one, same, another = target(kind, tmp_path / "a"), target(kind, tmp_path / "a"), target(kind, tmp_path / "b")
        for _ in range(2):
            with one.held():
                with pytest.raises(ConfigurationError, match=r"another agent .* holds the lock .*; stop that agent"):
                    same.held().__enter__()
                with another.held():
                    pass

    @pytest.mark.parametrize("kind", KINDS)
    def test_has_a_place_of_its_own_that_stays_the_same(self, kind: str, tmp_path: Path) -> None:
        places = [target(kind, tmp_path / name).place for name in ("a", "a", "b")]
        assert places[0] == places[1] != places[2]
        assert len({mark_of("host", place) for place in places}) == 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_has_a_lock_that_no_other_account_can_take(self, kind: str, tmp_path: Path) -> None:
        folder = tmp_path / "a"
        with target(kind, folder).held():
            (lock,) = folder.rglob("*.lock")
        assert lock.stat().st_mode & 0o777 == 0o600, "who can open it, if only to read, can lock it"
        assert lock.stat().st_uid == os.getuid()

    def test_embedded_has_its_port(self) -> None:
        env = {"CERTCAST_EMBEDDED_PORT_OFFSET": str(free_port() - 443)}
        one, same = (make_target("embedded", env) for _ in range(2))
        assert one.place == same.place
        with one.held(), pytest.raises(ConfigurationError, match="another program has it, perhaps another agent"):
            same.held().__enter__()
        with same.held():
            pass

    @pytest.mark.parametrize("kind", ["files", "nginx"])
    def test_leaves_no_trace_in_a_folder_that_is_not_certcasts(self, kind: str, tmp_path: Path) -> None:
        (tmp_path / "nginx.conf").touch()
        with pytest.raises(ConfigurationError, match="holds files that certcast did not make"):
            target(kind, tmp_path).held().__enter__()
        assert [path.name for path in tmp_path.iterdir()] == ["nginx.conf"]


class TestALock:
    def test_ends_with_the_process_that_has_it_however_that_ends(self, tmp_path: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", HOLD_UNTIL_KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline().strip() == b"held"
            with pytest.raises(ConfigurationError, match=LOCK_NAME):
                holding(tmp_path, "the server").__enter__()
            other.kill()
            other.wait()
            with holding(tmp_path, "the server"):
                pass

    def test_that_cannot_be_opened_is_said(self, tmp_path: Path) -> None:
        (tmp_path / LOCK_NAME).mkdir()
        with pytest.raises(ConfigurationError, match="cannot be taken: Is a directory"):
            holding(tmp_path, "the server").__enter__()

    def test_is_no_longer_held_after_an_error_within(self, tmp_path: Path) -> None:
        with pytest.raises(TimeoutError, match="of something else"), holding(tmp_path, "the server"):
            raise TimeoutError("of something else")
        with holding(tmp_path, "the server"):
            pass
