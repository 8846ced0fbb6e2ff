import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from operator_cli import terminal
from operator_cli.__main__ import _COMMANDS, _Commands, certcast, main
from operator_cli.account_choice import choose_storage
from operator_cli.exits import TimedOutError
from operator_cli.waiting import progress, until
from shared.errors import ConfigurationError
from tests.rigs.certificates import authority

SHOPS = "DefaultEndpointsProtocol=https;AccountName=shops;AccountKey=aHVudGVyMg==;EndpointSuffix=core.windows.net"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert "Exit codes: 0 done, 1 rejected or failed, 2 usage, 3 timed out." in printed
    for name in ("check", "demo", "remove", "status", "up", "upload"):
        assert f"\n  {name} " in printed


class TestACommandWhosePackagesAreNotInstalled:
    """`up` and `demo` need more than the extra `cli` brings."""

    @pytest.fixture(autouse=True)
    def without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(_COMMANDS, "up", "a_package_that_is_not_there.up")

    def test_is_listed_with_what_is_missing_beside_the_others(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        printed = capsys.readouterr().out
        assert "up          Not here: it needs the package a_package_that_is_not_there." in printed
        assert "\n  upload " in printed

    @pytest.mark.parametrize("words", [["up"], ["up", "--help"], ["up", "--target", "nginx"]])
    def test_says_what_brings_them(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("certcast: `certcast up` needs the package a_package_that_is_not_there, which is not ")
        assert "python3 dev.py setup" in said

    def test_of_this_project_is_a_fault_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(_COMMANDS, "up", "operator_cli.not_a_module")
        with pytest.raises(ModuleNotFoundError):
            main(["up"])


@pytest.mark.parametrize("command", ["check", "demo", "remove", "status", "up", "upload"])
def test_every_command_and_every_option_is_explained(command: str) -> None:
    found = certcast.get_command(click.Context(certcast), command)
    assert found is not None
    assert found.help
    for parameter in found.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_check_opens_no_socket_and_imports_no_azure_sdk(tmp_path: Path) -> None:
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(authority().issue("www.example.com").pfx(None))
    program = (
        "import sys\n"
        "def hook(event, _):\n"
        "    if event.startswith('socket.'): raise SystemExit(f'network: {event}')\n"
        "sys.addaudithook(hook)\n"
        "from operator_cli.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit('the Azure SDK is imported' if 'azure' in sys.modules else code)\n"
    )
    command = [sys.executable, "-c", program, "check", str(pfx), "--trust", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["bogus"], ["--bogus"], ["status", "--bogus"], ["upload"]])
def test_with_json_a_mistake_is_one_document_on_stdout(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out).keys() == {"error"}


def test_what_is_no_terminal_gets_no_control_codes_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    terminal.say("a remark", "bold red")
    terminal.results().print(terminal.safe("a result", "green"))
    with progress() as show:
        show("working", 1, 2)
        show("working", 1, 2)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("a result\n", "a remark\nworking: 1/2\n")


def test_a_terminal_gets_colour_and_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress() as show:
        show("proved on", 1, 3)
    terminal.say("done", "green")
    assert "\x1b[" in screen.getvalue()
    assert "1/3" in screen.getvalue()


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(authority().issue("www.example.com").pfx(None))
    command = [sys.executable, "-m", "operator_cli", "check", str(pfx), "--trust", "off", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaint = process.stderr.read().decode()
    assert process.returncode == 0
    assert "Traceback" not in complaint
    assert "BrokenPipe" not in complaint


def test_a_broken_pipe_of_something_else_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def command() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(_Commands, "get_command", lambda *_: command)
    assert main(["status"]) == 1
    assert "certcast: the system: Broken pipe; put that right and run it again" in capsys.readouterr().err


async def test_waiting_ends_with_what_was_found_or_with_a_time_out() -> None:
    answers = iter([None, None, "there"])

    async def look() -> str | None:
        return next(answers)

    async def never() -> None:
        return None

    assert await until(look, timeout_s=30) == "there"
    with pytest.raises(TimedOutError):
        await until(never, timeout_s=0.05)


def test_the_emulator_is_taken_only_where_nothing_is_set_and_this_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_storage(None, None, {}).is_emulator
    assert "CERTCAST_STORAGE is not set" in capsys.readouterr().err
    assert not choose_storage(None, None, {"CERTCAST_STORAGE": SHOPS}).is_emulator
    assert choose_storage(None, "shops", {}).blob_url == "https://shops.blob.core.windows.net"
    assert capsys.readouterr().err == ""


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "storage.txt"
    file.write_text(f"\n{SHOPS}\n", encoding="utf-8-sig")
    env = {"CERTCAST_STORAGE": "UseDevelopmentStorage=true"}
    assert choose_storage(file, None, env).connection_string == f"{SHOPS};"
    assert choose_storage(None, "shops", env).connection_string is None


@pytest.mark.parametrize("content", ["", " \n", "hunter2", "AccountKey=hunter2", b"\xff\xfehunter2"])
def test_a_file_without_a_connection_string_is_refused_without_quoting_it(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "storage.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError, match=r"storage\.txt") as caught:
        choose_storage(file, None, {})
    assert "hunter2" not in str(caught.value)


def test_two_accounts_or_none_that_can_be_are_refused(tmp_path: Path) -> None:
    for file, account in (
        (tmp_path / "none", None),
        (tmp_path, None),
        (tmp_path / "none", "shops"),
        (None, "sh.ops/x"),
    ):
        with pytest.raises(ConfigurationError):
            choose_storage(file, account, {})
