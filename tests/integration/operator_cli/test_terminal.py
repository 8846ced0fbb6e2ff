"""The command on a terminal: a pseudo-terminal stands in for the person's."""

import asyncio
import os
import re
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from shared.state.records import UploadRecord, UploadStatus
from tests.rigs.certificates import authority
from tests.rigs.command_line import clean_environment
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.some import some

fcntl = pytest.importorskip("fcntl", reason="needs pseudo-terminals")
termios = pytest.importorskip("termios", reason="needs pseudo-terminals")
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


def screens_of(env: dict[str, str], *arguments: str, columns: int, lines: int) -> tuple[int, str]:
    """Watch on a terminal of that size until a second screen was drawn, press Ctrl-C, and answer what was written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    command = [sys.executable, "-m", "operator_cli", "status", "--watch", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    ) as process:
        os.close(theirs)
        written = ""
        interrupted = False
        with suppress(OSError):  # Linux says so when the other side is closed
            while read := os.read(ours, 65536):
                written += read.decode(errors="replace")
                if not interrupted and written.count(HOME) >= 3:
                    os.kill(process.pid, signal.SIGINT)
                    interrupted = True
    os.close(ours)
    return process.returncode, written


HOME, ALTERNATE, BACK = "\x1b[H", "\x1b[?1049h", "\x1b[?1049l"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 12)])
async def test_watching_fits_the_screen_with_the_summary_on_top(
    azurite: Emulator, tmp_path: Path, columns: int, lines: int
) -> None:
    async with opened_account(azurite.connection_string, tmp_path / "key") as account:
        uploads, prefix = account.state.uploads, uuid4().hex[:8]
        records = [
            UploadRecord(
                name=f"{prefix}/{number}\u202e\x1b[2J{'x' * 200}.pfx",
                revision=1,
                status=UploadStatus.FAILED,
                reason="\x1b[31mthe port is taken " * 9,
            )
            for number in range(40)
        ]
        for record in records:
            await uploads.overwrite(record.name, record)
        try:
            env = clean_environment(TERM="xterm-256color", CERTCAST_STORAGE=azurite.connection_string)
            env = {name: value for name, value in env.items() if name not in {"COLUMNS", "LINES"}}  # as the terminal is
            code, written = await asyncio.to_thread(screens_of, env, "--all", columns=columns, lines=lines)
        finally:
            for record in records:
                await uploads.remove(record.name, some(await uploads.find(record.name)))
    assert code == 0, written
    assert written.index(ALTERNATE) < written.index(BACK)
    for screen in written.partition(BACK)[0].split(HOME)[2:-1]:
        shown = _ESCAPES.sub("", screen).replace("\r", "").split("\n")
        assert len(shown) == lines
        assert max(map(len, shown)) <= columns
        assert re.match(r"\d+ of \d+ live", shown[0])
        assert any("... more than fits here" in line for line in shown)
        assert not {"\u202e", "\x1b"} & set("".join(shown))
    assert re.search(r"\d+ of \d+ live", written.partition(BACK)[2])  # what was on the screen is gone with it
