"""Judging without processes: as quick as it gets, for tests that are about something else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.validation.judge import ValidationPolicy
from shared.validation.tasks import Answer, Task


@dataclass(frozen=True, slots=True)
class InThread:
    """Judges in a thread of this process, as `shared.validation.workers.Judges`.

    Attributes:
        policy: What is accepted.
    """

    policy: ValidationPolicy

    async def judge(self, task: Task, *, on_slow: Callable[[], Awaitable[None]] | None = None) -> Answer:  # noqa: ARG002 - nothing is slow here
        return await asyncio.to_thread(task.done, self.policy)
