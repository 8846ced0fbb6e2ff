"""Which webhooks are meant, and what requests to them are signed with: by options, else by the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.config.webhooks import WEBHOOK_SECRET_SETTING, WEBHOOK_SETTING, webhook_secrets, webhook_urls
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def chosen_webhooks(urls: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses that the options name, else the environment's.

    Raises:
        ConfigurationError: One cannot be used.
    """
    if urls:
        return webhook_urls(" ".join(urls), "--webhook")
    return webhook_urls(env.get(WEBHOOK_SETTING, ""))


def chosen_secrets(path: Path | None, env: Mapping[str, str]) -> tuple[bytes, ...]:
    """The secrets in a file, else the environment's.

    Raises:
        ConfigurationError: The file cannot be read, or one is none.
    """
    return webhook_secrets(secrets_text(path, env), WEBHOOK_SECRET_SETTING if path is None else str(path))


def secrets_text(path: Path | None, env: Mapping[str, str]) -> str:
    """The same as the Function's setting has them.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    if path is None:
        return env.get(WEBHOOK_SECRET_SETTING, "")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"--webhook-secret-file {path} cannot be read ({error.strerror}): name a file that holds the secret alone"
        ) from None
    except ValueError:
        raise ConfigurationError(f"--webhook-secret-file {path} is not a text file") from None
