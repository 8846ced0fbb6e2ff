"""Which hosts a wildcard's entry leaves out, since HAProxy prefers a key's type to an exact name.

Of all entries for a name, exact or wildcard, HAProxy takes the first with an EC key for clients that it believes to
take those, and the first with an RSA key for others (`ssl_sock_switchctx_cbk` in HAProxy 2.6's src/ssl_sock.c). So an
EC wildcard answers in place of an exact host with an RSA key. The reverse happens as well: 2.6 looks for EC in the
cipher suites of TLS 1.2, so clients that offer TLS 1.3 alone get an RSA wildcard in place of an exact host with an EC
key. An entry `wild.pem *.example.com !shop.example.com` does not answer for shop.example.com, whatever the keys. All
of it was measured with 2.6.12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install
from instance_agent.targets.haproxy.reading import key_type_of
from instance_agent.targets.haproxy.runtime import carries, entry_line
from shared.binding import phrased
from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.targets.base import BindingChange, Key
    from instance_agent.targets.haproxy.disk import Disk
    from instance_agent.targets.haproxy.mirror import Mirror
    from instance_agent.targets.haproxy.session import Session

MOST = 2046
"""Hosts that one line can leave out beside its two other words: MAX_CRT_ARGS (include/haproxy/defaults.h) is 2,048."""

LONGEST_LINE = 65_534
"""CRT_LINESIZE there, without the end of the line and of the text."""


def planned(mirror: Mirror, due: Sequence[BindingChange]) -> dict[Key, frozenset[str]]:
    """What entries should leave out once these changes are made.

    Returns:
        By binding: every wildcard that a change is for or that covers its host, and any other whose entry left out
        something, or was there twice.
    """
    after = {each.key: key_type_of(each.bundle.leaf) if isinstance(each, Install) else None for each in due}
    changed: dict[Key, dict[str, str | None]] = {}
    plan: dict[Key, frozenset[str]] = {}
    for (host, port), key_type in after.items():
        if (wildcard := wildcard_of(host)) is not None:
            changed.setdefault((wildcard, port), {})[host] = key_type
        if host.startswith("*."):
            changed.setdefault((host, port), {})
        elif key_type is not None and (host, port) in mirror.excepted:
            plan[host, port] = frozenset()
    for wildcard_key, hosts in changed.items():
        own = after[wildcard_key] if wildcard_key in after else mirror.neighbours.type_of(wildcard_key)
        if own is not None:
            kept = mirror.neighbours.unlike(wildcard_key, own) - hosts.keys()
            new = {host for host, key_type in hosts.items() if key_type not in {None, own}}
            plan[wildcard_key] = kept | new | mirror.by_hand.unlike(wildcard_key, own)
    return plan


async def require_room(
    session: Session, disk: Disk, mirror: Mirror, due: Sequence[BindingChange], plan: Mapping[Key, frozenset[str]]
) -> None:
    """See that HAProxy can hold what entries are to leave out, before anything is written.

    Raises:
        ApplyError: It cannot; the culprit is the wildcard's own change, or one that adds a host to leave out.
        ServerUnavailableError: HAProxy went away.
    """
    for key, hosts in plan.items():
        if not hosts or mirror.excepted.get(key) == hosts:
            continue
        line = entry_line(disk.pem(*key), key[0], hosts)
        if len(hosts) > MOST or len(line) > LONGEST_LINE:
            cure = f"a line of a crt-list has room for {MOST} hosts and {LONGEST_LINE} characters"
        elif not await carries(session, disk.crt_list(key[1]), line):
            cure = (
                f"its line of {len(line)} characters is more than HAProxy's buffer lets through its admin socket: set "
                f"tune.bufsize {_buffer_for(line)} in the global section of haproxy.cfg and restart HAProxy"
            )
        else:
            continue
        raise ApplyError(
            f"{phrased(*key)} must not answer for {len(hosts)} exact hosts whose keys are of another type (RSA or "
            f"EC) than its own, since HAProxy prefers a type to an exact name, and {cure}; or have the certificates of "
            f"{key[0]} and of these hosts issued for keys of one type",
            culprit=_culprit(key, hosts, mirror, due),
        )


def _buffer_for(line: str) -> int:
    return 1 << (len(line) + 2048).bit_length()


def _culprit(key: Key, hosts: frozenset[str], mirror: Mirror, due: Sequence[BindingChange]) -> Key:
    """The change to do without: the wildcard's own, or the last that adds a host."""
    keys = [each.key for each in due if isinstance(each, Install)]
    new = hosts - (mirror.excepted.get(key) or frozenset())
    adding = [each for each in keys if each[0] in new and each[1] == key[1]]
    return key if key in keys or not adding else adding[-1]
