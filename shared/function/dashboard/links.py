"""Addresses within the dashboard, which carry the function key on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

KEY = "code"
"""The query's name of a function key (learn.microsoft.com, "Work with access keys in Azure Functions")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes the addresses that a page needs; None as a value leaves a name out of a query.

    Attributes:
        base: Path of the fleet page, such as `/api/dashboard`.
        code: The function key that this request came with; empty where people sign in, or a header had the key.
        query: What this page was asked for, without the key.
        can_act: Whether this page may offer to change something.
    """

    base: str
    code: str = field(default="", repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    can_act: bool = True

    @property
    def carried(self) -> dict[str, str]:
        """Hidden fields of a form that is sent by GET: such a form replaces its address's query."""
        return {KEY: self.code} if self.code else {}

    def fleet(self, **query: str | None) -> str:
        """The fleet page."""
        return self._to("", query)

    def here(self, path: str = "", **changes: str | None) -> str:
        """A page, with this one's query but for some changes: another order, the next page.

        Args:
            path: Empty for the fleet page; else `history`.
            changes: What differs.
        """
        return self._to(path, {**self.query, **changes})

    def certificate(self, name: str, **query: str | None) -> str:
        """The page about one upload."""
        return self._to("certificate", {"name": name, **query})

    def history(self, **query: str | None) -> str:
        """The page of what changed."""
        return self._to("history", query)

    def asset(self, name: str) -> str:
        """A file that pages refer to."""
        return self._to(f"assets/{quote(name)}", {})

    def redeploy(self) -> str:
        """Where a form posts an upload's `name` to, to have it installed once more."""
        return self._to("redeploy", {})

    def _to(self, path: str, query: Mapping[str, str | None]) -> str:
        told = {name: value for name, value in query.items() if value is not None} | self.carried
        address = f"{self.base}/{path}" if path else self.base
        return f"{address}?{urlencode(told)}" if told else address
