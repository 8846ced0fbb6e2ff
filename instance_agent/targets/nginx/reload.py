"""nginx's reload: test, one HUP, and the wait until a worker answers with what is on disk."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.parts.tested_batch import put_in_force
from shared.errors import ConfigurationError
from shared.phrasing import logger

if TYPE_CHECKING:
    from instance_agent.targets.nginx.mode import NginxParts
    from instance_agent.targets.parts.file_batch import FileBatch

_OLD_WORKERS_S = 5.0
_POLL_S = 0.02

log = logger(__name__)


def fresh_token() -> str:
    """A token for an include that was not written before."""
    return secrets.token_hex(8)


def include_on_disk(parts: NginxParts) -> str:
    """Our include as it is on disk; empty when there is none. Blocks."""
    try:
        return parts.main.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def token_on_disk(parts: NginxParts) -> str:
    """The token of the include as it is on disk; empty when there is none. Blocks."""
    return config.token_of(include_on_disk(parts))


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
        token = await asyncio.to_thread(token_on_disk, parts)
        before = await asyncio.to_thread(parts.nginx.workers)
        if not parts.nginx.hang_up():
            raise ServerUnavailableError("nginx is not running: start it")
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
        ConfigurationError: The include is not in nginx's configuration, or nginx does not take it.
    """
    included = parts.included
    if batch is not None and not included:
        await asyncio.to_thread(batch.commit, on_trial=True)
        try:
            included = str(parts.main) in (await parts.nginx.load()).files
            await asyncio.to_thread(batch.proved)
        except ConfigurationError:
            await asyncio.to_thread(batch.undo)
            raise
        finally:
            await asyncio.to_thread(batch.close)
        batch = None
    if not included:
        raise ConfigurationError(
            f"nginx does not include {parts.main}: add `include {parts.settings.folder}/*.conf;` inside http {{ }} of "
            "its configuration (on Debian as a file in /etc/nginx/conf.d), then start the agent again"
        )
    reload = Reload(parts)
    running = parts.nginx.master() is not None
    try:
        if batch is not None:
            await put_in_force(batch, reload if running else _Check(parts))
        elif running and await parts.control.loaded() != await asyncio.to_thread(token_on_disk, parts):
            await reload.activate()
    except ApplyError as error:
        raise ConfigurationError(f"nginx cannot use {parts.main}: {error}") from None
    if not running:
        forget_socket(parts)
        log.warning("nginx is not running: what is installed is served once it is started")


def forget_socket(parts: NginxParts) -> None:
    """Delete the socket that an nginx left which was killed: it would keep the next one from starting."""
    if parts.nginx.master() is None:
        with suppress(OSError):
            parts.settings.socket.unlink()


class _Check(Reload):
    """An nginx that does not run: its files are tested alone."""

    async def activate(self) -> str | None:
        return None
