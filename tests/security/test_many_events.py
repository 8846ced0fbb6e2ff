"""As many events at once as one instance of the Function may get: bounded processes and memory, and an end for each."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.function.deadlines import EVENT_S
from shared.function.intake import handle_notice
from shared.state.records import UploadStatus
from shared.validation.judge import ValidationPolicy
from shared.validation.trust import Trust
from shared.validation.worker import MEMORY_BYTES
from shared.validation.workers import DEAR_AT_ONCE, MAX_WAITING, TRIED_AT_ONCE, Workers
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import FakeClock
from tests.rigs.attacks import PASSWORD
from tests.rigs.certificates import self_signed
from tests.rigs.processes import linux_only
from tests.rigs.scenes import Scene

AT_ONCE = 16
"""The largest `perInstanceConcurrency` for HTTP that docs/deploy.md advises."""
DEAR = 900_000
MEGABYTE = 1024 * 1024
POLICY = ValidationPolicy(trust=Trust.from_setting("off"))

pytestmark = [linux_only, pytest.mark.timeout(120)]


def file(number: int) -> bytes:
    """What is dear to open, what is as large as a file may be, and what is neither."""
    if number < MAX_WAITING + 4:
        return self_signed(f"h{number}.example.com").pfx(PASSWORD, iterations=DEAR)
    return os.urandom(MEGABYTE) if number % 2 else self_signed(f"h{number}.example.com").pfx(PASSWORD, iterations=2000)


def children() -> int:
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return sum(b"validation.worker" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in own)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    opened = Workers(POLICY)
    yield opened
    await opened.close()


async def most_children(work: Awaitable[object]) -> int:
    most, doing = 0, asyncio.ensure_future(work)
    while not doing.done():
        most = max(most, children())
        await asyncio.wait([doing], timeout=0.05)
    await doing
    return most


async def test_sixteen_events_at_once_end_in_a_verdict_or_in_another_look(workers: Workers) -> None:
    scene = Scene(FakeStorage(FakeClock(datetime.now(UTC))))
    metadata = {"CertificatePassword": PASSWORD}
    notices = [
        await scene.upload(f"{number:02}.pfx", content=file(number), metadata=metadata) for number in range(AT_ONCE)
    ]
    cloud = replace(scene.cloud, judges=workers, policy=POLICY)
    loop, memory = asyncio.get_running_loop(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = loop.time()

    most = await most_children(asyncio.gather(*(handle_notice(cloud, notice) for notice in notices)))

    assert loop.time() - began < EVENT_S + 5
    assert most <= TRIED_AT_ONCE + DEAR_AT_ONCE
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
    assert grown < AT_ONCE * 6 * MEGABYTE, "each holds its file, and what is sent of it"
    assert most * MEMORY_BYTES < 1024 * MEGABYTE, "and the processes leave half of an instance's 2 GiB"
    put_off = {message.name for _, message in await scene.rechecks()}
    for notice in notices:
        record = await scene.record(notice.name)
        judged = record.status in {UploadStatus.ACCEPTED, UploadStatus.REJECTED}
        assert judged or notice.name in put_off, (notice.name, record.status)
        assert record.judging == "", notice.name
    assert put_off, "more were dear than may wait"
