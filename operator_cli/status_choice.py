"""The options of `certcast status` that choose among uploads; the dashboard's queries have the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from operator_cli.status_overview import Wish
from shared.state.overview import SORTS, Asked
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_OPTIONS = (
    click.option("--all", "everything", is_flag=True, help="Show all uploads and instances."),
    click.option("--failed", is_flag=True, help="Uploads that are rejected, failed, partially live, or live on none."),
    click.option(
        "--expiring", metavar="14d", help="Uploads that end within so long (14d, 12h), or have ended and are served."
    ),
    click.option(
        "--host",
        metavar="HOST",
        help="Uploads for this host, a wildcard that covers it among them; .example.com for all below it; a part of "
        "hosts where it has no dot.",
    ),
    click.option(
        "--instance",
        metavar="ID",
        help="Uploads that this instance is to serve, by its role; with --failed those that it does not serve.",
    ),
    click.option("--prefix", metavar="NAME", help="Uploads whose names begin so."),
    click.option("--status", metavar="STATUS", help=f"Uploads that are so: {', '.join(UploadStatus)}; with commas."),
    click.option("--sort", metavar="ORDER", help=f"One of {', '.join(SORTS)}; with - before it the other way round."),
    click.option("--limit", metavar="N", help="That many uploads at most."),
)


def choosing_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; `wish_of` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wish_of(options: Mapping[str, Any]) -> Wish:
    """What the options ask for.

    Raises:
        click.UsageError: One of them is wrong.
    """
    names = ("expiring", "host", "instance", "prefix", "status", "sort", "limit")
    query = {name: options[name] for name in names if options[name] is not None}
    asked = Asked.of(query | ({"failed": "true"} if options["failed"] else {}))
    if isinstance(asked, str):
        raise click.UsageError(f"--{asked}.")
    unknown = sorted(asked.statuses - set(UploadStatus))
    if unknown:
        raise click.UsageError(f"--status {unknown[0]!r} is none of {', '.join(UploadStatus)}.")
    return Wish(asked=asked, everything=options["everything"])
