"""What a sweep asks of a real storage account when there is nothing to do, counted in HTTP requests."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.azure.account import Account
from shared.binding import BindingKey, BindingState, DesiredBinding
from shared.bounded import gather_bounded
from shared.function.sweep import sweep
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import tags_token
from tests.rigs.emulator import cloud_on, emulator, opened_account
from tests.rigs.rows import claim

UPLOADS = 300


def test_three_hundred_unchanged_uploads_cost_one_page_of_each_listing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Of its own: a sweep acts on everything that is in an account.
    with emulator() as azurite:
        asyncio.run(unchanged(azurite.connection_string, tmp_path / "key", caplog))


async def unchanged(connection_string: str, key: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened_account(connection_string, key) as account:
        await gather_bounded(served(account, number) for number in range(UPLOADS))
        caplog.set_level(logging.INFO, "azure.core.pipeline.policies.http_logging_policy")
        caplog.clear()
        cloud = cloud_on(account)
        report = await sweep(cloud)
        asked = Counter(requests(caplog.text))
        caplog.clear()
        await sweep(cloud)
        again = Counter(requests(caplog.text))
    assert (report.looked_at, report.settled, report.problems) == ([], [], [])
    each_once = {
        f"GET {what}": 1 for what in ("certificates", "uploads()", "bindings()", "instances()", "installations()")
    }
    told = {"PUT bundles/state/tables.pem": 1}  # that the tables are whole, once in five minutes
    assert asked == {"GET bundles": 1, "GET history()": 1, **told, **each_once}
    assert again == each_once


async def served(account: Account, number: int) -> None:
    """An upload as it is once every instance has proved it."""
    name, host = f"{number}.pfx", f"h{number}.test"
    key = BindingKey(role="*", host=host, port=443)
    etag = await account.uploads.write(name, b"pfx", {})
    version = await account.uploads.version(name)
    assert version is not None
    mine = claim(name, not_before=version.created - timedelta(days=1), source_etag=etag)
    row = DesiredBinding(
        role="*",
        host=host,
        port=443,
        state=BindingState.PRESENT,
        generation=1,
        changed_at=version.created,
        claims=(mine,),
        bundle_id=mine.bundle_id,
        source=name,
        not_after=mine.not_after,
    )
    record = UploadRecord(
        name=name,
        revision=1,
        status=UploadStatus.LIVE,
        etag=etag,
        hosts=(host,),
        claims=(key,),
        not_after=mine.not_after,
    )
    await account.state.bindings.write(key, row, None)
    await account.state.uploads.write(name, replace(record, tagged=tags_token(record)), None)


def requests(text: str) -> Iterator[str]:
    """Method and path of every request that the SDKs say they made."""
    for url, method in re.findall(r"Request URL: '([^']*)'\s+Request method: '([A-Z]+)'", text):
        yield f"{method} {url.partition('/devstoreaccount1/')[2].partition('?')[0]}"
