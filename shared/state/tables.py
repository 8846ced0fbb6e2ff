"""The tables of certcast's state, typed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from shared.binding import BindingKey, DesiredBinding
from shared.state.history import HistoryEntry
from shared.state.keys import (
    binding_key,
    history_key,
    installation_key,
    installation_partition,
    instance_key,
    upload_key,
)
from shared.state.records import (
    BINDINGS_TABLE,
    HISTORY_TABLE,
    INSTALLATIONS_TABLE,
    INSTANCES_TABLE,
    UPLOADS_TABLE,
    InstallationRecord,
    InstanceRecord,
    UploadRecord,
)
from shared.state.rows import Rows

if TYPE_CHECKING:
    from shared.ports import Table


class State:
    """The five tables, typed."""

    def __init__(
        self, *, uploads: Table, bindings: Table, instances: Table, installations: Table, history: Table
    ) -> None:
        self.uploads = Rows[str, UploadRecord](
            UPLOADS_TABLE, uploads, UploadRecord, key=upload_key, named=lambda record: record.name
        )
        self.bindings = Rows[BindingKey, DesiredBinding](
            BINDINGS_TABLE, bindings, DesiredBinding, key=binding_key, named=lambda row: row.key
        )
        self.instances = Rows[str, InstanceRecord](
            INSTANCES_TABLE, instances, InstanceRecord, key=instance_key, named=lambda instance: instance.id
        )
        self.installations = Rows[tuple[str, int, str], InstallationRecord](
            INSTALLATIONS_TABLE,
            installations,
            InstallationRecord,
            key=installation_key,
            named=lambda entry: (entry.host, entry.port, entry.instance),
        )
        self.history = Rows[tuple[datetime, str], HistoryEntry](
            HISTORY_TABLE, history, HistoryEntry, key=history_key, named=lambda entry: (entry.at, entry.id)
        )

    async def reports_on(self, host: str, port: int) -> list[InstallationRecord]:
        """What every instance last reported about one host and port."""
        return [known.value async for known in self.installations.all(installation_partition(host, port))]
