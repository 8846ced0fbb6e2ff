"""Options that several commands share, so that they are named and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from operator_cli.completion import upload_names
from shared.binding import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Command = TypeVar("Command", bound="Callable[..., int]")

DEFAULT_TIMEOUT_S = 120.0

MAX_AGENTS = 100


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, listed in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout; everything else goes to stderr."
)
name_argument = click.argument("name", shell_complete=upload_names)
optional_name_argument = click.argument("name", required=False, shell_complete=upload_names)
file_argument = click.argument("file", type=click.Path(path_type=Path))

webhook_options = _together(
    click.option(
        "--webhook",
        "webhooks",
        multiple=True,
        metavar="URL",
        help="Post outgoing events there; repeat for several. Where the address holds a secret, set CERTCAST_WEBHOOK "
        "in place of this: every user of a machine can read arguments.",
    ),
    click.option(
        "--webhook-secret-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A file with the secret, whsec_..., that those requests are signed with; several, one a line, while one "
        "is replaced. Default: CERTCAST_WEBHOOK_SECRET.",
    ),
)

claim_options = _together(
    click.option(
        "--host",
        "hosts",
        multiple=True,
        metavar="HOST",
        help="Serve it for this host (HostHeader); repeat for several. Default: every name in the certificate.",
    ),
    click.option(
        "--port",
        type=click.IntRange(1, MAX_PORT),
        metavar="PORT",
        help="Serve it on this port (PortNumber). Default: 443.",
    ),
    click.option(
        "--default",
        is_flag=True,
        help="Serve it on this port also to clients without SNI, and for names that nothing else is served for "
        "(Default).",
    ),
    click.option(
        "--subject",
        metavar="DN",
        help="The subject it must have, as CN=www.example.com (CertificateSubject): catches a wrong file.",
    ),
    click.option(
        "--password-stdin",
        is_flag=True,
        help="Read the file's password from the first line of stdin. Without it, a terminal is asked if the "
        "file needs one.",
    ),
    click.option(
        "--trust",
        metavar="public|off|PATH",
        help="Whose certificates are accepted: public CAs, anybody's, or the PEM roots in a file. Default: "
        "CERTCAST_TRUST, else off with the local emulator and public with a real account.",
    ),
)
"""What the certificate is to be served for, and how its file is opened."""

storage_options = _together(
    click.option(
        "--connection-string-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Read the storage account's connection string from this file.",
    ),
    click.option("--account", metavar="NAME", help="Use this storage account with your identity (az login)."),
)
"""Which storage account. No option takes a secret itself: every user of a machine can read process arguments."""


url_option = click.option(
    "--url",
    metavar="URL",
    help="Ask the status API at this address instead of the storage account; its function key is read from "
    "CERTCAST_FUNCTION_KEY.",
)


def refuse_two_accounts(url: str | None, connection_string_file: Path | None, account: str | None) -> None:
    """Refuse `--url` beside an option that names a storage account.

    Raises:
        click.UsageError: Both were given.
    """
    if url is not None and (connection_string_file is not None or account is not None):
        raise click.UsageError("--url asks the status API, which knows its storage account: give no other")


def wait_options(waits_for: str) -> Callable[[Command], Command]:
    """Whether and how long to wait."""
    return _together(
        click.option("--no-wait", is_flag=True, help="Do not wait for anything."),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(0, min_open=True),
            default=DEFAULT_TIMEOUT_S,
            show_default=True,
            metavar="SECONDS",
            help=f"How long to wait until it is {waits_for}; exit code 3 when it is not by then.",
        ),
    )


agents_option = click.option(
    "--agents",
    type=click.IntRange(1, MAX_AGENTS),
    default=3,
    show_default=True,
    is_eager=True,  # read before `--target`, whichever is given first
    metavar="N",
    help="How many instances there are.",
)


def targets_option(targets: Sequence[str]) -> Callable[[Command], Command]:
    """The web servers that the instances install on. The command must have `agents_option` too.

    Args:
        targets: What there is to choose from; the first is taken without the option.
    """
    choice = click.Choice(targets)

    def names(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        named = tuple(choice.convert(word.strip(), parameter, context) for value in values for word in value.split(","))
        if len(named) > context.params["agents"]:
            raise click.BadParameter(
                f"{len(named)} web servers are named for {context.params['agents']} instances: name fewer, or raise "
                "--agents.",
                ctx=context,
                param=parameter,
            )
        return named

    return click.option(
        "--target",
        "targets",
        multiple=True,
        default=targets[:1],
        show_default=True,
        metavar="|".join(targets),
        callback=names,
        help="The web server that the instances install on; several, repeated or separated by commas, are taken in "
        "turn.",
    )
