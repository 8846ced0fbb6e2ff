"""Settings from the environment: which storage account, which keys, which policy."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.config.webhooks import WEBHOOK_SECRET_SETTING, WEBHOOK_SETTING, event_source, webhook_secrets, webhook_urls
from shared.errors import ConfigurationError
from shared.upload import USUAL_PORTS, PortRanges

if TYPE_CHECKING:
    from collections.abc import Mapping

# Azurite's published account: every emulator in the world has this name and key.
# learn.microsoft.com, "Use the Azurite emulator for local Azure Storage development", well-known storage account.
EMULATOR_ACCOUNT = "devstoreaccount1"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
EMULATOR_SHORTHAND = "usedevelopmentstorage=true"

STORAGE_SETTING = "CERTCAST_STORAGE"
PORTS_SETTING = "CERTCAST_PORTS"
POLICY_SETTING = "CERTCAST_POLICY"
TOPIC_SETTING = "CERTCAST_EVENTGRID_TOPIC"
DASHBOARD_SIGN_IN_SETTING = "CERTCAST_DASHBOARD_SIGN_IN"
DASHBOARD_SIGN_INS = frozenset({"", "app-service"})


def emulator_connection_string(*, blob_port: int = 10000, queue_port: int = 10001, table_port: int = 10002) -> str:
    """Spell out the emulator's connection string for these ports on this machine."""
    parts = [
        "DefaultEndpointsProtocol=http",
        f"AccountName={EMULATOR_ACCOUNT}",
        f"AccountKey={EMULATOR_KEY}",
        f"BlobEndpoint=http://127.0.0.1:{blob_port}/{EMULATOR_ACCOUNT}",
        f"QueueEndpoint=http://127.0.0.1:{queue_port}/{EMULATOR_ACCOUNT}",
        f"TableEndpoint=http://127.0.0.1:{table_port}/{EMULATOR_ACCOUNT}",
    ]
    return ";".join(parts) + ";"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAccess:
    """How to reach the storage account: a connection string, or service addresses and an identity.

    Attributes:
        connection_string: Complete, the emulator's shorthand spelled out.
        blob_url, queue_url, table_url: The services' addresses, with an identity.
        client_id: Client id of a user-assigned managed identity; vaults need it beside a connection string too.
    """

    connection_string: str | None = field(default=None, repr=False)
    blob_url: str = ""
    queue_url: str = ""
    table_url: str = ""
    client_id: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str], *, default: str | None = None) -> StorageAccess:
        """Read `CERTCAST_STORAGE`, or `CERTCAST_STORAGE__accountName`, or `CERTCAST_STORAGE__blobServiceUri` and so on.

        The names are those of a Functions identity-based connection (learn.microsoft.com, "Guide for running functions
        with identity-based connections"), so that triggers, Function and agents are set alike.

        Args:
            env: The environment.
            default: Connection string to take when nothing is set.

        Raises:
            ConfigurationError: Nothing usable is set.
        """
        text = env.get(STORAGE_SETTING, "").strip()
        prefix = f"{STORAGE_SETTING}__"
        account = env.get(f"{prefix}accountName", "").strip()
        client_id = env.get(f"{prefix}clientId", "").strip() or None
        urls = {
            service: env.get(f"{prefix}{service}ServiceUri", "").strip()
            or (f"https://{account}.{service}.core.windows.net" if account else "")
            for service in ("blob", "queue", "table")
        }
        if not text and not any(urls.values()) and default is not None:
            text = default
        if text:
            return cls(connection_string=_connection_string(text), client_id=client_id)
        missing = [f"{prefix}{service}ServiceUri" for service, url in urls.items() if not url]
        if missing:
            raise ConfigurationError(
                f"no storage account: set {STORAGE_SETTING} to its connection string, or {prefix}accountName to use an "
                f"identity (missing: {', '.join(missing)})"
            )
        return cls(
            blob_url=urls["blob"],
            queue_url=urls["queue"],
            table_url=urls["table"],
            client_id=client_id,
        )

    @property
    def is_emulator(self) -> bool:
        """Whether this is the local emulator's account."""
        return self.connection_string is not None and f"AccountName={EMULATOR_ACCOUNT};" in self.connection_string


def connection_parts(text: str) -> dict[str, str]:
    """A connection string's parts by their names in lower case."""
    parts = (part.partition("=") for part in text.split(";") if part.strip())
    return {name.strip().lower(): value for name, _, value in parts}


