"""Addresses of keys and secrets in Key Vault, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_WITH_VERSION = 3
_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultObject:
    """A key or secret (learn.microsoft.com, "Azure Key Vault keys, secrets, and certificates overview").

    Attributes:
        vault: The vault's host name.
        name: Its name, in lower case: vaults do not tell the cases apart.
        version: Its version; empty for the current one.
    """

    vault: str
    name: str
    version: str = ""

    @classmethod
    def of(cls, url: str, kind: Literal["keys", "secrets"]) -> VaultObject | None:
        """Take an address apart; None when it is not one of that kind."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return None
        path = parts.path.strip("/").split("/")
        usual = parts.scheme == "https" and parts.hostname and port in {None, _HTTPS_PORT}
        if not usual or parts.query or parts.fragment or path[0] != kind or len(path) not in {2, _WITH_VERSION}:
            return None
        if not all(path):
            return None
        version = path[2] if len(path) == _WITH_VERSION else ""
        return cls(vault=(parts.hostname or "").lower(), name=path[1].lower(), version=version)
