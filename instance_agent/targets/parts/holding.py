"""One agent for one server: a lock on a file that only the agent's account can open, held as long as the agent runs."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from instance_agent.targets.parts.locking import locked
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME = ".agent.lock"


@contextmanager
def holding(folder: Path, server: str, *, name: str = LOCK_NAME) -> Iterator[None]:
    """Keep other agents of this machine from a server; the system lets go when this process ends, however it ends.

    Args:
        folder: The server's folder that is certcast's alone.
        server: What names the server, for people.
        name: The lock file's.

    Raises:
        ConfigurationError: Another agent holds the lock, or the file cannot be opened.
    """
    path = folder / name
    with ExitStack() as held:
        try:
            held.enter_context(locked(path, timeout_s=0))
        except TimeoutError:
            raise ConfigurationError(
                f"another agent of this machine has {server}: it holds the lock {path}; stop that agent (`fuser -v "
                f"{path}` names it), or give this one a server of its own"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"the lock {path}, which keeps a second agent from {server}, cannot be taken: {error.strerror}"
            ) from None
        yield
