"""The files target's templates, permissions and commands, with small programs in place of a server."""

import os
import shlex
import stat
import sys
from pathlib import Path

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.base import ApplyError, BindingTarget, Remove, ServerUnavailableError
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST
from shared.messages import InstallOutcome as Outcome
from tests.rigs.targets import bind, fresh, fresh_default, root

KEY_TEMPLATE = "{{ key_pem }}"
CHAIN_TEMPLATE = "{{ chain_pem }}"


def program(path: Path, body: str) -> str:
    """A command line that runs this Python text."""
    path.write_text(body)
    return shlex.join([sys.executable, str(path)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for each in ("each", "all"):
        (tmp_path / "templates" / each).mkdir(parents=True)
    (tmp_path / "templates" / "each" / "key.j2").write_text(KEY_TEMPLATE)
    (tmp_path / "templates" / "each" / "chain.pem.j2").write_text(CHAIN_TEMPLATE)
    (tmp_path / "templates" / "all" / "hosts.j2").write_text(
        "{% for each in bindings %}{{ each.host }}:{{ each.listen_port }} {{ each.pem }}\n{% endfor %}"
    )
    return tmp_path


def made(folder: Path, **settings: str) -> BindingTarget:
    return make_target(
        "files",
        {
            "CERTCAST_FILES_FOLDER": str(folder / "certcast"),
            "CERTCAST_FILES_TEMPLATES": str(folder / "templates"),
            "CERTCAST_FILES_PORT_OFFSET": "1000",
            "CERTCAST_RELOAD_MIN_INTERVAL_S": "0",
            **settings,
        },
    )


def everything(folder: Path) -> dict[str, bytes]:
    below = (folder / "certcast").rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in below if path.is_file()}


class TestTemplates:
    async def test_each_binding_has_its_files_and_the_list_is_of_all_in_matching_order(self, folder: Path) -> None:
        target = made(folder)
        await target.start()
        hosts = ("*.example.com", "b.example.com", "a.example.com", "*.deep.example.com")
        issued = {host: root().intermediate().issue(host) for host in hosts}
        await target.apply([bind(each, host, 443) for host, each in issued.items()])
        rendered = folder / "certcast" / "rendered"
        live = folder / "certcast" / "live" / "443"
        assert (rendered / "hosts").read_text().splitlines() == [
            f"a.example.com:1443 {live}/a.example.com.pem",
            f"b.example.com:1443 {live}/b.example.com.pem",
            f"*.deep.example.com:1443 {live}/_.deep.example.com.pem",
            f"*.example.com:1443 {live}/_.example.com.pem",
        ]
        bundle = issued["*.example.com"].bundle()
        assert (rendered / "443" / "_.example.com.key").read_bytes() == bundle.key_pem()
        assert (rendered / "443" / "_.example.com.chain.pem").read_bytes() == bundle.chain_pem()
        assert CertificateBundle.from_pem((live / "_.example.com.pem").read_bytes()) == bundle
        await target.apply([Remove(host=host, port=443) for host in hosts])
        assert (rendered / "hosts").read_text() == ""
        assert not list(rendered.glob("443/*"))
        assert not list(live.iterdir())

    async def test_changed_and_deleted_templates_are_in_force_after_the_next_start(self, folder: Path) -> None:
        target = made(folder)
        await target.start()
        issued = root().issue("a.example.com")
        await target.apply([bind(issued, "a.example.com", 443)])
        (folder / "templates" / "each" / "chain.pem.j2").unlink()
        (folder / "templates" / "each" / "key.j2").write_text("new {{ host }}\n{{ key_pem }}")
        (folder / "templates" / "all" / "hosts.j2").rename(folder / "templates" / "all" / "names.j2")
        await made(folder).start()
        rendered = folder / "certcast" / "rendered"
        names = {str(path.relative_to(rendered)) for path in rendered.rglob("*") if path.is_file()}
        assert names == {"443/a.example.com.key", "names"}
        key = (rendered / "443" / "a.example.com.key").read_bytes()
        assert key == b"new a.example.com\n" + issued.bundle().key_pem()

    async def test_a_folder_with_other_peoples_files_is_not_taken_over(self, folder: Path) -> None:
        (folder / "certcast").mkdir(mode=0o755)
        (folder / "certcast" / "precious").write_text("mine")
        with pytest.raises(ConfigurationError, match="give CERTCAST_FILES_FOLDER a folder of its own"):
            await made(folder).start()
        assert [path.name for path in (folder / "certcast").iterdir()] == ["precious"]
        assert stat.S_IMODE((folder / "certcast").stat().st_mode) == 0o755

    async def test_a_template_that_fails_for_one_host_is_reported_for_it_alone(self, folder: Path) -> None:
        (folder / "templates" / "each" / "key.j2").write_text(
            "{% if host == 'b.example.com' %}{{ nothing }}{% endif %}"
        )
        target = made(folder)
        await target.start()
        changes = [fresh(host, 443) for host in ("a.example.com", "b.example.com")]
        results = await install(target, changes, served_fingerprint)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.FAILED]
        assert "not looked at" in results[0].reason
        assert "'nothing' is undefined" in results[1].reason


