"""The keys of the local Functions host: made once, kept in a file of the owner's alone, and compared here.

https://learn.microsoft.com/azure/azure-functions/function-keys-how-to
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

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

    def opens(self, level: str, given: str | None) -> bool:
        """Whether a key may call something of a level: `anonymous`, `function`, `system` or `admin`."""
        if level == "anonymous":
            return True
        fitting = {
            "function": (self.master, self.function),
            "system": (self.master, self.eventgrid_extension),
            "admin": (self.master,),
        }[level]
        return any(compare_digest(key.encode(), (given or "").encode()) for key in fitting)


def make_keys() -> HostKeys:
    """Make new keys."""
    master, function, eventgrid = (secrets.token_urlsafe(_KEY_BYTES) for _ in _NAMES)
    return HostKeys(master=master, function=function, eventgrid_extension=eventgrid)


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
        json.dump({name: getattr(keys, name) for name in _NAMES}, file)
    return keys


def _read(path: Path) -> HostKeys:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        master, function, eventgrid = (str(document[name]) for name in _NAMES)
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(f"{path} does not hold the keys of a Functions host: delete it") from None
    return HostKeys(master=master, function=function, eventgrid_extension=eventgrid)
