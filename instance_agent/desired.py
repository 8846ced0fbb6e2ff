"""What this instance should serve: the desired rows of its role and of every role, one row for each host and port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from instance_agent.targets.base import Key
from shared.binding import MAX_PORT, BindingKey, DesiredBinding, effective, roles_of
from shared.bounded import gather_bounded
from shared.hostnames import DEFAULT_HOST, normalise_host
from shared.phrasing import logger
from shared.state.keys import binding_key, decode_key, encode_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.state.rows import UnreadableRow
    from shared.state.tables import State

log = logger(__name__)

_READ_ONE_BY_ONE = 100
"""Beyond so many rows, all are read: a query answers a thousand at once."""
_ROWS_OF_A_REQUEST = 16
"""A row of a query costs about a sixteenth of a request for one row, on either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the tables say.

    Attributes:
        rows: The rows to obey.
        unknown: Hosts and ports of which a row cannot be read: they are left as they are on the server.
        named: Roles, hosts and ports of the rows there are, obeyed or not.
    """

    rows: Mapping[Key, DesiredBinding]
    unknown: frozenset[Key] = frozenset()
    named: frozenset[BindingKey] = frozenset()


async def desired_rows(state: State, role: str) -> Desired:
    """Read every row that concerns an instance of this role."""
    rows: list[DesiredBinding] = []
    unreadable: list[UnreadableRow] = []
    for partition in sorted(roles_of(role)):
        rows += [_kept(known.value) async for known in state.bindings.all(encode_key(partition), unreadable=unreadable)]
    return _obeyed(rows, unreadable, role)


async def desired_of(state: State, role: str, keys: Iterable[Key], *, of: int) -> Desired:
    """Read the rows of some hosts and ports; what is none has no row.

    Args:
        state: The tables.
        role: The instance's.
        keys: The hosts and ports.
        of: How many rows there are, about; where these are many of them, all are read at once.
    """
    wanted = {key for key in keys if _is_host_and_port(*key)}
    if len(wanted) > _READ_ONE_BY_ONE or (len(wanted) > 1 and of <= _ROWS_OF_A_REQUEST * len(wanted)):
        every = await desired_rows(state, role)
        rows = {key: row for key, row in every.rows.items() if key in wanted}
        return Desired(rows=rows, unknown=every.unknown & wanted, named=every.named)
    names = [
        BindingKey(role=partition, host=host, port=port)
        for host, port in sorted(wanted)
        for partition in sorted(roles_of(role))
    ]
    unreadable: list[UnreadableRow] = []
    found = await gather_bounded((_row(state, name, unreadable) for name in names), limit=16)
    return _obeyed([row for row in found if row is not None], unreadable, role)


async def _row(state: State, name: BindingKey, unreadable: list[UnreadableRow]) -> DesiredBinding | None:
    partition, row = binding_key(name)
    found = [_kept(known.value) async for known in state.bindings.all(partition, row=row, unreadable=unreadable)]
    return found[0] if found else None


def _kept(row: DesiredBinding) -> DesiredBinding:
    """What an agent needs of a row: of ten thousand, the claims would take most of the memory."""
    return replace(row, claims=())


def _obeyed(rows: Iterable[DesiredBinding], unreadable: Iterable[UnreadableRow], role: str) -> Desired:
    unknown = {key for each in unreadable if (key := _key_of(each.row)) is not None}
    by_key: dict[Key, list[DesiredBinding]] = {}
    for each in rows:
        if _is_host_and_port(each.host, each.port):
            by_key.setdefault((each.host, each.port), []).append(each)
        else:
            unknown.add((each.host, each.port))
            log.warning("the row of %s is passed over: that is no host and port", each.key.phrased)
    obeyed = {key: row for key, same in by_key.items() if (row := effective(same, role)) is not None}
    named = frozenset(each.key for same in by_key.values() for each in same)
    # Where one of two rows cannot be read, the other is not obeyed either: it may be the one that is overridden.
    told = {key: row for key, row in obeyed.items() if key not in unknown}
    return Desired(rows=told, unknown=frozenset(unknown), named=named)


def _key_of(row_key: str) -> Key | None:
    """The host and port that a row's key names; None where it names none."""
    try:
        host, _, port = decode_key(row_key).rpartition(":")
        return host, int(port)
    except ValueError:
        return None


def _is_host_and_port(host: str, port: int) -> bool:
    try:
        return (host == DEFAULT_HOST or normalise_host(host) == host) and 0 < port <= MAX_PORT
    except ValueError:
        return False
