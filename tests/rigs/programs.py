"""The system programs that tests run against: where they are, and which Debian package brings a missing one."""

import os
import shutil
from pathlib import Path

import pytest

# The packages that .ci/run installs.
_PACKAGES = {
    "ab": "apache2-utils",
    "apache2": "apache2-bin",
    "caddy": "caddy",
    "faketime": "faketime",
    "gcc": "gcc",
    "haproxy": "haproxy",
    "keytool": "default-jre-headless",
    "mcs": "mono-mcs",
    "mono": "mono-runtime",
    "nginx": "nginx",
    "openssl": "openssl",
    "postgres": "postgresql",
    "wrk": "wrk",
}
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin")))
"""Where Debian puts servers, and an ordinary user's PATH does not look."""


def path_of(program: str) -> str | None:
    """Full path of a program, None if it is not installed."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS]))


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark a test that cannot run without these programs; it is skipped, naming the packages to install."""
    packages = [_PACKAGES.get(program, program) for program in programs if path_of(program) is None]
    reason = f"needs {', '.join(programs)}: apt-get install {' '.join(packages)}"
    return pytest.mark.skipif(bool(packages), reason=reason)
