import asyncio
import os
import re
import signal
import subprocess
import sys

import pytest

from local_azure.processes import tether
from local_azure.processes.child import ChildEndedError, start_child
from tests.rigs.processes import alive, eventually, linux_only

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
POLITE = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
print("up", flush=True)
while not asked:  # in short sleeps, because a signal just before a sleep does not end it
    time.sleep(0.02)
print("said goodbye", flush=True)
sys.exit(7)
"""
FAMILY = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
near = subprocess.Popen(sleeper)
far = subprocess.Popen(sleeper, start_new_session=True)
print("family", os.getpid(), near.pid, far.pid, flush=True)
time.sleep(600)
"""
PARENT = f"""
import asyncio, sys
from local_azure.processes.child import start_child
async def main():
    def show(_name, line):
        print(line, flush=True)
    child = await start_child("family", [sys.executable, "-c", {FAMILY!r}], on_line=show)
    await child.wait()
asyncio.run(main())
"""
UP = re.compile(r"^up$")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@linux_only
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_parent_dies_by_any_signal_children_and_grandchildren_are_gone(with_signal: signal.Signals) -> None:
    with subprocess.Popen(
        python(PARENT), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()[1:]]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        parent.send_signal(with_signal)
        assert eventually(lambda: not any(alive(pid) for pid in pids))


@linux_only
async def test_when_the_tether_itself_is_killed_the_child_and_its_group_die_too() -> None:
    child = await start_child("family", python(FAMILY))
    found = await child.line_matching(re.compile(r"family (\d+) (\d+) (\d+)"), timeout_s=20)
    assert child.pid == int(found[1])
    os.kill(int(found[3]), signal.SIGKILL)  # out of reach in this case: in a session of its own, adopted by init
    child._tether.kill()
    assert await child.wait() == -signal.SIGKILL
    assert await asyncio.to_thread(eventually, lambda: not any(alive(int(pid)) for pid in found.groups()))


@linux_only
async def test_a_child_that_ends_leaves_no_grandchildren_behind() -> None:
    code = FAMILY.replace("time.sleep(600)\n", "").replace("import time; ", "import time; time.sleep(600); ")
    child = await start_child("family", python(code))
    found = await child.line_matching(re.compile(r"family (\d+) (\d+) (\d+)"), timeout_s=20)
    assert await child.wait() == 0
    assert not any(alive(int(pid)) for pid in found.groups())


async def test_a_stopped_child_may_say_goodbye_and_its_exit_code_is_kept() -> None:
    child = await start_child("polite", python(POLITE))
    await child.line_matching(UP, timeout_s=20)
    assert await child.stop() == 7
    assert child.last_lines[-1] == "said goodbye"
    assert child.returncode == 7


async def test_a_killed_child_may_not_say_goodbye() -> None:
    child = await start_child("polite", python(POLITE))
    await child.line_matching(UP, timeout_s=20)
    assert await child.kill() == 128 + signal.SIGKILL
    assert child.last_lines == ["up"]


async def test_a_child_that_ignores_the_signal_is_killed_after_its_grace_period() -> None:
    child = await start_child("stubborn", python(STUBBORN), grace_s=0.2)
    await child.line_matching(UP, timeout_s=20)
    assert await child.stop() == 128 + signal.SIGKILL


async def test_stopping_twice_or_after_the_end_is_no_error() -> None:
    child = await start_child("brief", python("print('done')"))
    assert await child.wait() == 0
    assert await child.stop() == 0
    assert await child.kill() == 0


async def test_output_is_handed_over_line_by_line() -> None:
    seen: list[tuple[str, str]] = []
    code = r"""
import sys
print('one', flush=True)
print('two', file=sys.stderr, flush=True)
sys.stdout.buffer.write(b'\xff no newline')
"""
    child = await start_child("brief", python(code), on_line=lambda name, line: seen.append((name, line)))
    await child.wait()
    assert seen == [("brief", "one"), ("brief", "two"), ("brief", "\ufffd no newline")]


