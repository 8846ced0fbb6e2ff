"""The system programs that tests run against: where they are, and which Debian package brings a missing one."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from local_azure.servers.nginx import find_lua_modules

# The packages that .ci/run installs.
_PACKAGES = {
    "ab": "apache2-utils",
    "apache2": "apache2-bin",
    "caddy": "caddy",
    "dpkg-deb": "dpkg",
    "faketime": "faketime",
    "gcc": "gcc",
    "haproxy": "haproxy",
    "keytool": "default-jre-headless",
    "mcs": "mono-mcs",
    "mono": "mono-runtime",
    "mmdebstrap": "mmdebstrap",
    "nginx": "nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache",
    "openssl": "openssl",
    "postgres": "postgresql",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "wrk": "wrk",
}
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin")))
"""Where Debian puts servers, and an ordinary user's PATH does not look."""


def path_of(program: str) -> str | None:
    """Full path of a program, None if it is not installed."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS]))


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark a test that cannot run without these programs; it is skipped, naming the packages to install."""
    missing = _missing(programs)
    return pytest.mark.skipif(bool(missing), reason=missing)


def require(program: str) -> str:
    """Full path of a program; where it is not installed the running test is skipped, naming the packages to install."""
    found = path_of(program)
    if missing := _missing([program]):
        pytest.skip(missing)
    assert found is not None
    return found


def _missing(programs: Sequence[str]) -> str:
    packages = [_PACKAGES.get(program, program) for program in programs if not _is_there(program)]
    return f"needs {', '.join(programs)}: apt-get install {' '.join(packages)}" if packages else ""


def _is_there(program: str) -> bool:
    return path_of(program) is not None and (program != "nginx" or bool(find_lua_modules()))
