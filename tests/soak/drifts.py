"""The book of what a soak changed by hand: when it was done, seen, found and put right, and what came in between."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from operator_cli.demo.handmade import BEHIND
from tests.soak.plan import How

_FOUND = re.compile(rf"(?P<host>[\w.*-]+):443 (?:{BEHIND}|was no longer bound)")


@dataclass(slots=True, kw_only=True)
class Drift:
    """One change by hand. Times are seconds of one clock; None for what did not happen.

    Attributes:
        instance: The instance's id.
        target: What it serves from.
        host: The host.
        how: What was done.
        made: When the server had been told.
        fingerprint: What was put in the certificate's place; empty where it was taken away.
        seen: When a client first saw it.
        found: When the agent said that it had found it.
        right: When clients saw again what they must.
        stays: Whether certcast cannot put it right.
        overtaken: What the soak did meanwhile that changes the same thing; empty where it was left alone.
        told: Set once it was found, or overtaken.
        over: Set once it is not watched any more.
    """

    instance: str
    target: str
    host: str
    how: How
    made: float
    fingerprint: str = ""
    seen: float | None = None
    found: float | None = None
    right: float | None = None
    stays: bool = False
    overtaken: str = ""
    told: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __str__(self) -> str:
        return f"{self.host} on {self.instance} ({self.target}), {self.how} by hand"

    def wrong(self) -> str:
        """What should have come of it and did not; empty where all did."""
        if self.overtaken:
            return ""
        missing = [
            what
            for what, at in (("seen by clients", self.seen), ("found in the log", self.found), ("right", self.right))
            if at is None
        ]
        return f"{self}: never {', nor '.join(missing)}" if missing else ""


class Drifts:
    """All of them."""

    def __init__(self) -> None:
        self.all: list[Drift] = []

    def begun(self, drift: Drift) -> Drift:
        """Enter one."""
        self.all.append(drift)
        return drift

    def is_open(self, instance: str, host: str | None = None) -> bool:
        """Whether one is watched there; for any host where none is given."""
        return any(
            not each.over.is_set() and each.instance == instance and host in {None, each.host} for each in self.all
        )

    def count(self, instance: str, host: str) -> int:
        """How many there were of one binding on one instance."""
        return sum((each.instance, each.host) == (instance, host) for each in self.all)

    def overtake(self, why: str, *, hosts: frozenset[str] | None = None, instance: str | None = None) -> None:
        """The soak does something itself where changes were made by hand that are not all found and put right yet.

        Args:
            why: What it does.
            hosts: The hosts that are served otherwise by it; None for all.
            instance: Where; None for everywhere.
        """
        for each in self.all:
            pending = each.found is None or each.right is None
            if pending and instance in {None, each.instance} and (hosts is None or each.host in hosts):
                each.overtaken = each.overtaken or why
                each.told.set()

    def heard(self, component: str, line: str, at: float) -> None:
        """Take in a line of the log."""
        if (found := _FOUND.search(line)) is None:
            return
        for each in self.all:
            if (each.instance, each.host) == (component, found["host"]) and each.found is None:
                each.found = at
                each.told.set()
