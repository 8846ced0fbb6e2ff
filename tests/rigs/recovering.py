"""A platform with uploads of every kind, what is lost of it, and what is seen of it before and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from shared.binding import ANY_ROLE
from shared.function.blob_event import Notice
from shared.state.records import UploadRecord
from tests.fakes.storage import StoredRow
from tests.rigs.scenes import PASSWORD
from tests.rigs.simulation import Certificate, Machine, Simulation
from tests.rigs.some import some

Rows = dict[str, dict[tuple[str, str], StoredRow]]
Served = dict[str, dict[tuple[str, int], str]]

ODD = "folder/größe %#?'+.pfx"
WITH_PASSWORD = {"CertificatePassword": PASSWORD}


def certificate(*names: str, day: float = -20) -> Certificate:
    return Certificate(hosts=tuple(f"{name}.example.com" for name in names), day=day, serial=0)


class Recovering(Simulation):
    """Two roles' instances, and uploads in every state that lasts."""

    def __init__(self) -> None:
        super().__init__({"web0": "web", "any0": ANY_ROLE})
        for number in range(len(self.machines)):
            self.start_agent(number)
        self.let_pass(10)
        put = self.upload
        put("live.pfx", certificate("live"), WITH_PASSWORD)
        put("renewed.pfx", certificate("renewed"), WITH_PASSWORD)
        put("older.pfx", certificate("contested"), WITH_PASSWORD)
        put("newer.pfx", certificate("contested", day=-3), WITH_PASSWORD)
        put("later.pfx", certificate("later"), WITH_PASSWORD)
        put("mistaken.pfx", certificate("mistaken"), WITH_PASSWORD)
        put("web.pfx", certificate("web"), {**WITH_PASSWORD, "Role": "web"})
        put("default.pfx", certificate("default"), {**WITH_PASSWORD, "Default": "true", "PortNumber": "8443"})
        put("narrowed.pfx", certificate("kept", "withdrawn"), WITH_PASSWORD)
        put("removed.pfx", certificate("removed"), WITH_PASSWORD)
        put(ODD, certificate("odd"), WITH_PASSWORD)
        put("rejected.pfx", certificate("rejected"), {"CertificatePassword": "wrong"})
        put("waiting.pfx", certificate("waiting"), {})
        put("scheduled.pfx", certificate("scheduled", day=40), WITH_PASSWORD)
        self.work(30)
        put("renewed.pfx", certificate("renewed", day=-5), WITH_PASSWORD)
        put("later.pfx", certificate("later", day=40), WITH_PASSWORD)
        put("mistaken.pfx", certificate("mistaken", day=-5), {"CertificatePassword": "wrong"})
        self.edit("narrowed.pfx", {"HostHeader": "kept.example.com"})
        self.events.append(Notice(name="narrowed.pfx"))
        self.delete("removed.pfx")
        self.work(30)
        self.sweep_once()
        assert all(blob.metadata.get("CertificatePassword") != PASSWORD for blob in self.storage.uploads.values())

    def work(self, seconds: float) -> None:
        """Let Function and agents do what there is to do."""
        self.deliver_all()
        self._host_for(seconds)

    def sweep_once(self) -> None:
        """One sweep, and what follows from it by queues."""
        self.start_sweep()
        self.work(60)

    def restart_agents(self) -> None:
        """Stop all agents, and start others on the same servers, which read everything."""
        for number in range(len(self.machines)):
            self.stop_agent(number)
        self.let_pass(5)
        for number in range(len(self.machines)):
            self.start_agent(number)
        self.work(20)

    def sleep(self, seconds: float) -> None:
        """Let a long time pass in which no agent runs, which saves all their looks at their queues."""
        for number in range(len(self.machines)):
            self.stop_agent(number)
        self.let_pass(seconds)
        for number in range(len(self.machines)):
            self.start_agent(number)
        self.work(20)

    def add_machine(self, name: str) -> None:
        """Start a fresh instance for every role."""
        self.machines.append(Machine(name=name, role=ANY_ROLE))
        self.start_agent(len(self.machines) - 1)

    def is_ready(self, name: str) -> bool:
        return any(
            machine.agent is not None and machine.agent.ready for machine in self.machines if machine.name == name
        )

    def lose_queue(self, queue: str) -> None:
        self._at_once(self.outside.queues.delete(queue))

    @contextmanager
    def key_disabled(self) -> Iterator[None]:
        """Bundles can be neither sealed nor opened."""
        for what in ("bundle open", "bundle seal", "note open", "note seal"):
            self.fail_requests(what, 10**9)
        yield
        self.trouble.left.clear()

    @property
    def served(self) -> Served:
        return {
            machine.name: {key: bound.fingerprint_sha256 for key, bound in machine.server.bound.items()}
            for machine in self.machines
        }

    # What becomes of the tables.

    def wipe(self, *tables: str) -> None:
        for table in tables or tuple(self.storage.tables):
            self.storage.tables[table].clear()

    def copy(self) -> Rows:
        return deepcopy(self.storage.tables)

    def restore(self, rows: Rows) -> None:
        """Have the tables as they were, as a failover to a region has them whose copies lag behind."""
        self.wipe()
        for table, found in rows.items():
            self.storage.tables[table].update(deepcopy(found))

    # What is told.

    def seconds_to_live(self, name: str) -> float:
        record = self._at_once(self.outside.state.uploads.get(name))
        return some(some(record).seconds_to_live)

    def state(self) -> dict[str, Any]:
        """Uploads and bindings as they are, without what only counts, names moments or was lost for good."""
        return self._at_once(self._state())

    async def _state(self) -> dict[str, Any]:
        records = {known.value.name: known.value async for known in self.outside.state.uploads.all()}
        rows = [known.value async for known in self.outside.state.bindings.all()]
        return {
            "uploads": {name: told(record) for name, record in records.items() if record.status != "removed"},
            "tags": {name: blob.tags.get("certcast_status") for name, blob in self.storage.uploads.items()},
            "bindings": {
                row.key: (row.source, row.bundle_id, row.fingerprint_sha256, row.not_after, row.site)
                for row in rows
                if row.present
            },
            "claims": {
                (row.key, claim.source): (claim.bundle_id, claim.fingerprint_sha256)
                for row in rows
                for claim in row.claims
                if claim.withdrawn_at is None
            },
            "instances": sorted(
                [(known.value.id, known.value.ready) async for known in self.outside.state.instances.all()]
            ),
            "installations": {
                (known.value.host, known.value.port, known.value.instance, known.value.outcome)
                async for known in self.outside.state.installations.all()
                if known.value.outcome != "removed"
            },
        }


def told(record: UploadRecord) -> tuple[object, ...]:
    """What a person is told of an upload."""
    return (
        *(record.status, record.reason, record.violations, record.warnings, record.hosts, record.port, record.role),
        *(record.default, record.claims, record.live, record.total, record.missing, record.remark, record.held_up),
    )
