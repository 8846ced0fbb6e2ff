"""The Functions app as one archive: what .funcignore leaves of the commit, for a remote build.

The packages that it needs are not in it, as they are not in what `func azure functionapp publish --build remote` sends:
the platform installs them from requirements.txt, in the versions and with the hashes that stand there, for the Python
and the processor of the app. So one archive fits every Python, and a package can be added before it is deployed.
"""

from __future__ import annotations

import time
import zipfile
from typing import TYPE_CHECKING

from devtools.packages.building import built_at, run, version

if TYPE_CHECKING:
    from pathlib import Path

    from devtools.environment import Environment

_FILE = 0o100644
_UNIX = 3
_EARLIEST = 315_532_800
"""1980-01-01, before which ZIP knows no time."""


def build(here: Environment, into: Path) -> Path:
    """Write `certcast-function-<version>.zip` into a folder and answer its path; from one commit, the same bytes.

    Raises:
        SetupError: git cannot be asked which files there are.
    """
    path = into / f"certcast-function-{version(here)}.zip"
    moment = time.gmtime(max(built_at(here), _EARLIEST))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in files(here):
            entry = zipfile.ZipInfo(name, moment)
            entry.create_system, entry.external_attr = _UNIX, _FILE << 16
            archive.writestr(entry, (here.root / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def files(here: Environment) -> list[str]:
    """What is deployed: every file of the repository that .funcignore does not name, read as .gitignore is.

    Raises:
        SetupError: git cannot be asked.
    """
    why = "the archive has what git has"
    all_files = set(run(here, ["git", "ls-files", "-z"], why=why).split("\0"))
    ignored = run(here, ["git", "ls-files", "-z", "--cached", "--ignored", "--exclude-from=.funcignore"], why=why)
    return sorted(all_files - set(ignored.split("\0")))
