"""What `dev.py build` makes, and the same under another version: all that makes two versions of an agent two."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType

from devtools.environment import Environment
from devtools.packages import checksums, command, deb
from tests.rigs.deployment import ROOT

HERE = Environment(root=ROOT)
_NO_CHANGES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A folder as `dev.py build` leaves it.

    Attributes:
        version: The version.
        folder: Where its files are.
    """

    version: str
    folder: Path

    @property
    def wheel(self) -> Path:
        return self.folder / f"certcast-{self.version}-py3-none-any.whl"

    @property
    def package(self) -> Path:
        [found] = self.folder.glob("*.deb")
        return found


def built(folder: Path) -> Release:
    """This checkout's."""
    wheel, *_ = command.build(HERE, folder)
    return Release(version=wheel.name.split("-")[1], folder=folder)


def another(
    release: Release, version: str, *, package: bool = True, code: Mapping[str, bytes] = _NO_CHANGES
) -> Release:
    """The same with another version.

    Args:
        release: What it is made from.
        version: The other version.
        package: Whether a Debian package is made of it too.
        code: Files of the wheel that have another content.
    """
    other = Release(version=version, folder=release.folder.with_name(version))
    other.folder.mkdir()
    infos = (f"certcast-{release.version}.dist-info", f"certcast-{version}.dist-info")
    with zipfile.ZipFile(release.wheel) as old, zipfile.ZipFile(other.wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = code.get(name, old.read(name))
            if name == f"{infos[0]}/METADATA":
                content = re.sub(rb"^Version: .*$", f"Version: {version}".encode(), content, flags=re.MULTILINE)
            if name == f"{infos[0]}/RECORD":  # the hashes in it may be left out (packaging.python.org, "Recording")
                content = re.sub(rb",sha256=[^,\n]*,\d*$", b",,", content, flags=re.MULTILINE)
                content = content.replace(infos[0].encode(), infos[1].encode())
            new.writestr(name.replace(*infos), content)
    for name in ("requirements-agent.txt", "install.sh"):
        (other.folder / name).write_bytes((release.folder / name).read_bytes())
    files = [other.wheel, other.folder / "requirements-agent.txt", other.folder / "install.sh"]
    if package:
        files.append(deb.build(HERE, other.folder, other.wheel, files[1]))
    checksums.write(other.folder, files)
    return other


def wheels_of(release: Release, folder: Path) -> None:
    """Put what the wheel needs into a folder, for a pip that is to reach no index."""
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    needs = release.folder / "requirements-agent.txt"
    subprocess.run([*fetch, "--require-hashes", "--requirement", needs, "--dest", folder], check=True, cwd=ROOT)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


def served(folder: Path) -> ThreadingHTTPServer:
    """Serve a folder over HTTP on a free port of 127.0.0.1, until `shutdown`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    return server
