"""What must be served and told at the end of a soak, worked out from what was uploaded and removed alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.hostnames import DEFAULT_HOST
from shared.state.records import UploadStatus

PROBED_LABELS = ("x1", "my_shop")
"""Names under a wildcard that no upload names: clients ask for such ones too, with an underscore at times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """An upload as it was made last.

    Attributes:
        name: The blob's name.
        fingerprint: Of its certificate.
        hosts: What it is a candidate for; wildcards and `DEFAULT_HOST` among them.
        not_before: When the certificate begins; no two begin at once.
    """

    name: str
    fingerprint: str
    hosts: tuple[str, ...]
    not_before: datetime


class Model:
    """The uploads there are, and what follows from them.

    Attributes:
        uploads: Those that are there, by name.
        removed: Names of those that are not any more.
        hosts: What any of them was for.
        fingerprints: Of every certificate that was uploaded.
    """

    def __init__(self) -> None:
        self.uploads: dict[str, Uploaded] = {}
        self.removed: set[str] = set()
        self.hosts: set[str] = set()
        self.fingerprints: set[str] = set()

    def put(self, upload: Uploaded) -> None:
        """An upload was made, or made again under its name."""
        self.uploads[upload.name] = upload
        self.removed.discard(upload.name)
        self.hosts.update(upload.hosts)
        self.fingerprints.add(upload.fingerprint)

    def remove(self, name: str) -> None:
        """An upload was deleted."""
        del self.uploads[name]
        self.removed.add(name)

    def elected(self, host: str) -> Uploaded | None:
        """Which upload a host is served from: of those that are for it, the one that begins last."""
        there = [upload for upload in self.uploads.values() if host in upload.hosts]
        return max(there, key=lambda upload: upload.not_before, default=None)

    def shown(self, name: str | None) -> str | None:
        """What a client must see that asks for a server name; None for a certificate that no upload brought."""
        wildcard = f"*.{name.partition('.')[2]}" if name is not None else DEFAULT_HOST
        found = (self.elected(host) for host in (name or DEFAULT_HOST, wildcard, DEFAULT_HOST))
        return next((upload.fingerprint for upload in found if upload is not None), None)

    def names(self) -> list[str | None]:
        """Every server name worth asking for: hosts of all uploads that ever were, others below wildcards, none."""
        exact = {host for host in self.hosts if not host.startswith("*")}
        below = {f"{label}{host[1:]}" for host in self.hosts if host.startswith("*.") for label in PROBED_LABELS}
        return [None, *sorted({*exact, *below, "unknown.soak.test"})]

    def won(self, name: str) -> tuple[str, ...]:
        """The hosts that are served from an upload."""
        upload = self.uploads[name]
        return tuple(host for host in upload.hosts if self.elected(host) is upload)

    def status(self, name: str) -> UploadStatus:
        """What must be told of an upload."""
        if name in self.removed:
            return UploadStatus.REMOVED
        return UploadStatus.LIVE if self.won(name) else UploadStatus.SUPERSEDED
