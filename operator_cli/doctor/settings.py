"""The Function's settings, as far as this environment has them: each is judged as the Function would judge it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from operator_cli.status_api import KEY_SETTING
from shared.azure.checkup import named_webhooks, outlet_checks
from shared.azure.key_ring import SETTING as KEY_ENCRYPTION_KEY
from shared.azure.policy_source import BLOB_PREFIX, policy_source
from shared.config import EMULATOR_SHORTHAND, POLICY_SETTING, STORAGE_SETTING, TOPIC_SETTING, Settings
from shared.config.webhooks import WEBHOOK_SETTING, webhook_urls
from shared.errors import ConfigurationError
from shared.state.findings import Check, Finding, Seen
from shared.validation.checkup import TRUST_SETTING, policy_check, trust_check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.azure.account import Account

_PREFIX = "CERTCAST_"
_ANY_KEY = "file:not-looked-at"
_NOT_THE_FUNCTIONS = (STORAGE_SETTING, KEY_SETTING)
_LOOKED_AT = (KEY_ENCRYPTION_KEY, TRUST_SETTING, POLICY_SETTING, TOPIC_SETTING)
"""What is looked at further than whether it can be read."""


def settings_checks(env: Mapping[str, str], *, asks_function: bool) -> list[Check]:
    """The checks that need no storage account.

    Args:
        env: This environment.
        asks_function: Whether the Function is asked too, which looks at its own settings.
    """

    async def settings() -> Seen:
        return settings_seen(env)

    checks = []
    if _told(env):
        checks.append(Check(name="settings", look=settings))
    if trust := env.get(TRUST_SETTING, "").strip():
        checks.append(trust_check(trust))
    policy = env.get(POLICY_SETTING, "").strip()
    if policy and not policy.startswith(BLOB_PREFIX):
        checks.append(policy_check(policy_source(policy, None)))
    checks += outlet_checks(_outlets(env))
    unset = [name for name in _LOOKED_AT if not env.get(name, "").strip()]
    if unset and not asks_function:
        why = f"{', '.join(unset)} not set here: `certcast doctor --url` asks the Function, which has its own"
        checks.append(not_looked_at("further settings" if _told(env) else "settings", why))
    return checks


def _outlets(env: Mapping[str, str]) -> dict[str, str]:
    """Where events go; of webhooks that cannot be used, the settings' own check tells."""
    topic = {TOPIC_SETTING: env.get(TOPIC_SETTING, "").strip()}
    with suppress(ConfigurationError):
        topic |= named_webhooks(webhook_urls(env.get(WEBHOOK_SETTING, "")))
    return {name: url for name, url in topic.items() if url}


def _told(env: Mapping[str, str]) -> list[str]:
    """The Function's settings that are set here, as far as one can tell them from an agent's."""
    given = (name for name, value in env.items() if name.startswith(_PREFIX) and value.strip())
    return sorted(name for name in given if not name.startswith(_NOT_THE_FUNCTIONS))


def policy_in(account: Account, env: Mapping[str, str]) -> list[Check]:
    """The check of a policy that is in the account; none where it is elsewhere."""
    policy = env.get(POLICY_SETTING, "").strip()
    if not policy.startswith(BLOB_PREFIX):
        return []

    async def read() -> str:
        return await policy_source(policy, account)()

    return [policy_check(read)]


def not_looked_at(name: str, why: str) -> Check:
    """A check that has nothing to look at."""

    async def look() -> Seen:
        return Seen(remark=why, looked=False)

    return Check(name=name, look=look)


def settings_seen(env: Mapping[str, str]) -> Seen:
    """Judge the settings by the Function's rules; each that is wrong is named, with whatever is wrong besides it."""
    told = _told(env)
    rest = {KEY_ENCRYPTION_KEY: _ANY_KEY, STORAGE_SETTING: EMULATOR_SHORTHAND, **{name: env[name] for name in told}}
    findings = []
    while (fault := _fault(rest)) is not None:
        without = [name for name in told if name in rest and _fault(_less(rest, name)) != fault]
        findings.append(Finding(code="setting", about=without[0] if without else "settings", detail=fault))
        if not without:
            break
        rest = _less(rest, without[0])
    return Seen(remark=", ".join(told), findings=tuple(findings))


def _less(env: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in env.items() if key != name} | (
        {name: _ANY_KEY} if name == KEY_ENCRYPTION_KEY else {}
    )


def _fault(env: Mapping[str, str]) -> str | None:
    try:
        Settings.from_env(env)
    except ConfigurationError as error:
        return str(error)
    return None
