"""Reads http.sys's certificate records from `netsh http show sslcert`; never changes one."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from typing import TYPE_CHECKING

from instance_agent.targets.iis.shadow import SslRecord

if TYPE_CHECKING:
    from pathlib import Path

_FIELD = re.compile(r"^.*?\s:\s+(?P<value>\S.*?)\s*$")
_THUMBPRINT = re.compile(r"^[0-9a-fA-F]{40}\Z")
_APPLICATION = re.compile(r"^\{[0-9a-fA-F-]{36}\}\Z")
_CENTRAL = re.compile(r"^\d{1,5}\Z")
_TIMEOUT_S = 20


def show_sslcert(windows: Path) -> tuple[SslRecord, ...]:
    """Run netsh and read what it prints; empty where it fails, since its answer only explains and protects.

    Args:
        windows: The Windows directory.
    """
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program by its full path
            [str(windows / "System32" / "netsh.exe"), "http", "show", "sslcert"],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse(done.stdout.decode("ascii", errors="replace"))


def parse(text: str) -> tuple[SslRecord, ...]:
    """The records in netsh's output, whatever language Windows speaks.

    The labels are translated, the values are not: a paragraph is a record if its first value is an endpoint, and the
    values that follow are told apart by their form.
    """
    records: list[SslRecord] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        values = [match["value"] for line in paragraph.splitlines() if (match := _FIELD.match(line))]
        record = _record(values)
        if record is not None:
            records.append(record)
    return tuple(records)


def _record(values: list[str]) -> SslRecord | None:
    if not values:
        return None
    endpoint = _endpoint(values[0])
    if endpoint is None:
        return None
    ip, host, port = endpoint
    at = next((index for index, value in enumerate(values) if _APPLICATION.match(value)), None)
    store = values[at + 1] if at is not None and at + 1 < len(values) else ""
    return SslRecord(
        ip=ip,
        host=host,
        port=port,
        thumbprint=next((value.upper() for value in values[1:] if _THUMBPRINT.match(value)), ""),
        application="" if at is None else values[at].lower(),
        store="" if store.startswith("(") else store,
    )


def _endpoint(value: str) -> tuple[str | None, str | None, int] | None:
    """Address, name and port: `0.0.0.0:443`, `[::]:443`, `www.example.com:443`; `443` alone is the central store's."""
    if _CENTRAL.match(value):
        return (None, None, int(value))
    name, colon, port = value.rpartition(":")
    if not colon or not name or not _CENTRAL.match(port) or " " in name:
        return None
    try:
        return (str(ipaddress.ip_address(name.strip("[]"))), None, int(port))
    except ValueError:
        return (None, name.lower(), int(port))
