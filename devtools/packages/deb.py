"""`certcast-agent_VERSION_ARCH.deb`: the agent with all that it needs, for one Debian's Python; no network at install.

The dependencies lie in the package, as a virtual environment whose interpreter is the distribution's: Debian has most
of them in no version that certcast was tested with. So a package is for one minor version of Python, and for one
architecture.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devtools.cures import SetupError
from devtools.packages.building import EPOCH, built_at, run

if TYPE_CHECKING:
    from devtools.environment import Environment

HOME = "usr/lib/certcast-agent"
_PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: certcast
Comment: Each bundled package's licence lies in its .dist-info folder below /{home}/lib.

Files: *
Copyright: The certcast contributors
License: MIT

License: MIT
{licence}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What a package is for.

    Attributes:
        python: The distribution's minor version of Python: 3.11 is Debian 12's, 3.12 Ubuntu 24.04's, 3.13 Debian 13's.
        architecture: As Debian calls it.
    """

    python: str = "3.11"
    architecture: str = "amd64"


DEBIAN_12 = Edition()


def build(here: Environment, into: Path, wheel: Path, requirements: Path, *, edition: Edition = DEBIAN_12) -> Path:
    """Build the package into a folder, which is made where there is none, and answer its path.

    Built again from the same commit it has the same bytes: dpkg-deb sorts what is in it, every owner is root, modes are
    set here, and every time is SOURCE_DATE_EPOCH's (dpkg-deb(1)).

    Raises:
        SetupError: It cannot be built.
    """
    if edition.architecture not in _PLATFORMS:
        raise SetupError(f"there is no package for {edition.architecture}; there is for {', '.join(_PLATFORMS)}")
    into = into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    version = f"{_debian(wheel.name.split('-')[1])}+py{edition.python}"
    name = f"certcast-agent_{version}_{edition.architecture}.deb"
    epoch = str(built_at(here))
    with tempfile.TemporaryDirectory(dir=into) as folder:
        root = Path(folder, "root")
        _environment(here, root / HOME, wheel, requirements, edition)
        _system_files(here, root)
        _documentation(here, root / "usr" / "share" / "doc" / "certcast-agent")
        _control(here, root, version, edition)
        _plain(root, int(epoch))
        command = ["dpkg-deb", "--build", "--root-owner-group", "-Zzstd", "-z9", str(root), folder]
        run(here, command, why="it builds the Debian package", **{EPOCH: epoch})
        return Path(folder, name).replace(into / name)


def _environment(here: Environment, home: Path, wheel: Path, requirements: Path, edition: Edition) -> None:
    """A virtual environment as venv makes it, without running the Python that it is for (PEP 405)."""
    packages = home / "lib" / f"python{edition.python}" / "site-packages"
    install = [str(here.program("uv")), "pip", "install", "--quiet", "--target", str(packages), "--require-hashes"]
    install += ["--only-binary", ":all:", "--no-deps", "--link-mode", "copy", "--requirement", str(requirements)]
    install += ["--python-version", edition.python, "--python-platform", _PLATFORMS[edition.architecture]]
    run(here, install, why="it brings what the agent needs")
    for needless in (packages / "bin", packages / ".lock"):
        shutil.rmtree(needless) if needless.is_dir() else needless.unlink(missing_ok=True)
    for record in packages.glob("*.dist-info/RECORD"):  # of scripts that are gone, with the path of who built them
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("bin/")), encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(f"../../../bin/python{edition.python}")
    (home / "systemd").symlink_to(f"lib/python{edition.python}/site-packages/instance_agent/systemd")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n", encoding="ascii")


def _system_files(here: Environment, root: Path) -> None:
    unit = (here.root / "infra" / "agent" / "certcast-agent.service").read_text(encoding="utf-8")
    units = root / "usr" / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    (units / "certcast-agent.service").write_text(unit.replace("/opt/certcast/current", f"/{HOME}"), encoding="utf-8")
    commands = root / "usr" / "sbin"
    commands.mkdir()
    (commands / "certcast-agent").symlink_to("../lib/certcast-agent/systemd/control.sh")


def _documentation(here: Environment, folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = (here.root / "LICENSE").read_text(encoding="utf-8").splitlines()
    licence = "\n".join(f" {line or '.'}" for line in lines)
    (folder / "copyright").write_text(_COPYRIGHT.format(home=HOME, licence=licence), encoding="utf-8")
    changes = (here.root / "CHANGELOG.md").read_bytes()
    (folder / "CHANGELOG.md.gz").write_bytes(gzip.compress(changes, mtime=0))


def _control(here: Environment, root: Path, version: str, edition: Edition) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    debian = root / "DEBIAN"
    debian.mkdir()
    for script in _SCRIPTS:
        shutil.copyfile(here.root / "infra" / "agent" / "debian" / script, debian / script)
    kilobytes = sum(path.stat().st_size // 1024 + 1 for path in files)
    template = (here.root / "infra" / "agent" / "debian" / "control").read_text(encoding="utf-8")
    text = template.format(
        version=version, architecture=edition.architecture, python=edition.python, kilobytes=kilobytes
    )
    (debian / "control").write_text(text, encoding="utf-8")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files]  # noqa: S324
    (debian / "md5sums").write_text("".join(sums), encoding="utf-8")


def _plain(root: Path, epoch: int) -> None:
    """Modes and times that do not depend on who builds, when, and under which umask."""
    scripts = {root / "DEBIAN" / script for script in _SCRIPTS} | set(root.rglob("systemd/control.sh"))
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in scripts else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _debian(version: str) -> str:
    """The version in Debian's order, where what follows a `~` comes before the end (deb-version(7), PEP 440)."""
    return re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", version)
