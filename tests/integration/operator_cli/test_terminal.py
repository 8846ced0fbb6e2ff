"""The command on a terminal: a pseudo-terminal stands in for the person's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.certificates import authority
from tests.rigs.command_line import clean_environment

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")


def on_a_terminal(*arguments: str | Path, typed: str, after: str) -> tuple[int, str]:
    """Run a command, type a line once a text has appeared, and answer its exit code and all that was on the screen."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "operator_cli", *map(str, arguments)]
    env = clean_environment(TERM="xterm-256color", COLUMNS="100")
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    ) as process:
        os.close(theirs)
        screen = ""
        answered = False
        while True:
            try:
                read = os.read(ours, 4096)
            except OSError:  # Linux says so when the other side is closed
                read = b""
            if not read:
                break
            screen += read.decode()
            if not answered and after in screen:
                os.write(ours, f"{typed}\n".encode())
                answered = True
    os.close(ours)
    return process.returncode, screen


def test_a_terminal_is_asked_for_the_password_and_does_not_show_it(tmp_path: Path) -> None:
    pfx = tmp_path / "shop.pfx"
    pfx.write_bytes(authority().issue("www.example.com").pfx("hunter2"))
    code, screen = on_a_terminal("check", pfx, "--trust", "off", typed="hunter2", after="Password of shop.pfx: ")
    assert code == 0, screen
    assert "accepted" in screen
    assert "\x1b[" in screen
    assert "hunter2" not in screen


def test_the_password_of_a_file_that_none_opens_is_not_asked_for(tmp_path: Path) -> None:
    text = tmp_path / "shop.pfx"
    text.write_text("no certificate")
    code, screen = on_a_terminal("check", text, "--trust", "off", typed="hunter2", after="Password")
    assert code == 1
    assert "Password" not in screen
