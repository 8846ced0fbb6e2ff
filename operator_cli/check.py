"""`certcast check`: the Function's own judgement of a file, on this machine and without any network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from operator_cli.exits import Exit
from operator_cli.options import claim_options, file_argument, json_option
from operator_cli.pfx_file import Candidate, Wish, examine
from operator_cli.terminal import emit, results, safe
from shared.binding import phrased
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import day, listed, shown
from shared.validation.metadata_keys import PASSWORD, meant_by

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import RenderableType
    from rich.text import Text

    from shared.bundle import CertificateBundle
    from shared.verdict import Violation


@click.command("check")
@file_argument
@claim_options
@click.option(
    "--metadata",
    "written",
    multiple=True,
    metavar="KEY=VALUE",
    help="Metadata as you would give it to az; repeat for several. Of a password, give the key alone: KEY=.",
)
@json_option
def command(  # noqa: PLR0917 - Click passes them by name
    file: Path,
    hosts: tuple[str, ...],
    port: int | None,
    default: bool,  # noqa: FBT001 - an option
    subject: str | None,
    password_stdin: bool,  # noqa: FBT001 - an option
    trust: str | None,
    written: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - an option
) -> int:
    """Judge the PFX in FILE as the cloud would, offline.

    Every reason against it is given at once, each with what to do about it; docs/verdicts.md explains the codes. Exit
    code 1 when it would be rejected.

    \b
    Examples:
      certcast check shop.pfx --host www.example.com
      certcast check shop.pfx --password-stdin --trust public < password.txt
    """  # noqa: D301 - \b is for Click: keep the lines as they are
    wish = Wish(hosts=hosts, port=port, default=default, subject=subject, written=tuple(map(_entry, written)))
    candidate = examine(file, wish, password_stdin=password_stdin, trust=trust)
    if as_json:
        emit(check_document(candidate))
    else:
        show_check(candidate)
    return Exit.DONE if candidate.judgement.accepted else Exit.FAILED


def _entry(text: str) -> tuple[str, str]:
    """One entry of metadata."""
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise click.UsageError("--metadata takes KEY=VALUE, such as HostHeader=www.example.com")
    if value and meant_by(key) == PASSWORD:
        raise click.UsageError(
            f"--metadata {shown(key)}: every user of this machine can read arguments, so give the key alone "
            f"({shown(key)}=), and the password with --password-stdin"
        )
    return key, value


def check_document(candidate: Candidate) -> dict[str, Any]:
    """The document of `check --json`; what could not be read is null."""
    judgement, bundle = candidate.judgement, candidate.judgement.bundle
    return {
        "accepted": judgement.accepted,
        "scheduled": judgement.scheduled,
        "violations": [violation.to_json() for violation in judgement.violations],
        "warnings": [warning.to_json() for warning in judgement.warnings],
        "hosts": list(judgement.hosts),
        "port": judgement.port,
        "default": judgement.default,
        "subject": bundle.subject if bundle else None,
        "not_before": day(bundle.not_before) if bundle else None,
        "not_after": day(bundle.not_after) if bundle else None,
        "chain": list(bundle.chain_subjects) if bundle else [],
        "fingerprint_sha256": bundle.fingerprint_sha256 if bundle else None,
        "thumbprint_sha1": bundle.thumbprint_sha1 if bundle else None,
        "trust": candidate.trust,
    }


def show_check(candidate: Candidate) -> None:
    """Print the same for people."""
    judgement, bundle = candidate.judgement, candidate.judgement.bundle
    named = (*judgement.hosts, DEFAULT_HOST) if judgement.default else judgement.hosts
    hosts = listed([phrased(host, judgement.port) for host in named])
    console = results()
    if judgement.accepted:
        verdict = "accepted, to be served once it is valid" if judgement.scheduled else "accepted"
        console.print(safe(f"{verdict}: {hosts}", "bold green"), soft_wrap=True)
    else:
        console.print(safe(f"rejected{f': {hosts}' if hosts else ''}", "bold red"), soft_wrap=True)
    if judgement.violations:
        console.print(reasons(judgement.violations))
    for warning in judgement.warnings:
        console.print(warned(warning.detail), soft_wrap=True)
    if bundle is not None:
        console.print(_description(bundle))


def reasons(violations: Iterable[Violation]) -> RenderableType:
    """Code and sentence of each, side by side."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for violation in violations:
        style = "red" if violation.rejects else "yellow"
        table.add_row(safe(f"  {violation.code.value}", style), safe(violation.detail))
    return table


def warned(detail: str) -> Text:
    """A warning, apart from the reasons against the upload."""
    return safe(f"  warning: {detail}", "yellow")


def _description(bundle: CertificateBundle) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    chain = bundle.chain_subjects
    for name, value in (
        ("subject", bundle.subject or "(empty)"),
        ("names", listed(bundle.dns_names) or "(none)"),
        ("issuer", bundle.issuer),
        ("valid", f"{day(bundle.not_before)} to {day(bundle.not_after)}"),
        *(("" if number else "chain", subject or "(empty)") for number, subject in enumerate(chain)),
        ("SHA-256", bundle.fingerprint_sha256),
        ("SHA-1", bundle.thumbprint_sha1),
    ):
        table.add_row(f"  {name}", safe(value))
    return table
