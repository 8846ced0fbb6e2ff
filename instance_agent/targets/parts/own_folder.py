"""A folder that is certcast's alone: files in it are changed in batches, and an administrator's own are left alone."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.parts.access import PRIVATE, Access, grant, make_folder
from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.file_batch import FileBatch, clear_staging
from instance_agent.targets.parts.holding import LOCK_NAME, holding
from shared.bundle import CertificateBundle
from shared.errors import BrokenBundleError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared.errors import CertcastError

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
"""What may end without a person changing the agent's settings (errno(3)): a full disk, say."""
_MARK = ".certcast"


def trouble_with(error: OSError, cure: str) -> CertcastError:
    """What `BindingTarget.start` raises for a folder or file that cannot be used.

    Args:
        error: What the system said.
        cure: What a person can do where it will not pass.
    """
    what = f"{error.filename} cannot be made or read"
    if error.errno in _PASSING:
        return ServerUnavailableError(f"{what} now: {error.strerror}")
    return ConfigurationError(f"{what} ({error.strerror}): {cure}")


class OwnFolder:
    """One target's folder.

    Args:
        path: The folder.
        server: The server's part in the names of its settings, such as `NGINX`.
    """

    def __init__(self, path: Path, server: str) -> None:
        self.path = path
        self._server = server
        self._staging = path / ".staging"

    @contextmanager
    def held(self, server: str, *, alone: bool = True) -> Iterator[None]:
        """Keep other agents from the folder, made where it is missing.

        Args:
            server: What names the server.
            alone: Whether nothing may be in it that certcast did not make.

        Raises:
            ConfigurationError: Another agent has it, or it cannot be used.
        """
        try:
            if alone:
                self._refuse_foreign()
            if not self.path.is_dir():
                make_folder(self.path)
        except OSError as error:
            raise ConfigurationError(
                f"CERTCAST_{self._server}_FOLDER: {error.filename or self.path} cannot be used: {error.strerror}"
            ) from error
        with holding(self.path, server):
            yield

    def _refuse_foreign(self) -> None:
        if not self.path.is_dir() or (self.path / _MARK).exists():
            return
        if any(each.name != LOCK_NAME for each in self.path.iterdir()):
            raise ConfigurationError(
                f"{self.path} holds files that certcast did not make: give CERTCAST_{self._server}_FOLDER a folder of "
                "its own"
            )

    def take_over(self, access: Access) -> None:
        """Make the folder ours: what is in it will be given to `access`, and may be deleted.

        Raises:
            ConfigurationError: It holds what certcast did not make.
            OSError: It cannot be made.
        """
        self._refuse_foreign()
        make_folder(self.path, access)
        (self.path / _MARK).touch(mode=0o600)

    def batch(self) -> FileBatch:
        """An empty batch of changes to files."""
        return FileBatch(self._staging)

    def clear(self) -> None:
        """Put back and delete what the batches of a killed agent left."""
        clear_staging(self._staging)

    def fallback_path(self, named: Path | None) -> Path:
        """The PEM that answers for unknown names: the administrator's, or our own."""
        return named or self.path / "fallback.pem"

    def fallback(self, named: Path | None, access: Access = PRIVATE) -> Path:
        """The same, made where it is our own and missing.

        Raises:
            ConfigurationError: What was named holds no certificate with its key.
            OSError: It cannot be read or written.
        """
        path = self.fallback_path(named)
        if named is not None:
            try:
                CertificateBundle.from_pem(named.read_bytes())
            except BrokenBundleError:
                raise ConfigurationError(
                    f"CERTCAST_{self._server}_FALLBACK: {named} must hold a PEM private key, its certificate and the "
                    "intermediates"
                ) from None
            return path
        if not path.exists():
            batch = self.batch()
            batch.write(path, self_made_fallback(datetime.now(UTC)).to_pem(), access)
            batch.commit()
            batch.close()
        grant(path, access)
        return path

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Raise what the disk refuses or the machine lacks as the server's: the batch is tried again later."""
        try:
            yield
        except OSError as error:
            raise ServerUnavailableError(f"{error.filename or self.path} cannot be used: {error.strerror}") from error
        except ConfigurationError as error:
            raise ServerUnavailableError(str(error)) from error
