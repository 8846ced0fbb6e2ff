"""The least that one new upload costs: the requests that it takes, bare, in the order in which certcast makes them.

What certcast reads, writes, tells and reports for an upload with one host, counted on paper; the same service, the same
sizes, what can be done at once at once, and nothing waited for. One handshake with each instance stands for its proof.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from operator_cli.handshake import certificate_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _bare import Bare

_UPLOADS, _BINDINGS, _INSTANCES, _INSTALLATIONS = "floorUploads", "floorBindings", "floorInstances", "floorReports"
_CERTIFICATES, _BUNDLES = "floor-certificates", "floor-bundles"
_PFX, _BUNDLE = bytes(1_900), bytes(3_400)
_ROW = {f"column{number}": "x" * 50 for number in range(28)}
_INSTANCE = {f"column{number}": "x" * 20 for number in range(14)}
_MESSAGE = "x" * 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """One upload's least, in milliseconds from the start of its first request.

    Attributes:
        served_ms: When the last instance was told, had read everything and had shown a certificate.
        live_ms: When every report was entered and the tags were written.
        entry_ms: Of it: taking the reports from the queue, and entering them.
    """

    served_ms: float
    live_ms: float
    entry_ms: float


class Bottom:
    """Makes an upload's requests and nothing else, in containers, tables and queues of its own.

    Args:
        bare: The account.
        instances: How many there are.
        handshakes: Where each instance listens, and a host that it serves; empty for requests alone.
    """

    def __init__(self, bare: Bare, instances: int, handshakes: Sequence[tuple[tuple[str, int], str]] = ()) -> None:
        self._bare = bare
        self._instances = instances
        self._handshakes = handshakes

    @property
    def requests(self) -> int:
        """How many requests certcast makes for one upload, looks at queues and the upload itself apart."""
        return 17 + 8 * self._instances

    async def prepare(self, *, lanes: int = 1) -> None:
        """Make what the requests are about; so many uploads can be in flight at once."""
        queues = [f"floor-{lane}-{name}" for lane in range(lanes) for name in (*range(self._instances), "results")]
        tables = (_UPLOADS, _BINDINGS, _INSTANCES, _INSTALLATIONS)
        await self._bare.create(containers=(_CERTIFICATES, _BUNDLES), tables=tables, queues=tuple(queues))
        for number in range(self._instances):
            await self._bare.insert(_INSTANCES, {"PartitionKey": "instance", "RowKey": f"agent-{number}", **_INSTANCE})

    async def upload(self, number: int, *, lane: int = 0) -> Floor:
        """Make one upload's requests."""
        bare, name, began = self._bare, f"{_CERTIFICATES}/{number}.pfx", time.perf_counter()
        row = {"PartitionKey": "blob", "RowKey": f"{number}", **_ROW}
        await bare.put_blob(name, _PFX, {"HostHeader": "x" * 30, "CertificatePassword": "x" * 24})
        await bare.get_entity(_UPLOADS, "blob", f"{number}")
        await bare.insert(_UPLOADS, row)
        await bare.get_blob(name)
        await bare.put_blob(f"{_BUNDLES}/{number}.pem", _BUNDLE, {"encryptiondata": "x" * 600})
        await bare.get_entity(_BINDINGS, "role", f"{number}")
        await bare.insert(_BINDINGS, {**row, "PartitionKey": f"role-{number}"})
        await bare.replace(_UPLOADS, row)
        await bare.query(_INSTANCES, "instance")
        await bare.replace(_UPLOADS, row)
        agents = range(self._instances)
        await asyncio.gather(*(bare.put_message(f"floor-{lane}-{agent}", _MESSAGE) for agent in agents))
        ended = asyncio.create_task(self._ended(name, row))
        served = await asyncio.gather(*(self._agent(lane, agent, number, began) for agent in agents))
        await ended
        reporting = time.perf_counter()
        await self._enter(lane, number)
        entry_ms = _ms(reporting)
        await self._settle(name, row)
        return Floor(served_ms=max(served), live_ms=_ms(began), entry_ms=entry_ms)

    async def _ended(self, name: str, row: dict[str, str]) -> None:
        """What the Function does once the instances are told."""
        await self._bare.set_tags(name, {"certcast_status": "accepted", "certcast_live": "0/3"})
        await self._bare.set_metadata(name, {"HostHeader": "x" * 30, "certcast_bundle": "x" * 130})
        await self._bare.replace(_UPLOADS, row)

    async def _agent(self, lane: int, agent: int, number: int, began: float) -> float:
        """What one agent does; answers when it had its handshake."""
        bare = self._bare
        [(message, receipt)] = await bare.get_messages(f"floor-{lane}-{agent}")
        await bare.query(_BINDINGS, f"role-{number}")
        await bare.get_blob(f"{_BUNDLES}/{number}.pem")
        if self._handshakes:
            await certificate_shown(*self._handshakes[agent])
        served_ms = _ms(began)
        await bare.put_message(f"floor-{lane}-results", json.dumps({"agent": agent, "text": _MESSAGE}))
        await bare.delete_message(message, receipt)
        return served_ms

    async def _enter(self, lane: int, number: int) -> None:
        reports = await self._bare.get_messages(f"floor-{lane}-results")
        await asyncio.gather(*(self._entry(agent, number, *report) for agent, report in enumerate(reports)))

    async def _entry(self, agent: int, number: int, message: str, receipt: str) -> None:
        await self._bare.get_entity(_INSTALLATIONS, f"{number}", f"agent-{agent}")
        entry = {"PartitionKey": f"{number}", "RowKey": f"agent-{agent}", **_INSTANCE}
        await self._bare.insert(_INSTALLATIONS, entry)
        await self._bare.delete_message(message, receipt)

    async def _settle(self, name: str, row: dict[str, str]) -> None:
        await self._bare.get_entity(_UPLOADS, "blob", row["RowKey"])
        await self._bare.query(_BINDINGS, f"role-{row['RowKey']}")
        await self._bare.query(_INSTALLATIONS, row["RowKey"])
        await self._bare.replace(_UPLOADS, row)
        await self._bare.set_tags(name, {"certcast_status": "live", "certcast_live": "3/3"})


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000
