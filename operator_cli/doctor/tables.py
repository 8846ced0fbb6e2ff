"""What the tables hold: rows that cannot be read are named, and the others are handed to the checks that judge them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.errors import CertcastError, MissingError, NotSetUpError
from shared.state.findings import Finding, Look, Seen, Severity, bounded, finding_of
from shared.state.rows import UnreadableRow, Versioned

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.azure.account import Account
    from shared.state.rows import Rows

READ_S = 60.0
"""One table; there are as many reports as instances times bindings, and a look at some of them is one, too."""


@dataclass(slots=True)
class TableRead:
    """One table, as far as it was read.

    Attributes:
        rows: Those that can be read, where they are kept.
        read: How many these are.
        unreadable: The others.
        complete: Whether these are all.
    """

    rows: list[Versioned[Any]] = field(default_factory=list)
    read: int = 0
    unreadable: list[UnreadableRow] = field(default_factory=list)
    complete: bool = True


class Tables:
    """Reads each table once, whichever check asks first.

    Args:
        account: Whose tables.
        within_s: How long one is read.
    """

    def __init__(self, account: Account, within_s: float = READ_S) -> None:
        self._account = account
        self._within_s = within_s
        self._reading: dict[str, asyncio.Task[TableRead]] = {}
        state = account.state
        self._rows: dict[str, tuple[Rows[Any, Any], bool]] = {
            "uploads": (state.uploads, True),
            "bindings": (state.bindings, False),
            "instances": (state.instances, True),
            "installations": (state.installations, False),
            "history": (state.history, False),
        }

    async def close(self) -> None:
        """Read nothing any more."""
        for task in self._reading.values():
            task.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    async def table(self, name: str) -> TableRead:
        """Read a table, or wait until another has."""
        if name not in self._reading:
            self._reading[name] = asyncio.create_task(self._read(name), name=f"table {name}")
        return await asyncio.shield(self._reading[name])

    async def _read(self, name: str) -> TableRead:
        rows, kept = self._rows[name]
        table = TableRead()
        try:
            async with asyncio.timeout(self._within_s):
                async for known in rows.all(unreadable=table.unreadable):
                    table.read += 1
                    if kept:
                        table.rows.append(known)
        except TimeoutError:
            table.complete = False
        return table

    def judged(self, name: str, judge: Callable[[list[Versioned[Any]], datetime], Seen]) -> Look:
        """A look that judges the rows of a table by the time of the service's clock."""

        async def look() -> Seen:
            try:
                table = await self.table(name)
            except CertcastError:
                return Seen(remark=f"the table {name} could not be read, see above", looked=False)
            return judge(table.rows, self._account.clock.now())

        return look

    async def rows_seen(self) -> Seen:
        """Count the rows of every table, and name those that cannot be read."""
        findings: list[Finding] = []
        for name, result in zip(self._rows, await self._all(), strict=True):
            if isinstance(result, MissingError | NotSetUpError):
                continue  # told where tables are looked for
            if isinstance(result, CertcastError):
                findings.append(finding_of(result, f"table {name}"))
            elif isinstance(result, TableRead):
                findings += _about(name, result, self._within_s)
            else:
                raise result
        total = sum(each["read"] for each in self.counts().values())
        return Seen(remark=f"{total} were read", findings=bounded(findings))

    async def _all(self) -> list[TableRead | BaseException]:
        return await asyncio.gather(*map(self.table, self._rows), return_exceptions=True)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows of each table were read, and how many could not be."""
        tables = {name: task.result() for name, task in self._reading.items() if _succeeded(task)}
        return {name: {"read": each.read, "unreadable": len(each.unreadable)} for name, each in tables.items()}


def _succeeded(task: asyncio.Task[TableRead]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _about(name: str, table: TableRead, within_s: float) -> list[Finding]:
    findings = [
        Finding(
            code="unreadable_row",
            about=f"table {name}, row {row.partition}/{row.row}",
            detail=f"{row.reason}: delete it, unless a newer certcast wrote it",
        )
        for row in table.unreadable
    ]
    if not table.complete:
        detail = f"{table.read} rows were read within {within_s:g} s, and the rest was not looked at"
        findings.append(Finding(code="not_complete", about=f"table {name}", detail=detail, severity=Severity.WARNING))
    return findings
