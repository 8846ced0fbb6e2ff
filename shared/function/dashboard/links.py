"""The addresses that pages link to, which carry on what let their reader in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE = "code"
"""The query's name for a function key (learn.microsoft.com, "Work with access keys in Azure Functions")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes the addresses of one reader's pages.

    Attributes:
        base: The path of the fleet page, without a slash at its end.
        code: The function key that the reader's own address has; empty where something else let them in.
    """

    base: str = "/api/dashboard"
    code: str = field(default="", repr=False)

    @property
    def carried(self) -> Mapping[str, str]:
        """What a form that is sent by GET has to hold besides its fields: its action's query is not sent."""
        return {CODE: self.code} if self.code else {}

    def fleet(self, query: Mapping[str, str] | None = None) -> str:
        """The fleet page, with what is asked of it."""
        return self._address("", query or {})

    def certificate(self, name: str, query: Mapping[str, str] | None = None) -> str:
        """The page of one upload."""
        return self._address("/certificate", {"name": name, **(query or {})})

    def history(self, query: Mapping[str, str] | None = None) -> str:
        """What became of uploads, with what is asked of it."""
        return self._address("/history", query or {})

    def redeploy(self, name: str) -> str:
        """Where the order to install an upload once more is sent by POST."""
        return self._address("/redeploy", {"name": name})

    def asset(self, name: str) -> str:
        """A style sheet, script or picture."""
        return self._address(f"/assets/{quote(name)}", {})

    def _address(self, path: str, query: Mapping[str, str]) -> str:
        asked = urlencode({**query, **self.carried}, errors="surrogatepass", quote_via=quote)
        return f"{self.base}{path}?{asked}" if asked else f"{self.base}{path}"
