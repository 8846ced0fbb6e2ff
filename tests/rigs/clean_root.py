"""A machine with nothing of ours on it: Debian 12 of its own, booted under systemd, or without where that is refused.

The system is made by mmdebstrap, once, and kept below `.cache`; each machine is a layer above it, in memory, that goes
with it. It has this machine's network, so that what listens on 127.0.0.1 here can be reached from there.
"""

import hashlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from devtools.solitude import alone
from tests.rigs.deployment import ROOT
from tests.rigs.programs import require

MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    *("adduser", "ca-certificates", "curl", "haproxy", "init-system-helpers", "python3", "python3-venv"),
    *("systemd", "systemd-sysv"),
)
BOOTED_S, ENDED_S, COMMAND_S = 30, 15, 150
DOWNLOADS = "/srv/downloads"
"""Where scripts are run there."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAYERS = """\
mount -t tmpfs tmpfs "$2" && mkdir "$2/upper" "$2/work" "$2/root" || exit 97
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" || exit 97
shift 2; exec systemd-nspawn "$@"
"""
_ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private")
"""In a mount namespace of its own, and no longer than this process: what is mounted is gone with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRoot:
    """One machine.

    Attributes:
        enter: The command that runs another one there.
        booted: Whether systemd runs there; without, only files and maintainer scripts can be looked at.
    """

    enter: tuple[str, ...]
    booted: bool

    def ran(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script there as root, whatever its exit code."""
        return subprocess.run(
            self._command(script, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def run(self, script: str, **variables: str) -> str:
        """Run a script there as root, and answer what it printed."""
        ran = self.ran(script, **variables)
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def started(self, script: str, **variables: str) -> subprocess.Popen[str]:
        """A script that runs there beside the test."""
        return subprocess.Popen(
            self._command(script, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def write(self, path: str, content: bytes) -> None:
        """Write a file there, 0600."""
        command = self._command('umask 077; rm -f "$NEW"; cat > "$NEW"', {"NEW": path})
        subprocess.run(command, input=content, check=True, timeout=COMMAND_S)

    def _command(self, script: str, variables: Mapping[str, str]) -> list[str]:
        given = [f"{name}={value}" for name, value in {"PATH": _PATH, "HOME": DOWNLOADS, **variables}.items()]
        # `sudo` is what an ordinary user types; here everything is root's already.
        whole = f'mkdir -p {DOWNLOADS}; cd {DOWNLOADS}\nsudo() {{ "$@"; }}\n{script}'
        return [*self.enter, "env", "-i", *given, "bash", "-euo", "pipefail", "-c", whole]


@contextmanager
def clean_root(scratch: Path, shared: Mapping[str, Path]) -> Iterator[CleanRoot]:
    """A new machine, for as long as the block runs.

    Args:
        scratch: An empty folder for it.
        shared: Folders of this machine that can be read there, by their place there.
    """
    system = _system()
    binds = [f"--bind-ro={folder}:{place}" for place, folder in shared.items()]
    top = scratch / "root"
    own = ["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", f"--directory={top}", *binds]
    log = scratch.with_suffix(".log")
    with log.open("wb") as output:
        nspawn = subprocess.Popen(
            [*_ALONE, "sh", "-c", _LAYERS, "sh", str(system), str(scratch), *own],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        inside = _booted(nspawn)
        if inside is not None:
            namespaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root")
            yield CleanRoot(enter=("nsenter", "--target", str(inside), *namespaces), booted=True)
            return
    finally:
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
    sys.stdout.write(f"systemd is not booted here, maintainer scripts run in a chroot: {log.read_text()[-500:]}\n")
    folder = scratch / "copy"
    subprocess.run(["cp", "-a", system, folder], check=True)
    # What is shared may be filled later on: it is copied before each command.
    copies = [f"cp -RT {shlex.quote(str(there))} {shlex.quote(f'{folder}{place}')}" for place, there in shared.items()]
    enter = ("sh", "-ec", "\n".join([*copies, 'exec chroot "$0" "$@"']), str(folder))
    yield CleanRoot(enter=enter, booted=False)


def _booted(nspawn: subprocess.Popen[bytes]) -> int | None:
    """The process id of the machine's systemd once everything is started; None where it does not come so far."""
    until = time.monotonic() + BOOTED_S
    while nspawn.poll() is None and time.monotonic() < until:
        found = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        for child in found:
            asked = ["nsenter", "--target", child, "--mount", "--pid", "--cgroup", "--root"]
            asked += ["systemctl", "is-system-running"]
            state = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
            if state in {"running", "degraded"}:
                return int(child)
        time.sleep(0.2)
    return None


def _system() -> Path:
    """Where the system is that machines are layers above; made where it is not."""
    key = hashlib.sha256("\0".join((MIRROR, *PACKAGES)).encode()).hexdigest()[:12]
    cache = ROOT / ".cache" / "clean-root"
    made = cache / key
    with alone(cache / "lock"):
        if made.exists():
            return made
        new = cache / "new"
        shutil.rmtree(new, ignore_errors=True)
        options = ["--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"]
        command = [require("mmdebstrap"), *options, "bookworm", str(new), MIRROR]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            said = "\n".join((ran.stdout + ran.stderr).splitlines()[-8:])
            pytest.fail(f"mmdebstrap made no Debian from {MIRROR}: is that mirror reached from here?\n{said}")
        new.rename(made)
    return made
