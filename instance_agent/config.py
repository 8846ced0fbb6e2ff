"""The agent's settings from the environment or a file; nothing is opened here."""

from __future__ import annotations

import os
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, MAX_PORT
from shared.config import StorageAccess, number, text
from shared.errors import ConfigurationError
from shared.messages import poison_queue_of, queue_of
from shared.state.keys import encode_key
from shared.state.records import MAX_ID_CHARS
from shared.upload import ROLE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE_SETTING = "CERTCAST_CONFIG"

# Environment that platforms set on a role instance, most specific first: Cloud Services (extended support),
# App Service, Kubernetes and container platforms.
_PLATFORM_NAMES = ("RoleInstanceID", "WEBSITE_INSTANCE_ID", "CONTAINER_APP_REPLICA_NAME")

MOST_ID_CHARS = MAX_ID_CHARS - 12
"""Of an id as a key, where characters beyond letters and digits count more: what takes its place is 11 longer."""

DEFAULT_POLL_MAX_MS = 500
DEFAULT_HEALTH_PORT = 8484
DEFAULT_PROOF_CYCLE_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What one agent needs to know.

    Attributes:
        storage: The storage account.
        key_encryption_key: As the Function has it.
        instance: This instance's id.
        role: Which uploads concern it besides those for every role.
        host: Machine name.
        target: Kind of the web server.
        poll_max_ms: Longest wait between two looks at an idle queue.
        health_address: Where health and metrics are served.
        health_port: 0 takes any free port.
        proof_cycle_s: Within how many seconds each binding is looked at again.
    """

    storage: StorageAccess
    key_encryption_key: str
    instance: str
    role: str
    host: str
    target: str
    poll_max_ms: int
    health_address: str
    health_port: int
    proof_cycle_s: int = DEFAULT_PROOF_CYCLE_S

    @property
    def queue(self) -> str:
        """This instance's queue."""
        return queue_of(self.instance)

    @property
    def poison_queue(self) -> str:
        """Where messages are put that cannot be acted on."""
        return poison_queue_of(self.instance)


def read_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    r"""The environment, over the settings of the TOML file that `CERTCAST_CONFIG` names.

    On Windows the file is `%ProgramData%\certcast\agent.toml` unless set, and may be missing.

    Raises:
        ConfigurationError: The file cannot be read or holds something other than plain settings.
    """
    env = dict(os.environ if env is None else env)
    named = env.get(CONFIG_FILE_SETTING, "")
    usual = Path(env["ProgramData"], "certcast", "agent.toml") if os.name == "nt" and "ProgramData" in env else None
    path = Path(named) if named else usual
    if path is None or (not named and not path.exists()):
        return env
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"settings file {path} cannot be read: {error.strerror}") from None
    except ValueError:
        # The decoder's text quotes the file, and the file holds a connection string.
        raise ConfigurationError(
            f"settings file {path} is not TOML; write lines such as CERTCAST_ROLE = 'web'"
        ) from None
    settings = {}
    for name, value in document.items():
        if not isinstance(value, str | int | bool):
            raise ConfigurationError(f"settings file {path}: {name} must be text, a number or true/false")
        settings[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return settings | env


def agent_settings(env: Mapping[str, str], *, metadata_name: str | None = None) -> AgentSettings:
    """Read the agent's settings.

    Args:
        env: From `read_environment`.
        metadata_name: What the cloud's metadata service calls this machine, if it was asked.

    Raises:
        ConfigurationError: One is missing or wrong; the text names it and the cure.
    """
    key = text(env, "CERTCAST_KEY_ENCRYPTION_KEY")
    if not key:
        raise ConfigurationError(
            "CERTCAST_KEY_ENCRYPTION_KEY is not set: give the value that the Function has, or bundles cannot be opened"
        )
    role = text(env, "CERTCAST_ROLE", ANY_ROLE)
    if role != ANY_ROLE and not ROLE_NAME.match(role):
        raise ConfigurationError(f"CERTCAST_ROLE must be 1 to 64 of A-Z a-z 0-9 . _ -, not {role!r}")
    instance = named_instance(env) or metadata_name or socket.gethostname()
    if len(encode_key(instance)) > MOST_ID_CHARS:
        raise ConfigurationError(
            f"CERTCAST_INSTANCE, or what the platform calls this instance, is too long for a row's key "
            f"({len(instance)} characters); give it a shorter id"
        )
    return AgentSettings(
        storage=StorageAccess.from_env(env),
        key_encryption_key=key,
        instance=instance,
        role=role,
        host=socket.gethostname(),
        target=text(env, "CERTCAST_TARGET", "embedded"),
        poll_max_ms=number(env, "CERTCAST_POLL_MAX_MS", default=DEFAULT_POLL_MAX_MS, least=100, most=60_000),
        health_address=text(env, "CERTCAST_HEALTH_ADDRESS", "127.0.0.1"),
        health_port=number(env, "CERTCAST_HEALTH_PORT", default=DEFAULT_HEALTH_PORT, least=0, most=MAX_PORT),
        proof_cycle_s=number(env, "CERTCAST_PROOF_CYCLE", default=DEFAULT_PROOF_CYCLE_S, least=5, most=86_400),
    )


def named_instance(env: Mapping[str, str]) -> str | None:
    """The instance id that `CERTCAST_INSTANCE` or the platform's environment gives."""
    names = ("CERTCAST_INSTANCE", *_PLATFORM_NAMES)
    return next((value for name in names if (value := text(env, name))), None)
