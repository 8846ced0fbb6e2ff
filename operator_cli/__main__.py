"""`certcast`, also `python -m operator_cli`: runs the command, turns errors into a sentence and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from operator_cli.exits import Exit, TimedOutError
from operator_cli.terminal import emit, emit_lines, is_reader_gone, prepare_streams, say
from shared import VERSION
from shared.errors import CertcastError, ConfigurationError
from shared.starting import imported

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "check": "operator_cli.check",
    "upload": "operator_cli.upload",
    "status": "operator_cli.status",
    "remove": "operator_cli.remove",
    "logs": "operator_cli.logs",
    "history": "operator_cli.history",
    "events": "operator_cli.events",
    "redeploy": "operator_cli.redeploy",
    "doctor": "operator_cli.doctor.command",
    "notify": "operator_cli.notify",
    "up": "operator_cli.up",
    "demo": "operator_cli.demo.command",
    "completion": "operator_cli.completion",
}
"""The module of each, by the command's name."""

_OURS = {"instance_agent", "local_azure", "operator_cli", "shared"}

_EPILOG = """\b
Storage account, first match wins:
  --connection-string-file FILE    a file with the connection string
  --account NAME                   an account, with your identity (az login)
  CERTCAST_STORAGE                 a connection string
  CERTCAST_STORAGE__accountName    an account, with your identity
  nothing                          the local emulator (certcast up)

\b
Exit codes: 0 done, 1 rejected or failed, 2 usage, 3 timed out.
"""


class _Commands(click.Group):
    """The commands, each imported when it is asked for: `check` needs no Azure SDK, and none needs all."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - Click's signature
        if cmd_name not in _COMMANDS:
            return None
        try:
            command: click.Command = imported(_COMMANDS[cmd_name]).command
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in _OURS:
                raise
            return _without(error.name, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a pipe that nothing reads is told without the error number at which Click exits with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise BrokenPipeError(error.strerror or "broken pipe") from None


def _without(package: str, name: str) -> click.Command:
    """What stands for a command whose packages are not all there: `up` and `demo` need more than the extra `cli`."""

    def refuse(**_: object) -> None:
        raise ConfigurationError(
            f"`certcast {name}` needs the package {package}, which is not installed: `python3 dev.py setup` in a clone "
            "brings all that it needs, and the command is then .venv/bin/certcast"
        )

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        short_help=f"Not here: it needs the package {package}.",
        add_help_option=False,
    )


@click.command(
    cls=_Commands,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, message="certcast %(version)s")
@click.pass_context
def certcast(context: click.Context) -> None:
    """One upload, live everywhere.

    A PFX uploaded to the blob container `certificates` is served over SNI by every instance of your platform within
    seconds. These commands upload one and wait until it is, or say exactly why it is not.

    Try it all on this machine: `certcast demo`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(Exit.USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    # The SDKs report what we report too, at length; without a handler Python would print it.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = certcast.main(words, prog_name="certcast", standalone_mode=False)
    except BrokenPipeError as error:
        if sys.platform == "win32" or is_reader_gone() or is_reader_gone(sys.stderr):
            return _reader_gone()
        return _refuse(_sentence(error), Exit.FAILED, words)  # of something else, which is no reader of ours
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _refuse("interrupted", Exit.INTERRUPTED, words)
    except (click.ClickException, CertcastError, OSError) as error:
        return _refuse(_sentence(error), _code(error), words)
    return int(code or Exit.DONE)


def _code(error: Exception) -> Exit:
    if isinstance(error, TimedOutError):
        return Exit.TIMED_OUT
    usage = isinstance(error, click.UsageError | ConfigurationError)
    return Exit.USAGE if usage else Exit.FAILED


def _sentence(error: Exception) -> str:
    """One line that says what is wrong and how to go on."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "certcast"
        return f"{error.format_message()} See `{path} --help`."
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}; put that right and run it again"
    return str(error)


def _refuse(sentence: str, code: Exit, words: Sequence[str]) -> int:
    line = " ".join(sentence.split())
    if "--json" in words:
        emit({"error": line})
    elif "--json-lines" in words:
        emit_lines([{"error": line}])
    say(f"certcast: {line}", "red")
    return code


def _reader_gone() -> int:
    """The reader of a pipe has gone (`certcast status | head`): nothing is wrong, and nothing can be said."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, sys.stdout.fileno())
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
