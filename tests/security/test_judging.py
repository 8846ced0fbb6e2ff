"""Files that mean harm to those who open them: each ends in a verdict, within bounds, and holds up no other."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.errors import BusyError, UnavailableError
from shared.function.blob_event import Notice
from shared.function.intake import JUDGING, handle_notice, look_at, recheck
from shared.messages import RecheckUpload
from shared.state.records import UploadStatus
from shared.upload import UploadMetadata
from shared.validation import workers as pool
from shared.validation.judge import ValidationPolicy, judge_pfx
from shared.validation.judged import Judged
from shared.validation.tasks import Answer, Task
from shared.validation.trust import Trust
from shared.validation.worker import CPU_S, MEMORY_BYTES
from shared.validation.workers import MAX_WAITING, Workers
from shared.verdict import VerdictCode
from tests.rigs.attacks import PASSWORD, dear_file, key_of_a_wrong_length
from tests.rigs.certificates import self_signed
from tests.rigs.processes import alive
from tests.rigs.scenes import Scene
from tests.rigs.some import some

POLICY = ValidationPolicy(trust=Trust.from_setting("off"))
NOW = datetime.now(UTC)
DEAR = 900_000
"""Iterations of PBKDF2 twice over, for certificate and key: within the limit, and far beyond what is cheap."""


def task(content: bytes, password: str = PASSWORD) -> Task:
    return Task.of_pfx(content, UploadMetadata(), [password.encode()], now=NOW)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    opened = Workers(POLICY)
    yield opened
    await opened.close()


def sound() -> bytes:
    return self_signed("a.example.com").pfx(PASSWORD, iterations=2000)


def dear() -> bytes:
    return self_signed("a.example.com").pfx(PASSWORD, iterations=DEAR)


def codes(answer: Answer) -> list[VerdictCode]:
    return [violation.code for violation in some(answer.judged).violations]


class TestWhatIsRaised:
    def test_a_key_of_a_wrong_length_is_a_verdict(self) -> None:
        judgement = judge_pfx(key_of_a_wrong_length(), UploadMetadata(), [PASSWORD.encode()], policy=POLICY, now=NOW)
        assert [violation.code for violation in judgement.violations] == [VerdictCode.UNREADABLE_BUNDLE]

    @pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError, OverflowError, KeyError, BaseException])
    def test_whatever_is_raised_is_a_verdict_and_a_line_that_quotes_nothing(
        self, error: type[BaseException], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error("hunter2")

        monkeypatch.setattr("shared.validation.judge.open_pfx", fail)
        judgement = judge_pfx(sound(), UploadMetadata(), [PASSWORD.encode()], policy=POLICY, now=NOW)
        [violation] = judgement.violations
        assert violation.code is VerdictCode.UNREADABLE_BUNDLE
        assert error.__name__ in violation.detail
        assert error.__name__ in caplog.text
        assert "hunter2" not in caplog.text + violation.detail

    def test_a_person_who_interrupts_is_obeyed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("shared.validation.judge.open_pfx", interrupted)
        with pytest.raises(KeyboardInterrupt):
            judge_pfx(sound(), UploadMetadata(), [PASSWORD.encode()], policy=POLICY, now=NOW)


class TestCost:
    @pytest.mark.timeout(20)
    def test_twenty_files_that_ask_for_minutes_are_refused_in_no_time(self) -> None:
        began = time.process_time()
        for _ in range(20):
            judgement = judge_pfx(dear_file(4_900_000), UploadMetadata(), [PASSWORD.encode()], policy=POLICY, now=NOW)
            assert [violation.code for violation in judgement.violations] == [VerdictCode.KDF_TOO_EXPENSIVE]
        assert time.process_time() - began < 5

    @pytest.mark.parametrize(
        "options",
        [
            ["-iter", "600000"],
            ["-iter", "600000", "-macalg", "sha512"],
            ["-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC"],
            ["-legacy"],
            ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-iter", "50000"],
            ["-nomac", "-iter", "600000"],
        ],
        ids=" ".join,
    )
    async def test_what_tools_write_at_the_most_is_opened(
        self, options: list[str], tmp_path: Path, workers: Workers
    ) -> None:
        issued = self_signed("a.example.com")
        (tmp_path / "key.pem").write_bytes(issued.bundle().to_pem())
        command = [
            "openssl",
            "pkcs12",
            "-export",
            "-in",
            "key.pem",
            "-out",
            "x.pfx",
            "-passout",
            "pass:secret",
            *options,
        ]
        await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True, capture_output=True)
        answer = await workers.judge(task((tmp_path / "x.pfx").read_bytes(), "secret"))
        assert some(answer.judged).accepted, codes(answer)


class TestProcesses:
    async def test_judge_as_this_process_would(self, workers: Workers) -> None:
        wanted = task(sound())
        assert await workers.judge(wanted) == wanted.done(POLICY)
        answer = await workers.judge(task(sound(), "wrong"))
        assert codes(answer) == [VerdictCode.UNREADABLE_BUNDLE]

    async def test_cheap_files_pass_dear_ones(self, workers: Workers) -> None:
        await workers.judge(task(sound()))
        waiting = [asyncio.create_task(workers.judge(task(dear()))) for _ in range(5)]
        await asyncio.sleep(0.2)
        for _ in range(5):
            assert some((await workers.judge(task(sound()))).judged).accepted
        assert not waiting[-1].done()
        for each in await asyncio.gather(*waiting):
            assert some(each.judged).accepted

    async def test_too_many_dear_files_are_put_off(self, workers: Workers) -> None:
        waiting = [asyncio.create_task(workers.judge(task(dear()))) for _ in range(MAX_WAITING + 4)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        put_off = [each for each in found if isinstance(each, BusyError)]
        assert put_off
        assert all(isinstance(each, Answer | BusyError) for each in found)
        assert sum(isinstance(each, Answer) for each in found) >= MAX_WAITING

    async def test_one_that_is_killed_is_replaced_and_its_file_judged_again(self, workers: Workers) -> None:
        await workers.judge(task(sound()))
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        assert some((await workers.judge(task(sound()))).judged).accepted

    @pytest.mark.parametrize(
        "start",
        ["import os; os.kill(os.getpid(), 9)", "import no_such_module", "raise SystemExit(0)", "print('hello')"],
    )
    async def test_one_that_cannot_start_is_no_verdict_about_a_file(
        self, start: str, workers: Workers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "_START", start)
        with pytest.raises(UnavailableError, match="ended at once"):
            await workers.judge(task(sound()))

    async def test_one_that_is_killed_again_and_again_is_no_verdict(
        self, workers: Workers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "_START", HIJACKED.replace("DOING", "os.kill(os.getpid(), 9)"))
        with pytest.raises(UnavailableError, match="judged again"):
            await workers.judge(task(sound()))

    @pytest.mark.parametrize(
        ("doing", "said"),
        [
            ("while True: pass", "10 seconds of processor time"),
            ("x = bytearray(300_000_000)", "MemoryError"),
            ("os.abort()", "256 MiB"),
            ("os._exit(3)", "256 MiB"),
            ("sys.stdout.flush(); os.write(answers, b'rubbish' * 1000); time.sleep(30)", "nonsense"),
            ("os.write(answers, b'\\xff' * 4); time.sleep(30)", "nonsense"),
            ("os.write(answers, b'\\0\\0\\0\\x02{}'); os.write(answers, b'\\0\\0\\0\\x02{}')", None),
        ],
        ids=["endless", "memory", "abort", "exit", "rubbish", "too long", "two answers"],
    )
    async def test_one_that_a_file_takes_over_ends_in_a_verdict_and_the_next_file_is_judged(
        self, doing: str, said: str | None, workers: Workers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "_START", HIJACKED.replace("DOING", doing))
        monkeypatch.setattr("shared.validation.worker.CPU_S", CPU_S)
        answer = await workers.judge(task(sound()))
        if said is None:
            assert answer == Answer(), "an answer without a judgement, which the caller takes for none"
        else:
            [violation] = some(answer.judged).violations
            assert violation.code is VerdictCode.UNREADABLE_BUNDLE
            assert said in violation.detail
        monkeypatch.undo()
        await workers.close()
        assert some((await workers.judge(task(sound()))).judged).accepted

    async def test_have_no_secret_in_their_environment_and_end_with_their_parent(
        self, workers: Workers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CERTCAST_STORAGE", "AccountKey=hunter2")
        await workers.judge(task(sound()))
        pids = children()
        assert pids
        for pid in pids:
            assert b"hunter2" not in about(pid, "environ")
            assert PASSWORD.encode() not in about(pid, "cmdline")
            limits = about(pid, "limits").decode()
            assert f"Max address space         {MEMORY_BYTES}" in limits
            assert "Max core file size        0" in limits
        await workers.close()
        assert not [pid for pid in pids if alive(pid)]

    async def test_an_answer_to_somebody_who_left_is_nobodys(self, workers: Workers) -> None:
        await workers.judge(task(sound()))
        left = asyncio.create_task(workers.judge(task(dear())))
        await asyncio.sleep(0.3)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert some((await workers.judge(task(dear()))).judged).accepted


HIJACKED = """
import sys, os
sys.path[:] = sys.argv[2:]
from shared.validation import tasks, worker
import time
if sys.argv[1] == "--usual":
    worker.CHEAP_CPU_S = 0.2
