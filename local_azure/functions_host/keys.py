"""The keys of the local Functions host: made once, kept in a file of the owner's alone, and compared here.

https://learn.microsoft.com/azure/azure-functions/function-keys-how-to
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from hmac import compare_digest
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

_KEY_BYTES = 40
_NAMES = ("master", "function", "eventgrid_extension")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKeys:
    """The host's keys.

    Attributes:
        master: Opens everything, `/admin` included.
        function: Opens every function whose level is `function`.
        eventgrid_extension: The system key of the Event Grid webhook.
    """

    master: str = field(repr=False)
    function: str = field(repr=False)
    eventgrid_extension: str = field(repr=False)

    def admit(self, request: web.Request, level: str) -> bool:
        """Whether a request may call something of a level: `anonymous`, `function`, `system` or `admin`."""
        if level == "anonymous":
            return True
        given = request.headers.get("x-functions-key") or request.query.get("code") or ""
        fitting = {
            "function": (self.master, self.function),
            "system": (self.master, self.eventgrid_extension),
            "admin": (self.master,),
        }[level]
        return any(compare_digest(key.encode(), given.encode()) for key in fitting)


def make_keys() -> HostKeys:
    """Make new keys."""
    return HostKeys(**{name: secrets.token_urlsafe(_KEY_BYTES) for name in _NAMES})


def keys_in(path: Path) -> HostKeys:
    """The keys kept in a file, which is made when it is not there.

    Raises:
        ConfigurationError: The file holds something else.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    keys = make_keys()
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(keys), file)
    return keys


def _read(path: Path) -> HostKeys:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return HostKeys(**{name: str(document[name]) for name in _NAMES})
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(f"{path} does not hold the keys of a Functions host: delete it") from None