class TestTheDefault:
    async def test_templates_about_all_that_ask_for_no_fallbacks_refuse_it_with_the_cure(self, folder: Path) -> None:
        target = made(folder)
        await target.start()
        results = await install(target, [fresh_default(443), fresh("a.example.com", 443)], served_fingerprint)
        assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.LIVE]
        assert results[0].reason.startswith(
            f"the default of port 443 reaches no server: no template in {folder}/templates/all uses `fallbacks`"
        )

    async def test_it_is_no_host_among_the_others_and_takes_the_fallbacks_place(self, folder: Path) -> None:
        (folder / "templates" / "all" / "ports.j2").write_text(
            "{% for port, pem in fallbacks.items() %}{{ port }} {{ pem }}\n{% endfor %}"
        )
        target = made(folder)
        await target.start()
        certcast = folder / "certcast"
        rendered, default = certcast / "rendered", fresh_default(443)
        await target.apply([default, fresh("a.example.com", 443), fresh("a.example.com", 8443)])
        assert [line.split()[0] for line in (rendered / "hosts").read_text().splitlines()] == [
            *("a.example.com:1443", "a.example.com:9443")
        ]
        file = certcast / "live" / "443" / "_default_.pem"
        assert (rendered / "ports").read_text() == f"1443 {file}\n9443 {certcast}/fallback.pem\n"
        assert (rendered / "443" / "_default_.key").read_bytes() == default.bundle.key_pem()
        await target.apply([Remove(host=DEFAULT_HOST, port=443)])
        assert (rendered / "ports").read_text().startswith(f"1443 {certcast}/fallback.pem\n")
        assert not file.exists()
        assert not list(rendered.glob("*/_default_*"))

    async def test_without_templates_about_all_its_file_is_there_for_who_names_it(self, folder: Path) -> None:
        (folder / "templates" / "all" / "hosts.j2").unlink()
        target = made(folder)
        await target.start()
        (result,) = await install(target, [fresh_default(443)], served_fingerprint)
        assert result.outcome is Outcome.LIVE
        assert (folder / "certcast" / "live" / "443" / "_default_.pem").exists()


class TestPermissions:
    async def test_everything_is_the_agents_alone(self, folder: Path) -> None:
        before = os.umask(0)
        try:
            target = made(folder)
            await target.start()
            await target.apply([fresh("a.example.com", 443)])
        finally:
            os.umask(before)
        below = list((folder / "certcast").rglob("*"))
        assert {stat.S_IMODE(path.stat().st_mode) for path in below if path.is_file()} == {0o600}
        assert {stat.S_IMODE(path.stat().st_mode) for path in below if path.is_dir()} == {0o700}

    async def test_a_group_that_is_named_may_read_what_was_written_before_too(self, folder: Path) -> None:
        grp = pytest.importorskip("grp")
        target = made(folder)
        await target.start()
        await target.apply([fresh("a.example.com", 443)])
        group = grp.getgrgid(os.getgroups()[-1]) if os.geteuid() else grp.getgrnam("daemon")
        target = made(folder, CERTCAST_FILES_GROUP=group.gr_name)
        await target.start()
        await target.apply([fresh("b.example.com", 443)])
        for path in (folder / "certcast").rglob("*.*"):
            if path.is_file() and path.name != ".certcast":
                assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o640, group.gr_gid), path

    async def test_a_group_that_is_not_there_ends_the_start(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="there is no group certcast-none"):
            await made(folder, CERTCAST_FILES_GROUP="certcast-none").start()


