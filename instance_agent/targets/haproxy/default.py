"""The files of the default certificate of a PortNumber: what clients get without a server name, or with an unknown one.

    FOLDER/443.default.list     named first by the bind line; one line, FOLDER/443.default.pem !*
    FOLDER/443.default.pem      the administrator's fallback, or what is bound, tagged as ours
    FOLDER/443.fallback.pem     the administrator's fallback while something is bound

HAProxy takes the first certificate of a bind line for this. `!*` keeps the certificate's own names out of the others:
it would answer for them before any host's entry (https://docs.haproxy.org/2.6/configuration.html#5.1-crt-list).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install
from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.pem_file import is_tagged, tagged_pem
from shared.bundle import CertificateBundle
from shared.errors import BrokenBundleError

if TYPE_CHECKING:
    from collections.abc import Container

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.parts.file_batch import FileBatch

FILTER = "!*"
_LIST = re.compile(r"([1-9]\d{0,4})\.default\.list\Z")


def pem_of(folder: Path, port: int) -> Path:
    """Where a port's default lies."""
    return folder / f"{port}.default.pem"


def list_of(folder: Path, port: int) -> Path:
    """Where the list of a port's default lies."""
    return folder / f"{port}.default.list"


def port_of(folder: Path, crt_list: str) -> int | None:
    """The PortNumber that a list is for; None for one that is no list of ours of a default."""
    path = Path(crt_list)
    found = _LIST.match(path.name)
    return int(found[1]) if found and path.parent == folder else None


def is_named(pem: Path, crt_list: Path) -> bool:
    """Whether a list on the disk names the default's file."""
    try:
        lines = crt_list.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    return any(line.split()[:1] == [str(pem)] for line in lines)


def enter(change: BindingChange, folder: Path, files: FileBatch, *, known: Container[str]) -> None:
    """Have a batch of files make the change; the administrator's fallback is kept, and comes back when it is removed.

    Args:
        change: What to serve, or to serve no longer.
        folder: Where the files lie.
        files: The batch.
        known: Files that had our tag: what somebody put into one of these since is no fallback.

    Raises:
        ApplyError: The fallback could not come back: it holds no certificate with its key.
    """
    pem, crt_list = pem_of(folder, change.port), list_of(folder, change.port)
    kept = folder / f"{change.port}.fallback.pem"
    if not isinstance(change, Install):
        files.write(pem, kept.read_bytes() if kept.is_file() else self_made_fallback(datetime.now(UTC)).to_pem())
        files.delete(kept)
        return
    there = pem.read_bytes() if pem.is_file() else b""
    if there and not is_tagged(there) and str(pem) not in known:
        try:
            CertificateBundle.from_pem(there)
        except BrokenBundleError:
            raise ApplyError(
                f"{pem} must hold a PEM private key, its certificate and the intermediates: it is served again when "
                "the default is removed",
                culprit=change.key,
            ) from None
        files.write(kept, there)
    files.write(pem, tagged_pem(change))
    if not is_named(pem, crt_list):
        files.write(crt_list, f"{pem} {FILTER}\n".encode())


def how_to_name(crt_list: Path, pem: Path) -> str:
    """What an administrator does once, so that a port has a default of ours."""
    return (
        f"put a fallback certificate with its key into {pem}, `{pem} {FILTER}` into {crt_list}, and on the bind line "
        f"of that port `ssl crt-list {crt_list}` in place of `ssl crt …`, without `strict-sni`; then reload HAProxy"
    )
