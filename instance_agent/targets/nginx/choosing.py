"""Which of the two modes is used: by nginx's configuration, or while that is broken by what nginx has loaded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.nginx import config
from instance_agent.targets.nginx.blocks import NginxBlocks
from instance_agent.targets.nginx.dynamic import NginxDynamic
from instance_agent.targets.nginx.mode import NginxMode, NginxParts, Room
from instance_agent.targets.nginx.reload import access_of, claiming, load, text_of
from instance_agent.targets.parts.access import PRIVATE, Access
from instance_agent.targets.parts.tested_batch import Interval
from shared.errors import ConfigurationError
from shared.phrasing import logger

if TYPE_CHECKING:
    from instance_agent.targets.nginx.control import Control
    from instance_agent.targets.nginx.process import Nginx
    from instance_agent.targets.nginx.settings import NginxSettings
    from instance_agent.targets.parts.own_folder import OwnFolder
    from instance_agent.targets.parts.pem_folder import PemFolder

log = logger(__name__)


class Chooser:
    """Makes the mode that fits.

    Args:
        settings: The settings.
        nginx: The program.
        folder: Our own folder.
        pems: Our PEM files.
        control: The unix socket.
    """

    def __init__(
        self, settings: NginxSettings, nginx: Nginx, *, folder: OwnFolder, pems: PemFolder, control: Control
    ) -> None:
        self._settings = settings
        self._nginx = nginx
        self._folder = folder
        self._pems = pems
        self._control = control
        self._interval = Interval(settings.reload_interval_s)
        self._template = config.body_template(None)

    def read_template(self) -> None:
        """Read the template; what is edited later is in force from the agent's next start. Blocks.

        Raises:
            ConfigurationError: It cannot be read.
        """
        self._template = config.body_template(self._settings.template)

    async def by_configuration(self) -> NginxMode | ServerUnavailableError:
        """The mode that nginx's configuration and the settings ask for, or why the configuration cannot be read.

        Raises:
            ConfigurationError: nginx, or the module that the settings ask for, is missing.
        """
        settings = self._settings
        try:
            loaded = await load(self._nginx, settings, self._folder)
        except ServerUnavailableError as broken:
            return broken
        if settings.mode == "dynamic" and not loaded.has_lua:
            raise ConfigurationError(
                "CERTCAST_NGINX_MODE is dynamic and nginx has no Lua module: choose blocks, or install it (on Debian "
                "libnginx-mod-http-lua, lua-resty-core and lua-resty-lrucache)"
            )
        return self._mode(
            await asyncio.to_thread(Room.beside, loaded, settings),
            dynamic=settings.mode == "dynamic" or (settings.mode == "auto" and loaded.has_lua),
            access=Access(group=loaded.worker_group),
            included=str(settings.folder / config.MAIN_NAME) in loaded.files,
        )

    async def by_what_is_loaded(self, broken: ServerUnavailableError, before: NginxMode | None) -> NginxMode:
        """The mode of an nginx whose configuration is broken now, if it has loaded ours: what it serves can change.

        Args:
            broken: What nginx said.
            before: The mode so far.

        Raises:
            ServerUnavailableError: It has not.
        """
        main, *others = await asyncio.to_thread(claiming, self._settings)
        include = await asyncio.to_thread(text_of, main)
        token = await self._control.loaded()
        if token is None or token != config.token_of(include):
            raise broken
        log.warning("%s; what nginx has loaded before goes on", broken)
        if before is not None:
            return before
        texts = [include, *[await asyncio.to_thread(text_of, other) for other in others]]
        room = await asyncio.to_thread(Room.as_written, texts, self._settings)
        return self._mode(room, dynamic=config.is_dynamic(include), access=access_of(main), included=True)

    def _mode(self, room: Room, *, dynamic: bool, access: Access, included: bool) -> NginxMode:
        settings = self._settings
        parts = NginxParts(
            settings=settings,
            folder=self._folder,
            nginx=self._nginx,
            control=self._control,
            pems=self._pems,
            # The workers read certificates in dynamic mode only; else the master does, which is root.
            access=access if dynamic else PRIVATE,
            template=self._template,
            room=room,
            included=included,
            interval=self._interval,
        )
        return NginxDynamic(parts) if dynamic else NginxBlocks(parts)
