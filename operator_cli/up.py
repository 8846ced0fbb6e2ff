"""`certcast up`: the local cloud in the foreground, how to use it, and its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_azure.as_azure import AsAzure
from local_azure.eventgrid.schemas import EventSchema
from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, STANDARD_PORTS, PlatformSettings, Ports
from local_azure.servers.targets import TARGETS
from operator_cli.exits import Exit
from operator_cli.foreground import run_until_stopped
from operator_cli.options import agents_option, targets_option, webhook_options
from operator_cli.request_tables import requests_shown
from operator_cli.terminal import results, safe, say
from operator_cli.webhook_choice import chosen_secrets, chosen_webhooks, secrets_text
from shared.azure.blobs import UPLOADS_CONTAINER
from shared.binding import MAX_PORT
from shared.config.webhooks import WEBHOOK_SECRET_SETTING, WEBHOOK_SETTING
from shared.upload import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from local_azure.instances import Instance

STATE = Path(".certcast")

_EVENT_SCHEMAS = {
    "eventgrid": EventSchema.EVENT_GRID,
    "cloudevents": EventSchema.CLOUD_EVENTS,
    **{str(schema): schema for schema in EventSchema},
}
_PORT = click.IntRange(0, MAX_PORT)
_COLOURS = ("cyan", "magenta", "blue", "green", "yellow", "bright_cyan", "bright_magenta", "bright_blue")


@click.command("up")
@agents_option
@targets_option(TARGETS)
@click.option("--blob-port", type=_PORT, metavar="PORT", help="Blob service. Default: 10000; 0 is a free one.")
@click.option("--queue-port", type=_PORT, metavar="PORT", help="Queue service. Default: 10001; 0 is a free one.")
@click.option("--table-port", type=_PORT, metavar="PORT", help="Table service. Default: 10002; 0 is a free one.")
@click.option("--functions-port", type=_PORT, metavar="PORT", help="Functions host. Default: 7071; 0 is a free one.")
@click.option(
    "--agent-offset",
    type=click.IntRange(0, 65_000),
    metavar="N",
    help="agent-0 serves PortNumber p at p + N, each further one a hundred above. Default: 8000: 443 is 8443, 8543 ...",
)
@click.option(
    "--free-ports", is_flag=True, help="Take a free port for each that is not given, to run beside another one."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=STATE,
    show_default=True,
    metavar="DIR",
    help="Folder of storage, logs and keys, kept from run to run.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Serve the PFX files in this folder too, NAME.pfx with NAME.json for its metadata; changes are seen at once.",
)
@click.option(
    "--count-requests",
    is_flag=True,
    help="Count what is asked of the storage account; the table is printed after each upload, and at the end.",
)
@click.option(
    "--as-azure",
    is_flag=True,
    help="Answer as Azure does where Azurite does not: a deleted queue cannot be made again for 40 s, limits hold, and"
    " now and then the account is busy or an answer is lost.",
)
@click.option(
    "--event-schema",
    type=click.Choice([*_EVENT_SCHEMAS], case_sensitive=False),
    default="eventgrid",
    show_default=True,
    metavar="eventgrid|cloudevents",
    help="What the blobs' events are delivered in. Azure's names, EventGridSchema and CloudEventSchemaV1_0, do too.",
)
@webhook_options
@click.option("--core-tools", is_flag=True, help="Run the Function in Azure Functions Core Tools (func start).")
def command(  # noqa: PLR0917 - Click passes them by name
    agents: int,
    targets: tuple[str, ...],
    blob_port: int | None,
    queue_port: int | None,
    table_port: int | None,
    functions_port: int | None,
    agent_offset: int | None,
    free_ports: bool,  # noqa: FBT001 - an option
    state: Path,
    folder: Path | None,
    count_requests: bool,  # noqa: FBT001 - an option
    as_azure: bool,  # noqa: FBT001 - an option
    event_schema: str,
    webhooks: tuple[str, ...],
    webhook_secret_file: Path | None,
    core_tools: bool,  # noqa: FBT001 - an option
) -> int:
    """Run the whole cloud on this machine until Ctrl-C.

    Azurite (the storage emulator), an Event Grid that tells of its blobs, the Function, and agents that serve HTTPS,
    by themselves or by a real web server each; all on 127.0.0.1. On the standard ports Storage Explorer, az and every
    SDK find it by themselves.
    """
    usual = FREE_PORTS if free_ports else STANDARD_PORTS
    ports = Ports(
        blob=usual.blob if blob_port is None else blob_port,
        queue=usual.queue if queue_port is None else queue_port,
        table=usual.table if table_port is None else table_port,
        functions=usual.functions if functions_port is None else functions_port,
        agent_offset=usual.agent_offset if agent_offset is None else agent_offset,
    )
    settings = PlatformSettings(
        agents=agents,
        targets=targets,
        ports=ports,
        state=state,
        folder=folder,
        count_requests=count_requests,
        as_azure=AsAzure() if as_azure else None,
        event_schema=_EVENT_SCHEMAS[event_schema],
        function_environment=_webhook_settings(webhooks, webhook_secret_file),
        host="func" if core_tools else "certcast",
        on_line=_Log(results()),
    )
    try:
        return run_until_stopped(_serve(settings))
    except KeyboardInterrupt:  # the way to end it
        say("stopped")
        return Exit.DONE


def _webhook_settings(urls: tuple[str, ...], secret_file: Path | None) -> dict[str, str]:
    """The Function's settings for webhooks.

    Raises:
        ConfigurationError: One cannot be used.
    """
    chosen_secrets(secret_file, os.environ)
    secrets = " ".join(secrets_text(secret_file, os.environ).split())
    return {WEBHOOK_SETTING: " ".join(chosen_webhooks(urls, os.environ)), WEBHOOK_SECRET_SETTING: secrets}


async def _serve(settings: PlatformSettings) -> int:
    """Run until a part ends by itself, or until cancelled."""
    say("starting; Ctrl-C stops it")
    async with LocalPlatform(settings) as platform:
        results().print(safe_lines(usage(platform)), soft_wrap=True)
        async with requests_shown(platform.requests if settings.count_requests else None):
            try:
                error = await platform.failure()
            finally:
                if settings.as_azure is not None:
                    say(answered_as_azure(platform.faults.applied))
    say(f"certcast: {error}", "bold red")
    say(f"everything was stopped; logs are in {platform.state / 'logs'}")
    return Exit.FAILED


def answered_as_azure(applied: Mapping[str, int]) -> str:
    """What requests were answered that Azurite would have answered otherwise."""
    counts = ", ".join(f"{name} {count}" for name, count in sorted(applied.items()))
    return f"answered as Azure does: {counts or 'nothing'}"


def usage(platform: LocalPlatform) -> str:
    """How the local cloud that runs now is used."""
    standard = platform.endpoints.blob_port == STANDARD_PORTS.blob
    addresses = "\n".join(_served_by(instance) for instance in platform.instances)
    first_ip, first_port = platform.instances[0].address()
    settings = "" if standard else 'CERTCAST_STORAGE="CONNECTION STRING" '
    emulator = (
        "Local & Attached > Storage Accounts > (Emulator - Default Ports)" if standard else "connect by that string"
    )
    return f"""\