async def test_a_child_that_writes_more_than_a_pipe_holds_is_never_blocked() -> None:
    child = await start_child(
        "loud", python("print('x' * 99 + '\\n', end='') or [print('x' * 99) for _ in range(20000)]")
    )
    assert await child.wait() == 0


async def test_a_line_may_be_of_any_length() -> None:
    child = await start_child("long", python("print('x' * 1_000_000, flush=True); print('end')"))
    await child.line_matching(re.compile("^end$"), timeout_s=20)
    assert [len(line) for line in child.last_lines] == [1_000_000, 3]
    assert await child.wait() == 0


@linux_only
async def test_a_process_out_of_reach_that_keeps_the_output_open_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("local_azure.processes.child._LAST_OUTPUT_S", 0.2)
    child = await start_child("family", python(FAMILY))
    found = await child.line_matching(re.compile(r"family (\d+) (\d+) (\d+)"), timeout_s=20)
    child._tether.kill()
    assert await asyncio.wait_for(child.wait(), 10) == -signal.SIGKILL
    os.kill(int(found[3]), signal.SIGKILL)


async def test_a_child_is_asked_until_it_is_ready_has_ended_or_took_too_long() -> None:
    asked: list[int] = []

    async def third_time() -> bool:
        asked.append(1)
        return len(asked) == 3

    async def never() -> bool:
        return False

    child = await start_child("polite", python(POLITE))
    await child.until(third_time, timeout_s=20, every_s=0.01)
    with pytest.raises(ChildEndedError, match="polite is not ready in time"):
        await child.until(never, timeout_s=0.05, every_s=0.01)
    await child.line_matching(UP, timeout_s=20)
    await child.stop()
    with pytest.raises(ChildEndedError, match=r"polite ended with exit code 7; its last lines: up \| said goodbye"):
        await child.until(never, timeout_s=20, every_s=0.01)


async def test_waiting_for_a_line_fails_with_the_last_lines_when_the_child_ends_first() -> None:
    child = await start_child("brief", python("print('no luck today'); raise SystemExit(3)"))
    with pytest.raises(ChildEndedError, match=r"brief ended with exit code 3; .*no luck today"):
        await child.line_matching(UP, timeout_s=20)
    with pytest.raises(ChildEndedError, match="exit code 3"):
        await child.line_matching(UP, timeout_s=20)


async def test_waiting_for_a_line_that_never_comes_ends_in_time() -> None:
    child = await start_child("stubborn", python(STUBBORN))
    await child.line_matching(UP, timeout_s=20)
    with pytest.raises(ChildEndedError, match=r"stubborn is not ready in time; its last lines: up"):
        await child.line_matching(re.compile("never said"), timeout_s=0.3)
    await child.kill()


async def test_a_cancelled_wait_leaves_the_child_running_and_makes_no_noise() -> None:
    child = await start_child("polite", python(POLITE))
    waiting = asyncio.create_task(child.wait())
    await child.line_matching(UP, timeout_s=20)
    waiting.cancel()
    assert child.returncode is None
    assert await child.stop() == 7


async def test_a_program_that_does_not_exist_is_one_line() -> None:
    child = await start_child("missing", ["/no/such/program"])
    assert await child.wait() == 127
    assert child.last_lines == ["/no/such/program could not be started: No such file or directory"]


def test_ctrl_c_means_nothing_to_the_tether_itself() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            tether.__file__,
            "5",
            *python("print('up', flush=True); import time; time.sleep(600)"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as wrapper:
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline().startswith(tether.PID_MARK)
        assert wrapper.stdout.readline() == b"up\n"
        wrapper.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            wrapper.wait(timeout=0.3)
        out, noise = wrapper.communicate()
        assert (out, noise) == (b"", b"")
        assert wrapper.returncode == 128 + signal.SIGTERM
