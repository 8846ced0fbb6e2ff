"""All that `certcast doctor` looks at, put together: this environment, the storage account, the Function."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from operator_cli.doctor.agents import agents_seen
from operator_cli.doctor.canary import canary_check
from operator_cli.doctor.function import ask_function
from operator_cli.doctor.settings import not_looked_at, policy_in, settings_checks
from operator_cli.doctor.tables import READ_S, Tables
from operator_cli.doctor.uploads import noticed_seen, uploads_seen
from operator_cli.storage import opened_account
from shared.azure.checkup import account_checks, key_fault
from shared.azure.key_ring import SETTING as KEY_ENCRYPTION_KEY
from shared.errors import AccessDeniedError, CertcastError, ConfigurationError, NotSetUpError, UnansweredError
from shared.state.findings import CHECK_S, Check, Checked, Finding, Seen, bounded, finding_of, make_checks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.azure.account import Account
    from shared.config import StorageAccess

    Counts = dict[str, dict[str, int]]
    """Rows by table."""

_RETRIES = 1
"""A person waits, and what is not answered twice is worth telling."""
_STORAGE = "storage account"


async def look(
    access: StorageAccess | ConfigurationError | None,
    *,
    env: Mapping[str, str],
    url: str | None,
    wait_s: float | None,
) -> tuple[list[Checked], Counts]:
    """Make every check that can be made from here.

    Args:
        access: The storage account; why it cannot be told, or None where none was named.
        env: This environment.
        url: The Functions app's address; None where it is not asked.
        wait_s: How long the canary is waited for; None writes none.

    Returns:
        The checks in the order in which people read them, and how many rows each table has.
    """
    async with asyncio.TaskGroup() as group:
        here = group.create_task(make_checks(settings_checks(env, asks_function=url is not None)))
        there = group.create_task(_look_at_storage(access, env, wait_s))
        theirs = None if url is None else group.create_task(ask_function(url, env))
    stored, rows = there.result()
    return [*here.result(), *stored, *(theirs.result() if theirs is not None else [])], rows


async def _look_at_storage(
    access: StorageAccess | ConfigurationError | None, env: Mapping[str, str], wait_s: float | None
) -> tuple[list[Checked], Counts]:
    if access is None:
        unnamed = Seen(remark="none is named: give --account NAME, or CERTCAST_STORAGE", looked=False)
        return [Checked(name=_STORAGE, seen=unnamed)], {}
    if isinstance(access, ConfigurationError):
        return [_unusable(access)], {}
    key = env.get(KEY_ENCRYPTION_KEY, "").strip()
    fault = key_fault(key) if key else None
    faulty_key = [] if fault is None else [_faulty_key(fault)]
    usable = key if fault is None else ""
    try:
        async with opened_account(access, key_encryption_key=usable, retries=_RETRIES) as account:
            await _answers(account)
            tables = Tables(account)
            try:
                more = [*faulty_key, *policy_in(account, env)]
                return await make_checks(_checks(account, tables, more, wait_s)), tables.counts()
            finally:
                await tables.close()
    except CertcastError as error:
        return [_unusable(error)], {}


def _unusable(error: CertcastError) -> Checked:
    return Checked(name=_STORAGE, seen=Seen(findings=(finding_of(error, f"the {_STORAGE}"),)))


async def _answers(account: Account) -> None:
    """Ask one thing first: where nothing answers, or the key is none, each check would only say so again.

    Raises:
        UnansweredError: Nothing answers.
        AccessDeniedError: It refuses the connection string. Of an identity, some roles may be there and others not.
    """
    try:
        async with asyncio.timeout(CHECK_S):
            await account.state.uploads.get("certcast-doctor")
    except UnansweredError:
        raise
    except AccessDeniedError:
        if account.access.connection_string is not None:
            raise
    except TimeoutError:
        raise UnansweredError(f"the account does not answer within {CHECK_S:g} s") from None
    except CertcastError:
        pass  # the check that is about this says so


def _faulty_key(fault: Finding) -> Check:
    async def faulty() -> Seen:
        return Seen(findings=(fault,))

    return Check(name="key", look=faulty)


def _checks(account: Account, tables: Tables, more: list[Check], wait_s: float | None) -> list[Check]:
    async def rows() -> Seen:
        return await tables.rows_seen()

    async def noticed() -> Seen:
        try:
            found = [version async for version in account.uploads.each()]  # before the rows are read
            records = {known.value.name: known.value for known in (await tables.table("uploads")).rows}
        except NotSetUpError:
            return Seen(remark="something that it takes is not there, see above", looked=False)
        return noticed_seen(found, records, account.clock.now())

    async def poison() -> Seen:
        return await _poison(account)

    slow = [
        Check(name="rows", look=rows),
        Check(name="agents", look=tables.judged("instances", agents_seen)),
        Check(name="uploads", look=tables.judged("uploads", uploads_seen)),
        Check(name="noticed uploads", look=noticed),
        Check(name="poison queues", look=poison),
    ]
    return [
        *account_checks(account),
        *more,
        *(replace(check, within_s=READ_S + CHECK_S) for check in slow),
        not_looked_at("events", "--no-canary was given") if wait_s is None else canary_check(account, wait_s),
    ]


async def _poison(account: Account) -> Seen:
    names = [name async for name in account.queues.names("") if name.endswith("-poison")]
    lengths = {name: await account.queues.length(name) for name in names}
    findings = [
        Finding(
            code="poison_messages",
            about=f"queue {name}",
            detail=f"{length} message(s) could not be read, or failed again and again: look at the log of that time, "
            "then clear the queue",
        )
        for name, length in lengths.items()
        if length
    ]
    return Seen(remark=f"{len(names)}, all of them empty" if names else "none", findings=bounded(findings))
