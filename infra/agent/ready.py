"""Waits until the agent of a systemd unit is ready: `ready.py UNIT ADDRESS PORT SECONDS`; exit code 1 and why, if not.

Only what the unit's own process listens on is asked: another agent may have the port, and be ready.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

_PAUSE_S = 0.2
_PATIENCE_S = 5.0
_LISTENING = "0A"
"""Of a row of /proc/net/tcp (proc(5)): address, state and inode are its fields 1, 3 and 9."""
_STAYS_ENDED = {"failed", "inactive"}
_OF_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address that is asked, not listened on


def main(unit: str, address: str, port: int, seconds: float) -> int:
    """Ask until there is an answer worth telling, and tell it."""
    host = _OF_ANY_ADDRESS.get(address, address)
    ask = build_opener(ProxyHandler({})).open
    end, said = time.monotonic() + seconds, "it does not listen yet"
    while time.monotonic() < end:
        state, pid = _asked(unit)
        if state in _STAYS_ENDED:
            return _tell(f"the agent has ended; its last lines (journalctl --unit {unit}):", 1)
        for one in _ports_of(pid) if port == 0 else _ports_of(pid) & {port}:
            url = f"http://[{host}]:{one}/readyz" if ":" in host else f"http://{host}:{one}/readyz"
            try:
                with ask(url, timeout=_PATIENCE_S) as answer:
                    return _tell(_line(answer.read()), 0)
            except HTTPError as error:
                said = _line(error.read())
            except (OSError, ValueError):
                continue  # of port 0: one where something else is served
        time.sleep(_PAUSE_S)
    return _tell(f"not ready after {seconds:g} s: {said}; the agent's last lines (journalctl --unit {unit}):", 1)


def _asked(unit: str) -> tuple[str, int]:
    """The unit's state and its main process."""
    command = ["systemctl", "show", unit, "--property=ActiveState", "--property=MainPID"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - systemd's own
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return values.get("ActiveState", ""), int(values.get("MainPID") or 0)


def _ports_of(pid: int) -> set[int]:
    """TCP ports that a process listens on."""
    sockets = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(str(descriptor.readlink()))
    ports = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for row in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
                fields = row.split()
                if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in sockets:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def _line(body: bytes) -> str:
    return "; ".join(body.decode(errors="replace").splitlines()[:3])


def _tell(what: str, code: int) -> int:
    sys.stderr.write(f"certcast-agent: {what}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