certcast is up. Look at everything in a browser, at the dashboard's address (its key is in it):

  {platform.dashboard_url}

PortNumber {DEFAULT_PORT} is served at
{addresses}

connection string{" (or UseDevelopmentStorage=true)" if standard else ""}
  {platform.connection_string}

upload a PFX to the container `{UPLOADS_CONTAINER}`, by any of
  {settings}certcast upload shop.pfx --host www.example.com
  az storage blob upload --connection-string "CONNECTION STRING" -c {UPLOADS_CONTAINER} -f shop.pfx -n shop.pfx \\
     --overwrite --metadata HostHeader=www.example.com CertificatePassword=...
  Storage Explorer: {emulator} > Blob Containers > {UPLOADS_CONTAINER} > Upload,
     then Properties > Metadata: HostHeader, CertificatePassword

see what becomes of it
  {settings}certcast status --watch
  openssl s_client -connect {first_ip}:{first_port} -servername www.example.com </dev/null

logs are in {platform.state / "logs"}
"""


def _served_by(instance: Instance) -> str:
    ip, port = instance.address()
    server = "" if instance.server is None else f" ({instance.target})"
    return f"  {instance.name:<10}https://{ip}:{port}{server}"


def safe_lines(text: str) -> str:
    """The lines, each fit for a terminal."""
    return "\n".join(safe(line).plain for line in text.splitlines())


class _Log:
    """Prints the components' lines, each component in a colour of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._styles: dict[str, str] = {}

    def __call__(self, component: str, line: str) -> None:
        style = self._styles.setdefault(component, _COLOURS[len(self._styles) % len(_COLOURS)])
        self._console.print(safe(f"{component:<10} ", style) + safe(line), soft_wrap=True)
