"""Builds the IIS targets from their settings over the real gateways."""

from __future__ import annotations

import ctypes
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from instance_agent.targets.iis.ccs.target import IisCcsTarget
from instance_agent.targets.iis.flags import SETTING
from instance_agent.targets.iis.target import IisTarget
from instance_agent.targets.parts.holding import holding
from instance_agent.windows import machine
from instance_agent.windows.access import make_private
from instance_agent.windows.certificates import DotNetStores
from instance_agent.windows.dotnet import load_assembly, load_framework
from instance_agent.windows.http_sys import HttpApi
from instance_agent.windows.settings import CcsSettings, IisSettings
from instance_agent.windows.sites import DotNetGateway
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def make_iis(env: Mapping[str, str]) -> IisTarget:
    """The target `iis`.

    Raises:
        ConfigurationError: A setting is wrong, or something must be installed first.
    """
    settings = IisSettings.from_env(env)
    if sys.platform != "win32":
        raise ConfigurationError("CERTCAST_TARGET is iis, which needs Windows; elsewhere use nginx, haproxy or files")
    gateway, stores = gateways(settings)
    return IisTarget(
        gateway,
        stores,
        http_sys=http_api(),
        store=settings.store,
        catch_all=settings.catch_all,
        new_flags=settings.new_flags,
        windows_build=machine.windows_build(),
        journal=machine.program_data() / "http_sys.json",
        role_instance=settings.role_instance,
        probe_address=settings.probe_address or machine.own_address(),
        held=partial(held_here, "iis"),
    )


def make_iis_ccs(env: Mapping[str, str]) -> IisCcsTarget:
    """The target `iis-ccs`; off Windows it writes files only, for servers that read them from a share.

    Raises:
        ConfigurationError: A setting is missing or wrong, or something must be installed first.
    """
    settings, central = IisSettings.from_env(env), CcsSettings.from_env(env)
    if settings.new_flags:
        raise ConfigurationError(
            f"{SETTING} is for the target iis: a binding of the Centralized Certificate Store takes no such flags"
        )
    if sys.platform != "win32":
        return IisCcsTarget(
            central.folder,
            central.password,
            site=central.site,
            port=central.port,
            probe_address=settings.probe_address,
        )
    gateway, stores = gateways(settings)
    return IisCcsTarget(
        central.folder,
        central.password,
        gateway=gateway,
        stores=stores,
        http_sys=http_api(),
        site=central.site,
        port=central.port,
        probe_address=settings.probe_address or machine.own_address(),
        held=partial(held_here, "iis-ccs"),
    )


@contextmanager
def held_here(kind: str, server: str) -> Iterator[None]:
    """Keep other agents of this kind on this machine away, by a lock in the private folder.

    Not by a named object of the system: any account could make one of that name first, and hold it.

    Raises:
        ConfigurationError: Another agent has it, or the folder is not ours.
    """
    folder = machine.program_data()
    make_private(folder)
    with holding(folder, server, name=f"{kind}.lock"):
        yield


def gateways(settings: IisSettings) -> tuple[DotNetGateway, DotNetStores]:
    """IIS and the certificate stores of this machine, over .NET loaded into this process.

    Raises:
        ConfigurationError: Something must be installed first.
    """
    load_framework()
    load_assembly(machine.administration_assembly())
    return DotNetGateway(machine.iis_version), DotNetStores(exportable=settings.exportable)


def http_api() -> HttpApi:
    """http.sys of this machine."""
    return HttpApi(ctypes.CDLL(str(machine.windows_folder() / "System32" / "httpapi.dll")))
