"""An agent as a child process, ready once its row in the table `instances` says so."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from local_azure.processes.child import start_child
from local_azure.processes.component import becoming_ready
from shared.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local_azure.processes.child import ChildProcess, OnLine
    from shared.azure.account import Account

_READY_S = 120.0
_LOOK_EVERY_S = 0.1


async def start_agent(
    name: str, *, folder: Path, account: Account, environment: Mapping[str, str], on_line: OnLine
) -> ChildProcess:
    """Start `instance_agent run` under an instance id, and wait until everything desired has been applied.

    Raises:
        ConfigurationError: A setting is wrong, or what its target needs is not installed.
        ChildEndedError: It did not become ready.
    """
    process = await start_child(
        name,
        [sys.executable, "-m", "instance_agent", "run"],
        environment={**environment, "CERTCAST_INSTANCE": name},
        folder=folder,
        on_line=on_line,
        grace_s=20.0,
    )
    async with becoming_ready(process):
        await process.until(partial(_ready, account, process), timeout_s=_READY_S, every_s=_LOOK_EVERY_S)
    return process


async def _ready(account: Account, process: ChildProcess) -> bool:
    """Whether the row is of this very process, and says it is ready: an earlier one's row may still be there."""
    try:
        record = await account.state.instances.get(process.name)
    except UnavailableError:
        return False
    return record is not None and record.ready and record.session.split("/")[1:2] == [str(process.pid)]
