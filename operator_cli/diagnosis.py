"""What keeps certcast from doing its work, as far as settings and the storage account show it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from operator_cli.account_choice import TRUST_SETTING
from shared.azure.policy_source import policy_source
from shared.config import POLICY_SETTING, PORTS_SETTING, ports, switch
from shared.errors import CertcastError, ConfigurationError, MissingError, NotSetUpError
from shared.validation.policy_text import FaultyPolicyError, read_policy, warnings_about
from shared.validation.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shared.azure.account import Account
    from shared.state.rows import Rows, UnreadableRow
    from shared.state.tables import State

NAMED_ROWS = 50
"""Unreadable rows of one table that are named; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong.

    Attributes:
        code: Its kind, stable.
        about: Which setting, table, queue.
        detail: What is wrong and what to do.
    """

    code: str
    about: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCount:
    """The rows of one table.

    Attributes:
        read: Those that could be.
        unreadable: Those that could not.
    """

    read: int
    unreadable: int


@dataclass(slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        problems: What is wrong.
        warnings: What is seldom meant.
        rows: By table.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: dict[str, RowCount] = field(default_factory=dict)

    def wrong(self, code: str, about: str, detail: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(code=code, about=about, detail=detail))

    def document(self) -> dict[str, Any]:
        """The document of `doctor --json`."""
        return {
            "ok": not self.problems,
            "problems": [{"code": each.code, "about": each.about, "detail": each.detail} for each in self.problems],
            "warnings": self.warnings,
            "rows": {name: {"read": rows.read, "unreadable": rows.unreadable} for name, rows in self.rows.items()},
        }

    @contextmanager
    def looking(self, about: str) -> Iterator[None]:
        """Note what cannot be looked at, and go on with the rest."""
        try:
            yield
        except (MissingError, NotSetUpError) as error:
            self.wrong("missing", about, f"{error}; deploy certcast, or start `certcast up`")
        except ConfigurationError as error:
            self.wrong("setting", about, str(error))
        except CertcastError as error:
            self.wrong("unreachable", about, str(error))


def look_at_settings(found: Diagnosis, env: Mapping[str, str]) -> None:
    """Check the settings that this environment has; one that it lacks may be set where the Function runs."""
    checks: dict[str, Callable[[], object]] = {
        TRUST_SETTING: lambda: Trust.from_setting(env[TRUST_SETTING]),
        PORTS_SETTING: lambda: ports(env),
        "CERTCAST_SCRUB_PASSWORD": lambda: switch(env, "CERTCAST_SCRUB_PASSWORD", default=True),
    }
    for name, check in checks.items():
        if env.get(name, "").strip():
            with found.looking(name):
                check()


async def look_at_policy(found: Diagnosis, setting: str, account: Account | None) -> None:
    """Check the policy that a setting names; there is none where it is empty."""
    if not setting:
        return
    with found.looking(POLICY_SETTING):
        text = await policy_source(setting, account)()
        try:
            found.warnings += warnings_about(read_policy(text))
        except FaultyPolicyError as error:
            for fault in error.faults:
                found.wrong("policy", POLICY_SETTING, fault)


async def look_at_account(found: Diagnosis, account: Account) -> None:
    """Check what the storage account holds."""
    with found.looking("containers and queues"):
        for absent in await account.missing():
            found.wrong("missing", absent, "it is not there: deploy certcast, or start `certcast up`")
    for name, rows in _tables(account.state).items():
        with found.looking(f"table {name}"):
            await _look_at_rows(found, name, rows)
    with found.looking("poison queues"):
        await _look_at_poison(found, account)


def _tables(state: State) -> dict[str, Rows[Any, Any]]:
    return {
        "uploads": state.uploads,
        "bindings": state.bindings,
        "instances": state.instances,
        "installations": state.installations,
    }


async def _look_at_rows(found: Diagnosis, name: str, rows: Rows[Any, Any]) -> None:
    unreadable: list[UnreadableRow] = []
    read = 0
    async for _ in rows.all(unreadable=unreadable):
        read += 1
    found.rows[name] = RowCount(read=read, unreadable=len(unreadable))
    for row in unreadable[:NAMED_ROWS]:
        about = f"table {name}, row {row.partition}/{row.row}"
        found.wrong("unreadable_row", about, f"{row.reason}: delete it, unless a newer certcast wrote it")
    if len(unreadable) > NAMED_ROWS:
        found.wrong("unreadable_row", f"table {name}", f"{len(unreadable) - NAMED_ROWS} more rows cannot be read")


async def _look_at_poison(found: Diagnosis, account: Account) -> None:
    queues = account.queues
    for queue in [name async for name in queues.names("") if name.endswith("-poison")]:
        length = await queues.length(queue)
        if length:
            found.wrong(
                "poison_messages",
                f"queue {queue}",
                f"{length} message(s) could not be read, or failed again and again: look at the log of that time, then "
                "clear the queue",
            )
