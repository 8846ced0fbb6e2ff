"""The canary: a blob that the Function deletes when an event tells of it, and that its sweep leaves alone meanwhile.

So that its end within a minute shows that the Event Grid subscription leads to a Function that runs. It is deleted here
in any case, however the look ends; one that this process could not delete any more, the sweep deletes a quarter of an
hour later.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.errors import AccessDeniedError, CertcastError, NotSetUpError
from shared.state.findings import Check, Finding, Seen, Severity
from shared.upload import new_canary_name

if TYPE_CHECKING:
    from shared.azure.account import Account
    from shared.state.records import UploadRecord

WAIT_S = 60.0
"""By default; a Function that had scaled to none takes ten seconds and more to start."""
MOST_WAIT_S = 300.0

_LOOK_EVERY_S = 0.25
_DELETE_S = 10.0
_STORAGE_S = 30.0
_CONTENT = b"A canary of `certcast doctor`: whether an event about it arrives. It deletes it itself; you may, too.\n"


def canary_check(account: Account, wait_s: float) -> Check:
    """The check whether events arrive.

    Args:
        account: Where the canary is written.
        wait_s: How long an event is waited for.
    """
    within_s = _STORAGE_S + wait_s + _DELETE_S
    return Check(name="events", look=lambda: _look(account, wait_s), within_s=within_s)


async def _look(account: Account, wait_s: float) -> Seen:
    name = new_canary_name()
    try:
        try:
            await account.uploads.write(name, _CONTENT, {})
        except AccessDeniedError as error:
            remark = (
                f"{error}. Without the right to write to the container certificates (Storage Blob Data Contributor) "
                "this cannot be looked at; --no-canary leaves it out"
            )
            return Seen(remark=remark, looked=False)
        except NotSetUpError:
            return Seen(remark="the container certificates is not there, see above", looked=False)
        return await _waited(account, name, wait_s)
    finally:
        with suppress(CertcastError, TimeoutError):
            async with asyncio.timeout(_DELETE_S):
                await account.uploads.delete(name)


async def _waited(account: Account, name: str, wait_s: float) -> Seen:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < wait_s:
        await asyncio.sleep(_LOOK_EVERY_S)
        if await account.uploads.version(name) is None:
            return Seen(remark=f"one about a canary arrived within {time.monotonic() - began:.1f} s")
        if (record := await _row_of(account, name)) is not None:
            return _older(record)
    cure = (
        "`certcast up` delivers them itself: see that it runs, and its log"
        if account.access.is_emulator
        else "make the subscription, or see its metrics and dead letters (docs/deploy.md, section 7), and see that the "
        "Functions app runs"
    )
    detail = (
        f"no event about a canary reached the Function within {passed:.0f} s, so that uploads wait for the sweep, a "
        f"minute instead of a second: {cure}"
    )
    return Seen(findings=(Finding(code="no_events", about="Event Grid subscription", detail=detail),))


async def _row_of(account: Account, name: str) -> UploadRecord | None:
    with suppress(CertcastError):
        return await account.state.uploads.get(name)
    return None


def _older(record: UploadRecord) -> Seen:
    """A Function before canaries judges one as an upload, whether by an event or by its sweep."""
    detail = (
        f"the Function took the canary for an upload, and calls it {record.status.value}: it is of an older version, "
        "and whether events arrive is not known; publish this version of it"
    )
    finding = Finding(code="old_function", about="Functions app", detail=detail, severity=Severity.WARNING)
    return Seen(findings=(finding,))
