"""Which addresses nginx has a default server for: it allows one for each address and port, ours or somebody else's."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from instance_agent.targets.nginx.settings import NginxSettings

Address = tuple[str, int]
"""An IP address in its usual form, and a port."""

_LISTEN = re.compile(r"(?:^|(?<=[;{}]))\s*listen\s+([^;{}]+);", re.MULTILINE)
_OURS = re.compile(r"^(\s*listen (\S+) [^;]*?) default_server", re.MULTILINE)
_DUPLICATE = re.compile(r"a duplicate default server for (\S+) in ")
_CLAIMS = {"default_server", "default"}  # the second is its name before 0.8.21
_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - as nginx calls it
_USUAL_PORT = 80
_NOT_KNOWN = "another file of its configuration"


def taken_by_others(files: Mapping[str, str], settings: NginxSettings) -> dict[int, str]:
    """The PortNumbers whose default server is not ours, and the file that says so; may ask the resolver.

    Args:
        files: nginx's configuration, each file with its text.
        settings: Our own settings.
    """
    claimed: dict[Address, str] = {}
    for name, text in files.items():
        if not name.startswith(f"{settings.folder}/"):
            claimed |= dict.fromkeys(_claimed_in(text), name)
    return {
        port: claimed[address]
        for port in settings.ports
        for address in addresses_of(_listen_of(settings, port))
        if address in claimed
    }


def not_claimed_in(text: str, settings: NginxSettings) -> dict[int, str]:
    """The PortNumbers that our own text leaves to another default server, where nothing else is known of it."""
    claimed = set(_claimed_in(text))
    return {port: _NOT_KNOWN for port in settings.ports if not claimed & set(addresses_of(_listen_of(settings, port)))}


def duplicate_in(said: str) -> Address | None:
    """The address that nginx says two files are the default server of; None where it says something else."""
    found = _DUPLICATE.search(said)
    return next(addresses_of(found[1]), None) if found else None


def without_default(text: str, address: Address) -> str:
    """Our own text, no longer the default server of an address."""
    return _OURS.sub(lambda found: found[1] if address in set(addresses_of(found[2])) else found[0], text)


def addresses_of(listen: str) -> Iterator[Address]:
    """What the first argument of a `listen` directive stands for; nothing for a unix socket."""
    text = listen.strip("\"'")
    if text.startswith("unix:"):
        return
    if re.fullmatch(r"[0-9-]+", text):
        host, ports = _EVERY_ADDRESS, text
    elif text.startswith("["):
        host, _, ports = text[1:].partition("]")
        ports = ports.removeprefix(":")
    else:
        host, _, ports = text.partition(":")
    first, _, last = (ports or str(_USUAL_PORT)).partition("-")
    if first.isdecimal() and (not last or last.isdecimal()):
        for each in _resolved(host):
            for port in range(int(first), int(last or first) + 1):
                yield each, port


def _claimed_in(text: str) -> Iterator[Address]:
    for found in _LISTEN.finditer(text):
        where, *options = found[1].split()
        if _CLAIMS & set(options):
            yield from addresses_of(where)


def _listen_of(settings: NginxSettings, port: int) -> str:
    return f"{settings.endpoints.address}:{settings.endpoints.listened_on(port)}"


def _resolved(host: str) -> Iterator[str]:
    if host == "*":
        yield _EVERY_ADDRESS
        return
    try:
        yield str(ipaddress.ip_address(host))
    except ValueError:
        with suppress(
            OSError, UnicodeError
        ):  # nginx resolves names when it reads its configuration, with the same call
            yield from {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
