"""`certcast upload`: check, upload content and metadata in one request, wait until every instance proves it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import click

from operator_cli.account_choice import choose_storage
from operator_cli.blob_metadata import blob_name, upload_metadata
from operator_cli.check import check_document, reasons, show_check, warned
from operator_cli.exits import Exit, TimedOutError
from operator_cli.options import claim_options, file_argument, json_option, storage_options, wait_options
from operator_cli.outcome import DECIDED, SUCCEEDED, AnyOutcomes, Sent
from operator_cli.pfx_file import Wish, examine
from operator_cli.storage import opened
from operator_cli.terminal import emit, results, safe, say
from operator_cli.waiting import IS_IT_RUNNING, progress, until
from shared.state.records import UploadStatus
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from operator_cli.outcome import Outcome
    from operator_cli.pfx_file import Candidate
    from shared.config import StorageAccess
    from shared.state.document import Document


@click.command("upload")
@file_argument
@claim_options
@click.option("--name", metavar="BLOB", help="Name of the blob; may have folders. Default: the file's name.")
@click.option("--site", metavar="NAME", help="Web site on the target (SiteName). Default: the target's first site.")
@click.option("--role", metavar="ROLE", help="Only instances of this role install it (Role). Default: all.")
@wait_options("live on every instance")
@storage_options
@json_option
def command(file: Path, **options: Any) -> int:  # noqa: ANN401 - as Click hands them over
    """Upload the PFX in FILE and wait until it is served.

    It is checked first, and not sent when it would be rejected. Uploading again under the same name replaces that
    upload: this is how a certificate is renewed.

    \b
    Exit codes:
      0  proved by a TLS handshake on every instance (or scheduled for the day it becomes valid)
      1  rejected, failed on some instance, or superseded by another upload
      2  wrong usage, file or setting
      3  not live in time; it may still become so: certcast status

    \b
    Examples:
      certcast upload shop.pfx
      certcast upload shop.pfx --host www.example.com --password-stdin < password.txt
      certcast upload wild.pfx --default
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    wish = Wish(**{field: options[field] for field in ("hosts", "port", "default", "subject", "site", "role")})
    access = choose_storage(options["connection_string_file"], options["account"])
    name = blob_name(file.name, options["name"])
    candidate = examine(file, wish, password_stdin=options["password_stdin"], trust=options["trust"], access=access)
    as_json = options["as_json"]
    if not candidate.judgement.accepted:
        return _refuse(name, candidate, as_json=as_json)
    metadata = upload_metadata(wish, candidate)
    timeout_s = None if options["no_wait"] else options["timeout_s"]
    outcome, timed_out = asyncio.run(_upload(access, name, candidate.content, metadata, timeout_s))
    _report(name, candidate, outcome, timed_out, as_json=as_json)
    if timed_out is not None:
        return Exit.TIMED_OUT
    return Exit.DONE if outcome is None or outcome.status in SUCCEEDED else Exit.FAILED


async def _upload(
    access: StorageAccess, name: str, content: bytes, metadata: dict[str, str], timeout_s: float | None
) -> tuple[Outcome | None, TimedOutError | None]:
    """Upload, and wait for what becomes of exactly this version, unless there is no time to."""
    async with opened(access) as storage:
        with progress() as show:
            show(f"uploading {name}", 0, 0)
            etag = await storage.uploads.write(name, content, metadata)
            if timeout_s is None:
                return None, None
            sent = Sent(name=name, etag=etag, content_sha256=hashlib.sha256(content).hexdigest())
            show("uploaded; waiting for the Function to look at it", 0, 0)
            outcomes = AnyOutcomes(storage)
            last: Outcome | None = None

            async def look() -> Outcome | None:
                nonlocal last
                last = await outcomes.outcome(sent) or last
                if last is None:
                    return None
                show(f"{last.status.value}{', proved on' if last.total else ''}", last.live, last.total)
                return last if last.status in DECIDED else None

            try:
                return await until(look, timeout_s=timeout_s), None
            except TimedOutError:
                return last, TimedOutError(_not_in_time(name, last, timeout_s, by_tags=outcomes.by_tags))


def _not_in_time(name: str, last: Outcome | None, timeout_s: float, *, by_tags: bool) -> str:
    if last is None:
        what = "written no tags on it" if by_tags else "not looked at it"
        return f"{name} was uploaded, but the Function has {what} for {timeout_s:g} s: {IS_IT_RUNNING}"
    document, goes_on = last.document, f"`certcast status {name}` shows how it goes on"
    why = f" ({document['reason']})" if document["reason"] else ""
    if last.status is UploadStatus.RECEIVED and document.get("waiting_for"):
        return (
            f"{name} is not done with after {timeout_s:g} s: it waits for {document['waiting_for']['what']}: {goes_on}"
        )
    return f"{name} is {last.status.value} and live on {last.live}/{last.total} after {timeout_s:g} s{why}: {goes_on}"


def _refuse(name: str, candidate: Candidate, *, as_json: bool) -> int:
    if as_json:
        checked = check_document(candidate)
        emit({"name": name, "uploaded": False, "status": UploadStatus.REJECTED.value, **checked})
    else:
        show_check(candidate)
    if any(violation.code in _TRUST_CODES for violation in candidate.judgement.violations):
        say("if the installation trusts other roots than this machine, name them with --trust")
    say(f"nothing was uploaded: {name} would be rejected")
    return Exit.FAILED


_TRUST_CODES = frozenset({VerdictCode.UNTRUSTED_CHAIN, VerdictCode.INCOMPLETE_CHAIN})


def _report(
    name: str, candidate: Candidate, outcome: Outcome | None, timed_out: TimedOutError | None, *, as_json: bool
) -> None:
    if as_json:
        checked = check_document(candidate)
        uploaded = {"name": name, "status": "uploaded", **{key: checked[key] for key in _KNOWN_BEFORE}}
        document: Document = outcome.document if outcome else uploaded
        emit({**document, "uploaded": True, **({"error": str(timed_out)} if timed_out else {})})
    if timed_out is not None:
        say(f"certcast: {timed_out}", "red")
    elif not as_json:
        _show(name, candidate, outcome)


_KNOWN_BEFORE = ("violations", "warnings", "chain")
"""Of what was checked before, what is told where the outcome is not waited for."""


def _show(name: str, candidate: Candidate, outcome: Outcome | None) -> None:
    console = results()
    if outcome is None:
        console.print(safe(f"uploaded: {name}; `certcast status {name}` shows what becomes of it"), soft_wrap=True)
        for warning in candidate.judgement.warnings:
            console.print(warned(warning.detail), soft_wrap=True)
        return
    document, good = outcome.document, outcome.status in SUCCEEDED
    seconds = document["seconds_to_live"]
    line = f"{outcome.status.value}: {name}"
    if outcome.status in _COUNTED:
        line += f" on {outcome.live}/{outcome.total}" + (f" in {seconds:.1f} s" if seconds is not None else "")
    console.print(safe(line, "bold green" if good else "bold red"), soft_wrap=True)
    if document["reason"]:
        console.print(safe(f"  {document['reason']}"), soft_wrap=True)
    if document["violations"]:
        console.print(
            reasons(Violation(code=VerdictCode(v["code"]), detail=v["detail"]) for v in document["violations"])
        )
    for warning in document.get("warnings", []):
        console.print(warned(warning["detail"]), soft_wrap=True)
    for number, subject in enumerate(document.get("chain", [])):
        console.print(safe(f"  {'     ' if number else 'chain'}  {subject}"), soft_wrap=True)


_COUNTED = frozenset({UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE, UploadStatus.FAILED})
