"""Notes on which files of a Centralized Certificate Store are ours, what they are called and what they hold."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from instance_agent.targets.iis.international import in_letters

NOTE_SUFFIX = ".json"
LONGEST_NAME = 255
"""Of a file, in characters on NTFS, and in bytes elsewhere."""

_HOST = re.compile(r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")
_DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)")


def file_names(host: str) -> tuple[str, ...]:
    """`<host>.pfx`; a wildcard's star is `_`, as IIS looks it up, and an international host has two files.

    https://learn.microsoft.com/en-us/iis/get-started/whats-new-in-iis-8/iis-80-centralized-ssl-certificate-support-ssl-scalability-and-manageability
    does not say how an international name is spelt. IIS was seen to look for its letters, and simple-acme writes that
    name: see `international.in_letters`. A file under the A-label is written too, since clients ask for that one.

    Raises:
        ValueError: The host makes no file name on Windows; the text says why.
    """
    if not _HOST.match(host):
        raise ValueError(f"{host!r} cannot be a file name in the Centralized Certificate Store")
    if _DEVICES.match(host):
        raise ValueError(
            f"{host} cannot be a file name on Windows, where {host.partition('.')[0]} is the name of a device"
        )
    names = tuple(dict.fromkeys(_named(spelling) for spelling in (host, in_letters(host))))
    if any(len(f"{name}{NOTE_SUFFIX}".encode()) > LONGEST_NAME for name in names):
        raise ValueError(f"{host} is too long for a file in the Centralized Certificate Store with the note beside it")
    return names


def _named(host: str) -> str:
    return f"_{host.removeprefix('*')}.pfx" if host.startswith("*") else f"{host}.pfx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one of our files holds.

    Attributes:
        sha256: Of the file.
        bundle_id: Of the bundle in it.
        fingerprint_sha256: Of its leaf.
    """

    sha256: str
    bundle_id: str
    fingerprint_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The note that a file is ours, written before the file so that a crash between the two is recognised.

    Attributes:
        host: Host or wildcard.
        port: Port of the change.
        site: Site the change named.
        now: What the file is to hold.
        before: What it held, so what it still holds after a crash.
    """

    host: str
    port: int
    site: str | None
    now: Content
    before: Content | None = None

    def holding(self, sha256: str) -> Content | None:
        """Which of the two a file with this hash is; None for a file that is not ours."""
        return next((it for it in (self.now, self.before) if it is not None and it.sha256 == sha256), None)

    @property
    def changed(self) -> Content:
        """What stands for a file that another hand changed or took away: nothing is known of it."""
        return Content(sha256="", bundle_id="", fingerprint_sha256="")

    def encode(self) -> bytes:
        """The content of the file that keeps it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> Note | None:
        """The note that a file keeps; None where it keeps none."""
        try:
            document = json.loads(content)
            before = document["before"]
            return cls(
                host=document["host"],
                port=document["port"],
                site=document["site"],
                now=Content(**document["now"]),
                before=None if before is None else Content(**before),
            )
        except (ValueError, KeyError, TypeError):
            return None
