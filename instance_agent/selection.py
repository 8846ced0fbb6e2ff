"""Which target `CERTCAST_TARGET` selects, built from its own settings; the one place that knows all targets.

A target's modules are imported where it is selected: those of all of them would be a tenth of the agent's memory.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from instance_agent.targets.base import BindingTarget


def make_target(kind: str, env: Mapping[str, str]) -> BindingTarget:
    """Build the target of that kind.

    Raises:
        ConfigurationError: There is none of that kind, or one of its settings is wrong.
    """
    maker = _TARGETS.get(kind)
    if maker is None:
        raise ConfigurationError(f"CERTCAST_TARGET must be one of {', '.join(sorted(_TARGETS))}, not {kind!r}")
    return maker(env)


def _caddy(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.targets.caddy.settings import CaddySettings
    from instance_agent.targets.caddy.target import CaddyTarget

    return CaddyTarget(CaddySettings.from_env(env))


def _embedded(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.targets.embedded.settings import EmbeddedSettings
    from instance_agent.targets.embedded.target import EmbeddedTarget

    return EmbeddedTarget(EmbeddedSettings.from_env(env))


def _files(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.targets.files.settings import FilesSettings
    from instance_agent.targets.files.target import FilesTarget

    return FilesTarget(FilesSettings.from_env(env))


def _haproxy(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.targets.haproxy.settings import HAProxySettings
    from instance_agent.targets.haproxy.target import HAProxyTarget

    return HAProxyTarget(HAProxySettings.from_env(env))


def _iis(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.windows.making import make_iis

    return make_iis(env)


def _iis_ccs(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.windows.making import make_iis_ccs

    return make_iis_ccs(env)


def _nginx(env: Mapping[str, str]) -> BindingTarget:
    from instance_agent.targets.nginx.settings import NginxSettings
    from instance_agent.targets.nginx.target import NginxTarget

    return NginxTarget(NginxSettings.from_env(env))


_TARGETS: dict[str, Callable[[Mapping[str, str]], BindingTarget]] = {
    "caddy": _caddy,
    "embedded": _embedded,
    "files": _files,
    "haproxy": _haproxy,
    "iis": _iis,
    "iis-ccs": _iis_ccs,
    "nginx": _nginx,
}