answers = os.dup(1)
def done(self, policy):
    try:
        DOING
    except MemoryError:
        return tasks.Answer(judged=tasks.Judged.of(tasks.judge_pfx(b"", self.metadata, [], policy=policy, now=None)))
tasks.Task.done = done
import shared.validation.judge as judge
def broken(*a, **k): raise MemoryError
judge.open_pfx = broken
worker.main()
"""


def children() -> list[int]:
    """The pids of the processes that judge, by what their command lines say."""
    own = about(os.getpid(), f"task/{os.getpid()}/children").split()
    return [int(pid) for pid in own if b"validation.worker" in about(int(pid), "cmdline")]


def about(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


class Slow:
    """Judges so slowly that a test can look meanwhile."""

    def __init__(self) -> None:
        self.judged = 0
        self.at_it = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def judge(self, task: Task, *, on_slow: object = None) -> Answer:
        self.judged += 1
        if callable(on_slow):
            await on_slow()
        self.at_it.set()
        await self.may_answer.wait()
        return task.done(POLICY)


class TestOnce:
    async def test_a_version_that_is_being_judged_is_not_judged_again(self, scene: Scene) -> None:
        judges = Slow()
        notice = await scene.upload("a.pfx", "a.example.com")
        first = asyncio.create_task(look_at(replace(scene.cloud, judges=judges), notice))
        await judges.at_it.wait()
        other_machine = replace(scene.seen_by(no_step), judges=judges)
        for again in (notice, Notice(name="a.pfx")):
            record = some(await look_at(other_machine, again))
            assert (record.status, record.judging) == (UploadStatus.RECEIVED, notice.etag)
        judges.may_answer.set()
        record = some(await first)
        assert judges.judged == 1
        assert (record.status, record.judging) == (UploadStatus.ACCEPTED, "")

    async def test_a_version_that_was_judged_is_not_judged_again(self, scene: Scene) -> None:
        judges = Slow()
        judges.may_answer.set()
        cloud = replace(scene.cloud, judges=judges)
        notice = await scene.upload("a.pfx", "a.example.com", metadata={"CertificatePassword": "wrong"})
        for _ in range(5):
            await handle_notice(cloud, notice)
            await recheck(cloud, RecheckUpload(name="a.pfx"))
        assert (await scene.record("a.pfx")).status is UploadStatus.REJECTED
        assert judges.judged == 1

    async def test_one_whose_judge_died_is_judged_when_its_mark_has_run_out(self, scene: Scene) -> None:
        judges = Slow()
        notice = await scene.upload("a.pfx", "a.example.com")
        first = asyncio.create_task(look_at(replace(scene.cloud, judges=judges), notice))
        await judges.at_it.wait()
        assert some(await look_at(scene.seen_by(no_step), notice)).status is UploadStatus.RECEIVED
        scene.storage.clock.advance(JUDGING.total_seconds())
        assert some(await look_at(scene.seen_by(no_step), notice)).status is UploadStatus.ACCEPTED
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    async def test_one_that_was_put_off_is_looked_at_again_soon(self, scene: Scene) -> None:
        class Full:
            async def judge(self, task: Task, *, on_slow: object = None) -> Answer:  # noqa: ARG002 - none is taken
                raise BusyError("too many")

        notice = await scene.upload("a.pfx", "a.example.com")
        full = replace(scene.cloud, judges=Full())
        await handle_notice(full, notice)
        [(delay_s, message)] = await scene.rechecks()
        assert delay_s == 2
        await recheck(full, message)
        assert sorted(delay_s for delay_s, _ in await scene.rechecks()) == [2, 5]
        assert some(await recheck(scene.cloud, message)).status is UploadStatus.ACCEPTED


async def no_step(_what: str) -> None:
    pass


def test_what_leaves_the_process_is_a_value_without_a_key_object() -> None:
    answer = task(sound()).done(POLICY)
    judged = some(answer.judged)
    assert isinstance(judged, Judged)
    assert "PRIVATE KEY" not in repr(judged)
    assert "PRIVATE KEY" in some(judged.bundle).pem
