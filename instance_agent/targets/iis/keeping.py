"""Keeps the settings that only http.sys holds: read before IIS replaces a record, put back after, across a crash too.

IIS deletes the record of a binding that it changes and makes it again with the application id alone, so negotiation of
client certificates, DS mapper and the list of trusted issuers are lost (https://github.com/win-acme/win-acme/issues/2153,
https://github.com/win-acme/win-acme/issues/1768).
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from instance_agent.targets.iis.gateway import AddBinding, GatewayError, RemoveBinding
from instance_agent.targets.iis.records import SslSettings
from instance_agent.targets.parts.access import write_private
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from instance_agent.targets.iis.gateway import Operation
    from instance_agent.targets.iis.records import HttpSys, SslRecord

log = logger(__name__)

_PLAIN = SslSettings()


class SettingsKeeper:
    """The settings that are still to be put back, by `Binding.endpoint`.

    Args:
        http_sys: The records.
        journal: File that outlives a crash between IIS's commit and the putting back; None keeps them in memory only.
    """

    def __init__(self, http_sys: HttpSys, journal: Path | None) -> None:
        self._http_sys = http_sys
        self._journal = journal
        self._pending: dict[str, SslSettings] = {}

    @property
    def pending(self) -> frozenset[str]:
        """Endpoints whose settings are not as they were."""
        return frozenset(self._pending)

    def load(self) -> None:
        """Take up what an earlier run left to do; called once, before anything else."""
        if self._journal is None:
            return
        with suppress(FileNotFoundError):
            content = self._journal.read_bytes()
            try:
                self._pending = {name: SslSettings(**settings) for name, settings in json.loads(content).items()}
            except (ValueError, TypeError, AttributeError):
                log.warning("%s holds no settings of http.sys and is not used", self._journal)

    def remember(self, operations: Sequence[Operation]) -> None:
        """Note the settings of every record that these operations make IIS write; what is pending already is older."""
        targets = {it: it.endpoint for it in operations if not isinstance(it, RemoveBinding)}
        if not targets:
            return
        sources = {it.old.endpoint for it in targets if not isinstance(it, AddBinding)} | set(targets.values())
        try:
            found = {record.endpoint: record.settings for record in self._http_sys.records(sorted(sources))}
        except GatewayError as error:
            log.warning("settings that only http.sys holds cannot be read, so they are not kept: %s", error.described)
            return
        pending = dict(self._pending)
        for operation, endpoint in targets.items():
            sources_of = [endpoint] if isinstance(operation, AddBinding) else [operation.old.endpoint, endpoint]
            settings = next((found[it] for it in sources_of if found.get(it, _PLAIN) != _PLAIN), None)
            if settings is not None:
                pending.setdefault(endpoint, settings)
        self._set(pending)

    def put_back(self) -> dict[str, str]:
        """Give the records back what they had.

        Returns:
            By endpoint, what could not be put back, as a sentence that names the settings and the command.
        """
        problems: dict[str, str] = {}
        pending = dict(self._pending)
        for endpoint, settings in self._pending.items():
            problem = self._restore(endpoint, settings)
            if problem is None:
                del pending[endpoint]
            elif problem:
                problems[endpoint] = problem
        self._try_to_set(pending)
        return problems

    def drop(self, endpoints: Collection[str]) -> None:
        """Forget the settings of bindings that are removed for good."""
        self._try_to_set({endpoint: it for endpoint, it in self._pending.items() if endpoint not in endpoints})

    def _restore(self, endpoint: str, settings: SslSettings) -> str | None:
        """None where the settings are there; an empty text where there is no record yet that could have them."""
        try:
            records = self._http_sys.records([endpoint])
            for record in records:
                if record.settings != settings:
                    self._http_sys.put(replace(record, settings=settings))
            after = self._http_sys.records([endpoint])
        except GatewayError as error:
            return _sentence(endpoint, settings, error.described, records=())
        if not after:
            return ""
        if all(record.settings == settings for record in after):
            return None
        return _sentence(endpoint, settings, "http.sys took the call and kept its own", records=after)

    def _try_to_set(self, pending: dict[str, SslSettings]) -> None:
        """What the journal says too much is compared with http.sys at the next start, and found done."""
        try:
            self._set(pending)
        except GatewayError as error:
            log.warning("%s", error)

    def _set(self, pending: dict[str, SslSettings]) -> None:
        if pending == self._pending:
            return
        self._pending = pending
        if self._journal is None:
            return
        temporary = self._journal.with_suffix(".tmp")
        try:
            temporary.unlink(missing_ok=True)
            write_private(temporary, json.dumps({name: asdict(it) for name, it in pending.items()}).encode())
            temporary.replace(self._journal)
        except OSError as error:
            raise GatewayError(f"{self._journal} cannot be written: {error.strerror}") from error


def _sentence(endpoint: str, settings: SslSettings, problem: str, records: Sequence[SslRecord]) -> str:
    arguments = " ".join(settings.arguments())
    command = replace(records[0], settings=settings).command if records else "netsh http update sslcert"
    return (
        f"the certificate is bound, but the settings of {endpoint} that only http.sys holds could not be put back "
        f"({arguments}): {problem}; set them by hand: {command}"
    )
