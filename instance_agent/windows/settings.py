"""The IIS targets' settings from the environment; nothing is opened here. docs/iis.md explains each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.iis import flags
from instance_agent.targets.iis.bindings import SslFlags
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.stores import KNOWN_STORES
from shared.binding import MAX_PORT
from shared.config import number, switch, text
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class IisSettings:
    """Settings of both IIS targets.

    Attributes:
        store: `CERTCAST_IIS_STORE`: LocalMachine store for new certificates.
        exportable: `CERTCAST_IIS_EXPORTABLE`: whether private keys may be exported again.
        catch_all: `CERTCAST_IIS_CATCH_ALL`: what to do about bindings without SNI.
        new_flags: `CERTCAST_IIS_SSL_FLAGS`: flags of new bindings besides SNI.
        probe_address: `CERTCAST_IIS_PROBE_ADDRESS`: where to prove a binding; None is this machine's own address.
        role_instance: `RoleInstanceID`, set by Cloud Services.
    """

    store: str
    exportable: bool
    catch_all: CatchAllPolicy
    new_flags: SslFlags
    probe_address: str | None
    role_instance: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> IisSettings:
        """Read them.

        Raises:
            ConfigurationError: One is wrong; the text names it.
        """
        return cls(
            store=_store(text(env, "CERTCAST_IIS_STORE", KNOWN_STORES[0])),
            exportable=switch(env, "CERTCAST_IIS_EXPORTABLE", default=False),
            catch_all=CatchAllPolicy.parse(text(env, "CERTCAST_IIS_CATCH_ALL", "keep")),
            new_flags=flags.parse(text(env, "CERTCAST_IIS_SSL_FLAGS")),
            probe_address=text(env, "CERTCAST_IIS_PROBE_ADDRESS") or None,
            role_instance=text(env, "RoleInstanceID") or None,
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
        folder, password_file = text(env, "CERTCAST_IIS_CCS_FOLDER"), text(env, "CERTCAST_IIS_CCS_PASSWORD_FILE")
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
            site=text(env, "CERTCAST_IIS_CCS_SITE") or None,
            port=number(env, "CERTCAST_IIS_CCS_PORT", default=443, least=1, most=MAX_PORT),
        )

    def password(self) -> str:
        """The common password, read each time, so that it can be changed.

        Raises:
            ConfigurationError: The file cannot be read or is empty.
        """
        try:
            password = self.password_file.read_text(encoding="utf-8-sig").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(
                f"CERTCAST_IIS_CCS_PASSWORD_FILE: {self.password_file} cannot be read: {problem}"
            ) from None
        if not password:
            raise ConfigurationError(f"CERTCAST_IIS_CCS_PASSWORD_FILE: {self.password_file} is empty")
        return password


def _store(named: str) -> str:
    for name in KNOWN_STORES:
        if name.lower() == named.lower():
            return name
    raise ConfigurationError(f"CERTCAST_IIS_STORE is {named!r}; it must be {' or '.join(KNOWN_STORES)}")
