"""Where and when a benchmark ran: what its figures depend on, and no name of the machine."""

from __future__ import annotations

import json
import os
import platform
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Self

from shared import VERSION

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine before a run.

    Attributes:
        date: The day, UTC.
        system: Operating system and architecture.
        processors: How many this process may use.
        load_average: Of the last minute, before the run; an idle machine is near 0. `None` on Windows.
        versions: Of what the figures depend on.
    """

    date: str
    system: str
    processors: int
    load_average: float | None
    versions: dict[str, str]

    @classmethod
    def now(cls) -> Self:
        """This machine at this moment."""
        package = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
        return cls(
            date=datetime.now(UTC).date().isoformat(),
            system=f"{platform.system()} {platform.machine()}",
            processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            load_average=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
            versions={
                "certcast": VERSION,
                "Python": platform.python_version(),
                "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
                "cryptography": metadata.version("cryptography"),
                "Azurite": package["packages"]["node_modules/azurite"]["version"],
            },
        )

    def __str__(self) -> str:
        load = "unknown" if self.load_average is None else self.load_average
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.date}, {self.system}, {self.processors} processors, load average before: {load}; {versions}"
