"""Opens everything the Function acts on, as its settings say; the one place where use cases and edges meet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.azure.account import Account
from shared.azure.blobs import UPLOADS_CONTAINER
from shared.azure.checkup import account_checks, named_webhooks, outlet_checks
from shared.azure.policy_source import policy_source
from shared.azure.topic import Topic
from shared.azure.webhook import webhooks_at
from shared.config import TOPIC_SETTING
from shared.errors import ConfigurationError
from shared.function.cloud import Cloud
from shared.function.health import Health
from shared.function.listening import Listener
from shared.function.rules import Rules
from shared.sources.folder import FolderCertificates
from shared.sources.key_vault import KeyVaultCertificates
from shared.state.findings import Check, Seen
from shared.upload import FOLDER_SCHEME, KEY_VAULT_SCHEME, SQL_SCHEME
from shared.validation.checkup import policy_check, trust_check
from shared.validation.judge import ValidationPolicy
from shared.validation.trust import Trust
from shared.validation.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.config import Settings
    from shared.ports import CertificateSource, Outlet


def open_cloud(settings: Settings) -> Cloud:
    """Open the account and what goes with it; nothing is connected before it is used.

    Raises:
        ConfigurationError: A setting is wrong; the text names it and the cure.
    """
    account = Account(settings.storage, key_encryption_key=settings.key_encryption_key, key_vaults=settings.key_vaults)
    sources = _sources(settings, account)
    rules = policy_source(settings.rules, account) if settings.rules else None
    policy = ValidationPolicy(trust=Trust.from_setting(settings.trust), ports=settings.ports)
    cloud = Cloud(
        uploads=account.uploads,
        bundles=account.bundles,
        queues=account.queues,
        state=account.state,
        secrets=account.secrets,
        policy=policy,
        judges=Workers(policy),
        rules=Rules(rules),
        scrub_password=settings.scrub_password,
        outlets=_outlets(settings, account),
        sources=sources,
        now=account.clock.now,
        health=Health(_checks(settings, account, rules, sources)),
    )
    return replace(cloud, listener=Listener(cloud))


def _outlets(settings: Settings, account: Account) -> tuple[Outlet, ...]:
    # A connection string with a signature has it in every address.
    source = settings.event_source or account.container(UPLOADS_CONTAINER).url.partition("?")[0]
    topic = settings.event_topic
    topics = [Topic(topic, key=settings.event_topic_key, credential=account.identity, source=source)] if topic else []
    return *topics, *webhooks_at(
        settings.webhooks, secrets=settings.webhook_secrets, source=source, now=account.clock.now
    )


def _checks(
    settings: Settings,
    account: Account,
    rules: Callable[[], Awaitable[str]] | None,
    sources: Mapping[str, CertificateSource],
) -> list[Check]:
    """What the Function looks at to tell whether it can do its work; without the vital ones it cannot."""

    async def set_so() -> Seen:
        # The address of a database may hold a password.
        told = {
            "trust": settings.trust,
            "ports": str(settings.ports),
            "passwords are removed": "yes" if settings.scrub_password else "no",
            "key": settings.key_encryption_key,
            "vaults": ", ".join(sorted(settings.key_vaults)) or "none",
            "sources": ", ".join(sources) or "none but the container",
        }
        return Seen(remark="; ".join(f"{name}: {value}" for name, value in told.items()))

    outlets = {TOPIC_SETTING: settings.event_topic} | named_webhooks(settings.webhooks)
    return [
        Check(name="settings", look=set_so),
        *account_checks(account),
        trust_check(settings.trust),
        *([policy_check(rules)] if rules is not None else []),
        *outlet_checks({setting: url for setting, url in outlets.items() if url}),
    ]


def _sources(settings: Settings, account: Account) -> dict[str, CertificateSource]:
    sources: dict[str, CertificateSource] = {}
    if settings.key_vaults:
        sources[KEY_VAULT_SCHEME] = KeyVaultCertificates(settings.key_vaults, account.identity)
    if settings.sql_url:
        sources[SQL_SCHEME] = _sql(settings.sql_url)
    if settings.folder:
        sources[FOLDER_SCHEME] = FolderCertificates(Path(settings.folder))
    return sources


def _sql(url: str) -> CertificateSource:
    try:
        from shared.sources.sql import SqlCertificates  # noqa: PLC0415 - SQLAlchemy is an optional extra
    except ImportError:
        raise ConfigurationError(
            "CERTCAST_SQL_URL is set, but SQLAlchemy is not installed: add sqlalchemy and the database's driver to "
            "requirements.txt"
        ) from None
    return SqlCertificates(url)
