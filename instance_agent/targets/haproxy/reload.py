"""HAProxy's reload, which reads what its socket cannot carry from files."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.parts import commands
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from instance_agent.targets.haproxy.session import Identity

_COMMAND_TIMEOUT_S = 60.0
_TAKE_OVER_TIMEOUT_S = 120.0  # 10,000 certificates take about 13 s to load
_PAUSE_S = 0.05


@asynccontextmanager
async def reloaded(
    command: Sequence[str], socket: Path, old: tuple[str, str]
) -> AsyncIterator[tuple[Session, Identity]]:
    """Run the reload command and talk to the process that then answers.

    Old and new process accept connections on one socket for a moment: a further conversation may be with the old one.

    Args:
        command: Program and arguments; no shell is involved.
        socket: The admin socket.
        old: The process that is to be replaced.

    Raises:
        ServerUnavailableError: The command failed, or no new process took over; the old one goes on.
    """
    try:
        finished = await commands.run(command, timeout_s=_COMMAND_TIMEOUT_S)
    except ConfigurationError as error:
        raise ServerUnavailableError(f"CERTCAST_HAPROXY_RELOAD: {error}") from error
    if (failure := finished.failure) is not None:
        raise ServerUnavailableError(f"CERTCAST_HAPROXY_RELOAD: {failure}")
    async with AsyncExitStack() as stack:
        yield await _taken_over(socket, old, stack)


async def _taken_over(socket: Path, old: tuple[str, str], stack: AsyncExitStack) -> tuple[Session, Identity]:
    deadline = asyncio.get_running_loop().time() + _TAKE_OVER_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(ServerUnavailableError):
            async with AsyncExitStack() as meanwhile:
                session = await meanwhile.enter_async_context(Session(socket))
                identity = await session.identity()
                if identity.process != old and not identity.stopping:
                    stack.push_async_exit(meanwhile.pop_all())
                    return session, identity
        await asyncio.sleep(_PAUSE_S)
    raise ServerUnavailableError(
        f"no new HAProxy process took over within {_TAKE_OVER_TIMEOUT_S:g} s of the reload: look at its log, "
        "`haproxy -c -f haproxy.cfg` names what it does not take"
    )
