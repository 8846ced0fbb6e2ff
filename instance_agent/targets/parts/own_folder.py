"""A folder that is certcast's alone: an administrator's other files are neither hidden nor deleted by mistake."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.parts.file_batch import make_folder
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from instance_agent.targets.parts.file_batch import Access

_MARK = ".certcast"


def claim_folder(path: Path, access: Access, *, setting: str) -> None:
    """Make a folder ours: what is in it will be given to `access`, and may be deleted.

    Raises:
        ConfigurationError: It holds what certcast did not make.
        OSError: It cannot be made.
    """
    mark = path / _MARK
    if path.is_dir() and not mark.exists() and any(path.iterdir()):
        raise ConfigurationError(f"{path} holds files that certcast did not make: give {setting} a folder of its own")
    make_folder(path, access)
    mark.touch(mode=0o600)


@contextmanager
def passing_trouble(folder: Path) -> Iterator[None]:
    """Raise what the disk refuses or the machine lacks as trouble of the server, after which a batch is tried again."""
    try:
        yield
    except OSError as error:
        raise ServerUnavailableError(f"{error.filename or folder} cannot be used: {error.strerror}") from error
    except ConfigurationError as error:
        raise ServerUnavailableError(str(error)) from error
