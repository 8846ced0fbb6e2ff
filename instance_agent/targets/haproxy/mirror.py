"""What one HAProxy process serves of ours, read from it once and kept in step by batches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from instance_agent.targets.base import Install, InstalledBinding
from instance_agent.targets.haproxy import runtime
from instance_agent.targets.parts.bindings import Bindings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from instance_agent.targets.base import BindingChange, Key
    from instance_agent.targets.haproxy.disk import Disk, Stored
    from instance_agent.targets.haproxy.runtime import Leaf
    from instance_agent.targets.haproxy.session import Session


@dataclass(slots=True, kw_only=True)
class Mirror:
    """Our bindings in one HAProxy process.

    Attributes:
        process: The process it was read from.
        ports: PortNumbers whose list that process was started with.
        bound: Our bindings; without a fingerprint where HAProxy and the disk differ, so that they are installed again.
        stray_files: Files of ours that this process served nothing from when it was read.
        stray_names: Certificates of ours that it held and bound nowhere.
    """

    process: tuple[str, str]
    ports: frozenset[int]
    bound: Bindings
    stray_files: set[str] = field(default_factory=set)
    stray_names: set[str] = field(default_factory=set)


async def read_mirror(session: Session, disk: Disk, process: tuple[str, str]) -> Mirror:
    """Ask HAProxy for all that is ours and compare it with what a restart would bring back.

    Raises:
        ServerUnavailableError: HAProxy did not tell.
    """
    keys: dict[str, Key] = {}
    ports: set[int] = set()
    listed: set[str] = set()
    for crt_list in await runtime.lists(session):
        port = disk.port_of(crt_list)
        if port is None:
            continue
        ports.add(port)
        listed |= await asyncio.to_thread(disk.listed, port)
        for file, _, names in await runtime.entries(session, crt_list):
            if names and disk.is_for(file, names[-1], port):
                keys[file] = (names[-1], port)
    stored = await asyncio.to_thread(disk.stored)
    by_hand = await asyncio.to_thread(disk.made_by_hand, keys.keys() - stored.keys())
    served = dict(zip(keys, await runtime.shown(session, list(keys)), strict=True))
    ours = {file for file in stored if stored[file].binding.port in ports}
    return Mirror(
        process=process,
        ports=frozenset(ports),
        bound=Bindings(
            _binding(key, stored.get(file) if file in listed else None, served[file])
            for file, key in keys.items()
            if file not in by_hand
        ),
        stray_files=ours - keys.keys(),
        stray_names=(ours - keys.keys()) & set(await runtime.held(session)),
    )


def _binding(key: Key, stored: Stored | None, shown: Leaf | None) -> InstalledBinding:
    if stored is not None and stored.leaf.is_shown_by(shown):
        return stored.binding
    return InstalledBinding(host=key[0], port=key[1], bundle_id="", fingerprint_sha256="")


def differing(mirror: Mirror, changes: Iterable[BindingChange]) -> list[BindingChange]:
    """The changes that are not made."""
    return [change for change in changes if not _is_made(mirror.bound.get(change.key), change)]


def _is_made(there: InstalledBinding | None, change: BindingChange) -> bool:
    return change.is_done_by(there) if isinstance(change, Install) else there is None