def _connection_string(text: str) -> str:
    if text.rstrip(";").lower() == EMULATOR_SHORTHAND:
        return emulator_connection_string()
    if not connection_parts(text).keys() & {"accountname", "blobendpoint"}:
        raise ConfigurationError(
            f"{STORAGE_SETTING} is not a storage connection string: it has neither AccountName nor BlobEndpoint; "
            "copy it from the portal (Access keys), or set UseDevelopmentStorage=true for the local emulator"
        )
    return text if text.endswith(";") else f"{text};"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The Function's settings.

    Attributes:
        storage: The storage account.
        trust: `public`, `off`, or a path to PEM roots.
        key_encryption_key: A Key Vault key URL, or `file:<path>`, or several: see `shared.azure.key_ring`.
        key_vaults: Host names of the vaults from which passwords may be referred to.
        scrub_password: Whether an accepted upload's password is taken out of its metadata.
        event_topic: Endpoint of the Event Grid topic for outgoing events; empty for none.
        event_topic_key: That topic's access key; empty to use the identity.
        webhooks: Addresses that outgoing events are posted to.
        webhook_secrets: What those requests are signed with.
        event_source: What events name as their source; empty for the address of the container of uploads.
        sql_url: SQLAlchemy URL of a database with a table `certificates`; empty for none.
        folder: Folder of PFX files to serve from, on one machine; empty for none.
        ports: PortNumbers that uploads may ask for.
        rules: Where the policy is: a path, `blob:<container>/<name>`, or its JSON text; empty for none.
        dashboard_sign_in: `app-service` where people sign in to see the dashboard; empty where a key is asked for.
    """

    storage: StorageAccess
    trust: str
    key_encryption_key: str
    key_vaults: frozenset[str] = frozenset()
    scrub_password: bool = True
    event_topic: str = ""
    event_topic_key: str = field(default="", repr=False)
    webhooks: tuple[str, ...] = field(default=(), repr=False)
    webhook_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    event_source: str = ""
    sql_url: str = field(default="", repr=False)
    folder: str = ""
    ports: PortRanges = USUAL_PORTS
    rules: str = ""
    dashboard_sign_in: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the Function's settings.

        Raises:
            ConfigurationError: One is missing or wrong; the text names it and the cure.
        """
        env = os.environ if env is None else env
        vaults = env.get("CERTCAST_KEY_VAULTS", "").replace(",", " ").split()
        key = env.get("CERTCAST_KEY_ENCRYPTION_KEY", "").strip()
        if not key:
            raise ConfigurationError(
                "CERTCAST_KEY_ENCRYPTION_KEY is not set: give a Key Vault key URL, or file:<path> on one machine"
            )
        return cls(
            storage=StorageAccess.from_env(env),
            trust=env.get("CERTCAST_TRUST", "").strip() or "public",
            key_encryption_key=key,
            key_vaults=frozenset(vault_host(name) for name in vaults),
            scrub_password=switch(env, "CERTCAST_SCRUB_PASSWORD", default=True),
            event_topic=env.get(TOPIC_SETTING, "").strip(),
            event_topic_key=env.get("CERTCAST_EVENTGRID_KEY", "").strip(),
            webhooks=webhook_urls(env.get(WEBHOOK_SETTING, "")),
            webhook_secrets=webhook_secrets(env.get(WEBHOOK_SECRET_SETTING, "")),
            event_source=event_source(env),
            sql_url=env.get("CERTCAST_SQL_URL", "").strip(),
            folder=env.get("CERTCAST_FOLDER", "").strip(),
            ports=ports(env) or USUAL_PORTS,
            rules=env.get(POLICY_SETTING, "").strip(),
            dashboard_sign_in=dashboard_sign_in(env),
        )


def vault_host(name: str) -> str:
    """Take a vault's name, host name or URL for its host name."""
    host = name.removeprefix("https://").rstrip("/").lower()
    return host if "." in host else f"{host}.vault.azure.net"


def dashboard_sign_in(env: Mapping[str, str]) -> str:
    """Read how people sign in to see the dashboard; empty where they do not, and a key is asked for.

    Raises:
        ConfigurationError: It is something else.
    """
    way = env.get(DASHBOARD_SIGN_IN_SETTING, "").strip().lower()
    if way not in DASHBOARD_SIGN_INS:
        raise ConfigurationError(
            f"{DASHBOARD_SIGN_IN_SETTING} must be app-service, or not be set where the dashboard asks for a function "
            f"key; it is {way!r}"
        )
    return way


def text(env: Mapping[str, str], name: str, default: str = "") -> str:
    """Read a setting; one that is blank counts as not set."""
    return env.get(name, "").strip() or default


def ports(env: Mapping[str, str]) -> PortRanges | None:
    """Read which PortNumbers uploads may ask for; None when that is not set.

    Raises:
        ConfigurationError: It is no list of ports.
    """
    text = env.get(PORTS_SETTING, "").strip()
    try:
        return PortRanges.parse(text) if text else None
    except ValueError as error:
        raise ConfigurationError(
            f"{PORTS_SETTING}: {error}; write ports and ranges separated by commas, as in 443,8443,9000-9010"
        ) from None


def switch(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Read an on/off setting.

    Raises:
        ConfigurationError: It is neither.
    """
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name} must be true or false, not {text!r}")


def number(env: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    """Read a whole number within bounds.

    Raises:
        ConfigurationError: It is not one.
    """
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise ConfigurationError(f"{name} must be a whole number from {least} to {most}, not {text!r}")
    return value
