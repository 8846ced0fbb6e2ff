"""The PEM file that answers for unknown names: the administrator's, or one made by us and kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.file_batch import FileBatch, grant
from shared.bundle import CertificateBundle
from shared.errors import BrokenMessageError, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from instance_agent.targets.parts.file_batch import Access


def fallback_file(named: Path | None, own: Path, *, access: Access, staging: Path, setting: str) -> Path:
    """The path of the fallback; one of our own is made where it is needed and missing.

    Args:
        named: What the administrator named; None for nothing.
        own: Where our own is kept.
        access: Who reads our own.
        staging: A folder for writing it.
        setting: The setting that names one.

    Raises:
        ConfigurationError: What was named holds no certificate with its key.
        OSError: It cannot be read or written.
    """
    if named is not None:
        try:
            CertificateBundle.from_pem(named.read_bytes())
        except BrokenMessageError:
            raise ConfigurationError(
                f"{setting}: {named} must hold a PEM private key, its certificate and the intermediates"
            ) from None
        return named
    if not own.exists():
        batch = FileBatch(staging)
        batch.write(own, self_made_fallback(datetime.now(UTC)).to_pem(), access)
        batch.commit()
        batch.close()
    grant(own, access)
    return own