class TestCommands:
    async def test_the_check_sees_the_new_files_and_the_reload_runs_once_for_each_batch(self, folder: Path) -> None:
        log = folder / "log"
        body = (
            "import pathlib, sys\n"
            f"count = len(list(pathlib.Path({str(folder / 'certcast' / 'live')!r}).glob('*/*.pem')))\n"
            f"with open({str(log)!r}, 'a') as file:\n"
            "    print(sys.argv[1], count, file=file)\n"
        )
        check = program(folder / "note.py", body) + " check"
        reload = program(folder / "note.py", body) + " reload"
        target = made(folder, CERTCAST_FILES_CHECK=check, CERTCAST_FILES_RELOAD=reload)
        await target.start()
        log.write_text("")
        await target.apply([fresh(f"h{i}.example.com", 443) for i in range(20)])
        assert log.read_text() == "check 20\nreload 20\n"

    async def test_a_refused_check_puts_every_file_back_and_names_the_host_whose_file_it_named(
        self, folder: Path
    ) -> None:
        good = fresh("a.example.com", 443)
        body = (
            "import pathlib, sys\n"
            f"bad = pathlib.Path({str(folder / 'certcast' / 'live' / '443' / 'bad.example.com.pem')!r})\n"
            "if bad.exists(): sys.exit(f'error in {bad}: not liked')\n"
        )
        target = made(folder, CERTCAST_FILES_CHECK=program(folder / "check.py", body))
        await target.start()
        await target.apply([good])
        before = everything(folder)
        renewal = fresh("a.example.com", 443)
        bad = fresh("bad.example.com", 443)
        with pytest.raises(ApplyError, match="not liked") as caught:
            await target.apply([renewal, bad])
        assert caught.value.culprit == bad.key
        assert everything(folder) == before

    async def test_a_failed_reload_puts_every_file_back_and_reloads_with_them(self, folder: Path) -> None:
        marker = folder / "reloaded-with"
        live = str(folder / "certcast" / "live")
        body = (
            "import pathlib, sys\n"
            f"names = sorted(path.name for path in pathlib.Path({live!r}).rglob('*.pem'))\n"
            f"pathlib.Path({str(marker)!r}).write_text(' '.join(names))\n"
            "sys.exit(3 if 'bad.example.com.pem' in names else 0)\n"
        )
        target = made(folder, CERTCAST_FILES_RELOAD=program(folder / "reload.py", body))
        await target.start()
        await target.apply([fresh("a.example.com", 443)])
        before = everything(folder)
        with pytest.raises(ApplyError, match="ended with exit code 3") as caught:
            await target.apply([fresh("bad.example.com", 443)])
        assert not isinstance(caught.value, ServerUnavailableError)
        assert everything(folder) == before
        assert marker.read_text() == "a.example.com.pem"

    async def test_a_command_that_does_not_end_is_killed_and_the_server_counts_as_unavailable(
        self, folder: Path
    ) -> None:
        flag = folder / "hang"
        body = f"import pathlib, time\nwhile pathlib.Path({str(flag)!r}).exists(): time.sleep(0.05)\n"
        target = made(folder, CERTCAST_FILES_CHECK=program(folder / "check.py", body), CERTCAST_FILES_TIMEOUT_S="1")
        await target.start()
        before = everything(folder)
        flag.touch()
        with pytest.raises(ServerUnavailableError, match="did not end within 1 s"):
            await target.apply([fresh("a.example.com", 443)])
        assert everything(folder) == before

    async def test_no_shell_reads_the_commands_and_no_secret_reaches_them(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CERTCAST_STORAGE", "AccountKey=Zm9v")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", "Zm9v")
        seen = folder / "seen"
        body = (
            "import os, sys\n"
            f"with open({str(seen)!r}, 'w') as file:\n"
            "    print(sys.argv[1:], dict(os.environ), file=file)\n"
        )
        command = program(folder / "reload.py", body) + " '$HOME' '; true' *"
        target = made(folder, CERTCAST_FILES_RELOAD=command)
        await target.start()
        await target.apply([fresh("a.example.com", 443)])
        told = seen.read_text()
        assert told.startswith("['$HOME', '; true', '*']")
        assert "PATH" in told
        assert "Zm9v" not in told

    async def test_a_program_that_is_not_there_ends_the_start(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_FILES_RELOAD: there is no program certcast-nowhere"):
            await made(folder, CERTCAST_FILES_RELOAD="certcast-nowhere now").start()

    async def test_a_file_made_by_hand_is_left_alone(self, folder: Path) -> None:
        target = made(folder)
        await target.start()
        hand = folder / "certcast" / "live" / "443" / "hand.example.com.pem"
        hand.parent.mkdir()
        hand.write_bytes(root().issue("hand.example.com").bundle().to_pem())
        before = hand.read_bytes()
        with pytest.raises(ApplyError, match="was not made by certcast") as caught:
            await target.apply([fresh("hand.example.com", 443)])
        assert caught.value.culprit == ("hand.example.com", 443)
        await target.apply([Remove(host="hand.example.com", port=443)])
        assert hand.read_bytes() == before
        assert await target.current() == frozenset()
