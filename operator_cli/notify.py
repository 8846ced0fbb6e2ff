"""`certcast notify --test`: sends a test event to where outgoing events go, and says what each place answered."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.table import Table

from operator_cli.exits import Exit
from operator_cli.options import json_option, webhook_options
from operator_cli.status_api import api_at
from operator_cli.terminal import emit, results, safe
from operator_cli.webhook_choice import chosen_secrets, chosen_webhooks
from shared.azure.webhook import webhooks_at
from shared.config.webhooks import WEBHOOK_SETTING, event_source
from shared.errors import CertcastError, ConfigurationError
from shared.state.cloud_event import attempt_document, trial_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shared.azure.webhook import Webhook
    from shared.messages import OutgoingEvent
    from shared.state.document import Document

_SOURCE = "urn:certcast:notify"
"""What a test event names as its source where it comes from no deployment."""


@click.command("notify")
@click.option(
    "--test", "is_test", is_flag=True, help="Send a test event, of type Certcast.Test; the one thing to send."
)
@click.option(
    "--url",
    metavar="URL",
    help="Address of the Functions app, which sends it to its topic and its webhooks; CERTCAST_FUNCTION_KEY holds the "
    "function key.",
)
@webhook_options
@json_option
def command(
    is_test: bool,  # noqa: FBT001 - an option
    url: str | None,
    webhooks: tuple[str, ...],
    webhook_secret_file: Path | None,
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Send a test event to where outgoing events go, and see what each place answers.

    With --url the Function sends it, to the topic and the webhooks that it is set up with. Without it, this command
    posts it to the webhooks that --webhook names, else CERTCAST_WEBHOOK.

    \b
    Exit codes:
      0  each took it
      1  one did not
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    if not is_test:
        raise ConfigurationError("notify sends a test event: say so with --test")
    if url is not None and (webhooks or webhook_secret_file is not None):
        raise ConfigurationError(
            "--url has the Function send it to its own webhooks: leave out --webhook and its secret"
        )
    if url is not None:
        found = asyncio.run(_sent_by_function(url))
    else:
        found = asyncio.run(_sent_from_here(webhooks, webhook_secret_file))
    if as_json:
        emit(found)
    else:
        _show(found["outlets"])
    return Exit.DONE if all(each["taken"] for each in found["outlets"]) else Exit.FAILED


async def _sent_by_function(url: str) -> Document:
    async with api_at(url, os.environ) as api:
        return await api.post("notify")


async def _sent_from_here(urls: Sequence[str], secret_file: Path | None) -> Document:
    """Post it to webhooks.

    Raises:
        ConfigurationError: There is none, or one cannot be used.
    """
    addresses = chosen_webhooks(urls, os.environ)
    if not addresses:
        raise ConfigurationError(
            f"nowhere to send it: give --url, or --webhook, or set {WEBHOOK_SETTING} as the Function has it"
        )
    signing = chosen_secrets(secret_file, os.environ)
    source = event_source(os.environ) or _SOURCE
    event = trial_event(at=_now(), event_id=secrets.token_hex(16))
    outlets = webhooks_at(addresses, secrets=signing, source=source, now=_now)
    return {
        "event_id": event.event_id,
        "outlets": await asyncio.gather(*(_tried(outlet, event) for outlet in outlets)),
    }


async def _tried(outlet: Webhook, event: OutgoingEvent) -> Document:
    began = time.monotonic()
    try:
        answer, taken = await outlet.send(event), True
    except CertcastError as error:
        answer, taken = str(error), False
    return attempt_document(outlet.name, answer, taken=taken, seconds=time.monotonic() - began)


def _now() -> datetime:
    return datetime.now(UTC)


def _show(outlets: Sequence[Document]) -> None:
    table = Table.grid(padding=(0, 2))
    for each in outlets:
        table.add_row(
            safe("taken", "green") if each["taken"] else safe("not taken", "red"),
            safe(str(each["outlet"])),
            safe(str(each["answer"])),
            safe(f"{each['seconds']:.2f} s"),
        )
    results().print(table)
