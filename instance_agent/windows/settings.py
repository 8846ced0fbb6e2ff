"""The settings of the IIS targets, read from the agent's environment; builds no target and opens nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.stores import KNOWN_STORES
from shared.binding import MAX_PORT
from shared.config import number
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_YES, _NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IisSettings:
    """Settings of both IIS targets.

    Attributes:
        store: `CERTCAST_IIS_STORE`: LocalMachine store for new certificates.
        exportable: `CERTCAST_IIS_EXPORTABLE`: whether private keys may be exported again.
        catch_all: `CERTCAST_IIS_CATCH_ALL`: what to do about bindings without SNI.
        probe_address: `CERTCAST_IIS_PROBE_ADDRESS`: where to prove a binding; None is this machine's own address.
        role_instance: `RoleInstanceID`, set by Cloud Services.
    """

    store: str
    exportable: bool
    catch_all: CatchAllPolicy
    probe_address: str | None
    role_instance: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> IisSettings:
        """Read them.

        Raises:
            ConfigurationError: One is wrong; the text names it.
        """
        return cls(
            store=_store(_text(env, "CERTCAST_IIS_STORE") or KNOWN_STORES[0]),
            exportable=_flag(env, "CERTCAST_IIS_EXPORTABLE"),
            catch_all=CatchAllPolicy.parse(_text(env, "CERTCAST_IIS_CATCH_ALL") or "keep"),
            probe_address=_text(env, "CERTCAST_IIS_PROBE_ADDRESS") or None,
            role_instance=_text(env, "RoleInstanceID") or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CcsSettings:
    """Settings of the target `iis-ccs` alone.

    Attributes:
        folder: `CERTCAST_IIS_CCS_FOLDER`: the store's folder.
        password_file: `CERTCAST_IIS_CCS_PASSWORD_FILE`: holds the common password.
        site: `CERTCAST_IIS_CCS_SITE`: the web site that has the binding; None is the first.
        port: `CERTCAST_IIS_CCS_PORT`: the one port that is served.
    """

    folder: Path
    password_file: Path
    site: str | None
    port: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> CcsSettings:
        """Read them.

        Raises:
            ConfigurationError: One is missing or wrong; the text names it.
        """
        folder, password_file = _text(env, "CERTCAST_IIS_CCS_FOLDER"), _text(env, "CERTCAST_IIS_CCS_PASSWORD_FILE")
        if not folder:
            raise ConfigurationError(
                "CERTCAST_IIS_CCS_FOLDER is not set: give the folder that IIS reads the files from"
            )
        if not password_file:
            raise ConfigurationError(
                "CERTCAST_IIS_CCS_PASSWORD_FILE is not set: give a file that holds the password set in IIS under "
                "'Centralized Certificates'"
            )
        return cls(
            folder=Path(folder),
            password_file=Path(password_file),
            site=_text(env, "CERTCAST_IIS_CCS_SITE") or None,
            port=number(env, "CERTCAST_IIS_CCS_PORT", default=443, least=1, most=MAX_PORT),
        )

    def password(self) -> str:
        """The common password, read anew each time, so that it can be changed.

        Raises:
            ConfigurationError: The file cannot be read or is empty.
        """
        try:
            text = self.password_file.read_text(encoding="utf-8-sig").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(
                f"CERTCAST_IIS_CCS_PASSWORD_FILE: {self.password_file} cannot be read: {problem}"
            ) from None
        if not text:
            raise ConfigurationError(f"CERTCAST_IIS_CCS_PASSWORD_FILE: {self.password_file} is empty")
        return text


def _text(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip()


def _store(text: str) -> str:
    for name in KNOWN_STORES:
        if name.lower() == text.lower():
            return name
    raise ConfigurationError(f"CERTCAST_IIS_STORE is {text!r}; it must be {' or '.join(KNOWN_STORES)}")


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = _text(env, name).lower()
    if text not in _YES | _NO:
        raise ConfigurationError(f"{name} is {text!r}; it must be true or false")
    return text in _YES
