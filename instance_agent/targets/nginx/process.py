"""The nginx program and its master process: what it is, what it has loaded, testing it, telling it to reload.

Nothing here knows what certcast has nginx do. On Linux the master is recognised by its command line before it is sent
anything, since a pid file outlives its process.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.parts.commands import run
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION = re.compile(r"nginx version: (\S+)")
_FILE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_LUA_LOADED = re.compile(r"load_module\s+\"?[^;]*ngx_http_lua_module")
_LUA_BUILT_IN = re.compile(r"--add-module=\S*(lua-nginx-module|ngx_lua|http-lua)")
_VERSION_TIMEOUT_S = 10.0
_MASTER_TITLE = b"nginx: master process"
_WORKER_TITLE = b"nginx: worker process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What nginx's configuration says, as `nginx -T` prints it.

    Attributes:
        has_lua: Whether the Lua module is there.
        worker_group: Numeric id of the group that worker processes belong to; None where they run as this user.
        files: Every file the configuration is made of, with its text.
    """

    has_lua: bool
    worker_group: int | None
    files: dict[str, str]

    def sets(self, directive: str, *, outside: Path) -> bool:
        """Whether a directive occurs in a file other than this one."""
        pattern = re.compile(rf"^\s*{directive}\s", re.MULTILINE)
        return any(pattern.search(text) for name, text in self.files.items() if name != str(outside))


class Nginx:
    """One nginx, running or not."""

    def __init__(self, command: Sequence[str], *, timeout_s: float) -> None:
        """Run nothing yet.

        Args:
            command: The program with the arguments that say which configuration is meant.
            timeout_s: How long a test of the configuration may take; 10,000 server blocks take some 10 s.
        """
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self.pid_file: Path | None = None
        """Where nginx writes its master's process id; None until its configuration was read."""

    async def version(self) -> str:
        """Such as `nginx/1.22.1`; empty when it cannot be told."""
        try:
            finished = await run([*self._command, "-v"], timeout_s=_VERSION_TIMEOUT_S)
        except ConfigurationError:
            return ""
        found = _VERSION.search(finished.output)
        return found[1] if found else ""

    async def load(self) -> Loaded:
        """Test the configuration and read it.

        Raises:
            ConfigurationError: There is no nginx.
            ServerUnavailableError: Its configuration is broken; the text says what nginx said.
        """
        built = await run([*self._command, "-V"], timeout_s=_VERSION_TIMEOUT_S)
        if (failure := built.failure) is not None:
            raise ConfigurationError(f"CERTCAST_NGINX_COMMAND is not nginx: {failure}")
        dumped = await run([*self._command, "-T"], timeout_s=self._timeout_s)
        if dumped.problem:
            said = _complaints(dumped.output) or dumped.problem
            raise ServerUnavailableError(f"nginx's configuration cannot be used: {said}")
        parts = _FILE.split(dumped.output)
        files = {name: _COMMENT.sub("", text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
        everything = "\n".join(files.values())
        self.pid_file = _pid_file(everything, built.output)
        return Loaded(
            has_lua=bool(_LUA_LOADED.search(everything) or _LUA_BUILT_IN.search(built.output)),
            worker_group=_worker_group(everything, built.output),
            files=files,
        )

    async def test(self) -> str | None:
        """Why nginx would not load its configuration; None when it would."""
        finished = await run([*self._command, "-t"], timeout_s=self._timeout_s)
        return f"nginx -t: {_complaints(finished.output) or finished.problem}" if finished.problem else None

    def master(self) -> int | None:
        """The master's process id; None when nginx is not running."""
        if self.pid_file is None:
            return None
        try:
            pid = int(self.pid_file.read_text(encoding="ascii"))
            title = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc/self/cmdline").exists() else _MASTER_TITLE
        except (OSError, ValueError):
            return None
        if not title.startswith(_MASTER_TITLE):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return pid

    def workers(self) -> frozenset[int]:
        """The master's workers that accept connections; empty where /proc does not tell. Blocks."""
        master = self.master()
        found = set()
        for entry in Path("/proc").glob("[0-9]*") if master else ():
            with contextlib.suppress(OSError, ValueError):
                # The command's name may hold spaces and parentheses; state and parent follow its last ')' (proc(5)).
                parent = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                # One that finishes its last answers is called "nginx: worker process is shutting down".
                if int(parent) == master and (entry / "cmdline").read_bytes().strip(b"\0 ") == _WORKER_TITLE:
                    found.add(int(entry.name))
        return frozenset(found)

    def hang_up(self) -> bool:
        """Tell the master to reload: one HUP, which parses once where `nginx -s reload` parses twice.

        Returns:
            Whether there was a master to tell.

        Raises:
            ConfigurationError: This user may not signal it.
        """
        pid = self.master()
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            try:
                os.kill(pid, signal.SIGHUP)
            except PermissionError:
                raise ConfigurationError(
                    f"nginx (process {pid}) may not be told to reload by this user: run the agent as root or as the "
                    "user nginx was started by"
                ) from None
        return True


def _complaints(output: str) -> str:
    """What `nginx -t` found wrong, without the lines that only say that it failed."""
    lines = [
        line.removeprefix("nginx: ").strip() for line in output.splitlines() if "[emerg]" in line or "[crit]" in line
    ]
    return " | ".join(lines) or " | ".join(output.split("\n")[-3:]).strip(" |")


def _pid_file(configuration: str, built: str) -> Path:
    written = re.search(r"(?:^|[;}])\s*pid\s+\"?([^;\"]+?)\"?\s*;", configuration, re.MULTILINE)
    default = re.search(r"--pid-path=(\S+)", built)
    path = Path(written[1] if written else default[1] if default else "logs/nginx.pid")
    prefix = re.search(r"--prefix=(\S+)", built)
    return path if path.is_absolute() else Path(prefix[1] if prefix else "/usr/local/nginx") / path


def _worker_group(configuration: str, built: str) -> int | None:
    """The group of the workers, as nginx chooses it (nginx.org, "Core functionality", `user`)."""
    if os.geteuid() != 0:
        return None  # only a master that is root changes its workers' user
    import grp  # noqa: PLC0415 - Windows has none
    import pwd  # noqa: PLC0415

    written = re.search(r"(?:^|[;}])\s*user\s+([^\s;]+)(?:\s+([^\s;]+))?\s*;", configuration, re.MULTILINE)
    default = re.search(r"--user=(\S+)", built)
    user = written[1] if written else default[1] if default else "nobody"
    try:
        if user == "root":
            return None
        if written is None:
            group = re.search(r"--group=(\S+)", built)
            return grp.getgrnam(group[1]).gr_gid if group else pwd.getpwnam(user).pw_gid
        return grp.getgrnam(written[2] or user).gr_gid
    except KeyError:
        raise ServerUnavailableError(
            f"the user or group that nginx's workers run as ({user}) is not known here"
        ) from None
