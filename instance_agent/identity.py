"""Under which ids one agent may run, and whose process a row of `instances` tells of."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MACHINE_ID = Path("/etc/machine-id")
_TOKEN_CHARS = 8
_SESSION = re.compile(r"(?P<host>[^/]*)/(?P<pid>[0-9]{1,9})/(?P<mark>[0-9a-f]{8})-[0-9a-f]{8}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process of an agent, which has its server's lock (`BindingTarget.held`).

    Attributes:
        asked_id: The instance id of the settings.
        host: Machine name.
        mark: Stands for this machine and its server; the same at each start.
        session: Names this process among all that ever used an id: `host/pid/mark-random`.
    """

    asked_id: str
    host: str
    mark: str
    session: str

    @classmethod
    def of(cls, asked_id: str, *, host: str, server: str) -> Identity:
        """The identity of this process.

        Args:
            asked_id: As in the settings.
            host: Machine name.
            server: What names the web server on this machine (`BindingTarget.place`).
        """
        mark = mark_of(host, server)
        session = f"{host}/{os.getpid()}/{mark}-{secrets.token_hex(4)}"
        return cls(asked_id=asked_id, host=host, mark=mark, session=session)

    @property
    def derived_id(self) -> str:
        """What is taken where the id that was asked for is in use elsewhere; restarts take the same."""
        return f"{self.asked_id}~{self.mark}"

    def others(self, than: str) -> Iterator[str]:
        """The ids to go on with when one turns out to be in use: the derived one, then one that no other can know."""
        if than == self.asked_id:
            yield self.derived_id
        yield f"{self.asked_id}~{secrets.token_hex(_TOKEN_CHARS // 2)}"

    def is_ours(self, session: str) -> bool:
        """Whether a session is of this machine and server: this process, or one that ended, since we have the lock."""
        return mark_in(session) == self.mark

    def has_ended(self, session: str) -> bool:
        """Whether a session is known to be of a process that ended: of this server, or of this machine by its pid."""
        found = _SESSION.match(session)
        if found is None:
            return False
        return self.is_ours(session) or (found["host"] == self.host and not _is_running(int(found["pid"])))


def mark_of(host: str, server: str) -> str:
    """Eight hex digits that stand for one server on one machine.

    Machines made from one image share both names; theirs is told apart by the rows, and one of them runs under a
    random id.
    """
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return hashlib.sha256(f"{machine}\n{host}\n{server}".encode()).hexdigest()[:_TOKEN_CHARS]


def mark_in(session: str) -> str | None:
    """The mark that a session is of; None for what is no session."""
    found = _SESSION.match(session)
    return None if found is None else found["mark"]


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
