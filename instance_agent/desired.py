"""What this instance should serve: the desired rows of its role and of every role, one row for each host and port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.binding import BindingKey, DesiredBinding, effective, roles_of
from shared.bounded import gather_bounded
from shared.state.keys import encode_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from instance_agent.targets.base import Key
    from shared.state.records import State

_READ_ONE_BY_ONE = 100
"""Beyond so many rows, reading the whole partition is quicker than reading them one by one."""


async def desired_rows(state: State, role: str) -> dict[Key, DesiredBinding]:
    """Read every row that concerns an instance of this role."""
    rows: list[DesiredBinding] = []
    for partition in sorted(roles_of(role)):
        rows += [known.value async for known in state.bindings.all(encode_key(partition))]
    return _obeyed(rows, role)


async def desired_of(state: State, role: str, keys: Iterable[Key]) -> dict[Key, DesiredBinding]:
    """Read the rows of some hosts and ports."""
    wanted = set(keys)
    if len(wanted) > _READ_ONE_BY_ONE:
        return {key: row for key, row in (await desired_rows(state, role)).items() if key in wanted}
    names = [
        BindingKey(role=partition, host=host, port=port)
        for host, port in sorted(wanted)
        for partition in sorted(roles_of(role))
    ]
    found = await gather_bounded((state.bindings.get(name) for name in names), limit=16)
    return _obeyed([row for row in found if row is not None], role)


def _obeyed(rows: Iterable[DesiredBinding], role: str) -> dict[Key, DesiredBinding]:
    by_key: dict[Key, list[DesiredBinding]] = {}
    for each in rows:
        by_key.setdefault((each.host, each.port), []).append(each)
    return {key: row for key, same in by_key.items() if (row := effective(same, role)) is not None}
