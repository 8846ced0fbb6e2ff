"""nginx's reload: test, one HUP, and the wait until a worker answers with what is on disk; and what keeps it from one.

What is wrong with our own files only a person can put right; everything else about nginx may be well again later.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, ServerUnavailableError
from instance_agent.targets.nginx import config, listens
from instance_agent.targets.parts.access import PRIVATE, Access
from instance_agent.targets.parts.tested_batch import put_in_force
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from instance_agent.targets.nginx.control import Control
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.nginx.process import Loaded, Nginx
    from instance_agent.targets.nginx.settings import NginxSettings
    from instance_agent.targets.parts.file_batch import FileBatch
    from instance_agent.targets.parts.own_folder import OwnFolder
    from shared.errors import CertcastError

_OLD_WORKERS_S = 5.0
_POLL_S = 0.02


def fresh_token() -> str:
    """A token for an include that was not written before."""
    return secrets.token_hex(8)


def text_of(path: Path) -> str:
    """A file of ours as it is on disk; empty when there is none. Blocks."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def token_on_disk(parts: NginxParts) -> str:
    """The token of the include as it is on disk; empty when there is none. Blocks."""
    return config.token_of(text_of(parts.main))


def claiming(settings: NginxSettings) -> list[Path]:
    """Our files that may make a server block of ours the default one. Blocks."""
    return [settings.folder / config.MAIN_NAME, *(settings.folder / config.BLOCKS_NAME).glob("*/_default_.conf")]


async def load(nginx: Nginx, settings: NginxSettings, folder: OwnFolder) -> Loaded:
    """What nginx's configuration says; where another server block is the default one since, ours gives way to it.

    Raises:
        ConfigurationError: There is no nginx.
        ServerUnavailableError: The configuration is broken.
    """
    for _ in settings.ports:
        try:
            return await nginx.load()
        except ServerUnavailableError as error:
            if not await asyncio.to_thread(_give_way, str(error), settings, folder):
                raise
    return await nginx.load()


def _give_way(said: str, settings: NginxSettings, folder: OwnFolder) -> bool:
    """Take our claim back where nginx says that there are two; whether there was one."""
    address = listens.duplicate_in(said)
    if address is None:
        return False
    batch, found = folder.batch(), False
    for path in claiming(settings):
        text = text_of(path)
        without = listens.without_default(text, address)
        if without != text:
            batch.write(path, without.encode(), access_of(path))
            found = True
    if found:
        batch.commit()
        batch.close()
    return found


def access_of(path: Path) -> Access:
    """Who may read a file of ours as it is on disk. Blocks."""
    there = path.stat()
    return Access(group=there.st_gid) if there.st_mode & 0o040 else PRIVATE


class Reload:
    """Has nginx test its files, and load them with one HUP."""

    def __init__(self, parts: NginxParts) -> None:
        self._parts = parts

    async def check(self) -> str | None:
        """`nginx -t`."""
        return await self._parts.nginx.test()

    async def activate(self) -> str | None:
        """One HUP, then wait until workers answer with the include that is on disk, and those before them no longer do.

        For a tenth of a second nginx has both accept connections (ngx_master_process_cycle), and which certificate
        is seen is chance.

        Raises:
            ServerUnavailableError: nginx is not running, or goes on with what it had.
        """
        parts = self._parts
        if parts.nginx.pid_file is None:  # its configuration was broken when it was to be read
            await load(parts.nginx, parts.settings, parts.folder)
        token = await asyncio.to_thread(token_on_disk, parts)
        before = await asyncio.to_thread(parts.nginx.workers)
        if not parts.nginx.hang_up():
            raise await not_running(parts)
        if not await parts.control.wait_until_loaded(token, timeout_s=parts.settings.reload_timeout_s):
            raise ServerUnavailableError(
                f"nginx was told to reload and goes on with its old configuration after "
                f"{parts.settings.reload_timeout_s} s: its error log tells why (a port in use, no memory left)"
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(_OLD_WORKERS_S):
                while before & await asyncio.to_thread(parts.nginx.workers):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_POLL_S)
        return None


async def bring_into_force(parts: NginxParts, batch: FileBatch | None) -> None:
    """Write the batch where there is one, and see that a running nginx has loaded our include.

    Args:
        parts: What nginx is used with.
        batch: The include and what belongs to it; None where they are on disk already.

    Raises:
        ConfigurationError: nginx does not take what we wrote.
        ServerUnavailableError: nginx does not include it, is not running, or takes nothing from others either.
    """
    if not parts.included:
        await _see_included(parts, batch)
        batch = None
    reload = Reload(parts)
    running = parts.nginx.master() is not None
    try:
        if batch is not None:
            await put_in_force(batch, reload if running else _Check(parts), interval=parts.interval)
        elif running and await parts.control.loaded() != await asyncio.to_thread(token_on_disk, parts):
            parts.interval.begin()
            await reload.activate()
    except ServerUnavailableError:
        raise
    except ApplyError as error:
        raise _refused(parts, str(error)) from None
    if not running and await parts.control.loaded() != await asyncio.to_thread(token_on_disk, parts):
        raise await not_running(parts)


async def _see_included(parts: NginxParts, batch: FileBatch | None) -> None:
    """Write our include where nginx may never have seen one, and see that its configuration takes it in."""
    included = False
    if batch is not None:
        await asyncio.to_thread(batch.commit, on_trial=True)
        try:
            included = str(parts.main) in (await parts.nginx.load()).files
            await asyncio.to_thread(batch.proved)
        except ServerUnavailableError as error:
            await asyncio.to_thread(batch.undo)
            raise _refused(parts, str(error)) from None
        finally:
            await asyncio.to_thread(batch.close)
    if not included:
        raise ServerUnavailableError(
            f"nginx does not include {parts.main}: add `include {parts.settings.folder}/*.conf;` inside http {{ }} of "
            "its configuration (on Debian as a file in /etc/nginx/conf.d); the agent sees it by itself"
        )


def _refused(parts: NginxParts, said: str) -> CertcastError:
    """Why our include is not in force, where nginx takes everything without it."""
    problem = f"nginx cannot use {parts.main}: {said}"
    is_ours = str(parts.settings.folder) in said and listens.duplicate_in(said) is None
    return ConfigurationError(problem) if is_ours else ServerUnavailableError(problem)


async def not_running(parts: NginxParts) -> ServerUnavailableError:
    """Why nginx cannot be told to reload: it is down, or its master cannot be found."""
    if await parts.control.loaded() is not None:
        return ServerUnavailableError(
            f"nginx answers on {parts.settings.socket}, and {parts.nginx.pid_file} does not name its master process: "
            "it cannot be told to reload until the master's process id is written there, or nginx is restarted"
        )
    await asyncio.to_thread(forget_socket, parts.nginx, parts.control)
    return ServerUnavailableError("nginx is not running: start it; what is installed is served from its start on")


def forget_socket(nginx: Nginx, control: Control) -> None:
    """Delete the socket that an nginx left which was killed: it would keep the next one from starting. Blocks."""
    if nginx.master() is not None:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(str(control.path))
        except ConnectionRefusedError:  # there is a file, and no process behind it (unix(7))
            control.path.unlink()


class _Check(Reload):
    """An nginx that does not run: its files are tested alone."""

    async def activate(self) -> str | None:
        return None
