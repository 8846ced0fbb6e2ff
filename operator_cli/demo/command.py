"""`certcast demo`: a local cloud, a certificate's life on instances that come and go, all seen from outside."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import click
from rich.live import Live
from rich.spinner import Spinner

from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.servers.targets import TARGETS
from operator_cli.demo.backstage import LocalBackstage, Overheard
from operator_cli.demo.steps import Demo
from operator_cli.exits import Exit
from operator_cli.foreground import run_until_stopped
from operator_cli.options import agents_option, json_option, targets_option
from operator_cli.storage import opened
from operator_cli.terminal import emit, messages, results, safe, say
from shared.config import StorageAccess

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from rich.console import Console

    from operator_cli.demo.report import StepReport

T = TypeVar("T")

SWEEP_SCHEDULE = "*/10 * * * * *"
"""Each 10 s instead of each minute, so that no minute of the demo passes in which nothing happens."""
PROOF_CYCLE_S = "5"
"""So long, instead of an hour, until an agent has looked at all that is bound."""


@click.command("demo")
@agents_option
@targets_option(TARGETS)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep storage and logs in this folder. Default: a temporary one, deleted at the end.",
)
@json_option
def command(agents: int, targets: tuple[str, ...], state: Path | None, as_json: bool) -> int:  # noqa: FBT001 - an option
    """Show the whole of it on this machine, in less than a minute.

    Starts a local cloud on free ports, makes a private certificate authority and uploads a PFX as Azure Storage
    Explorer would; then a renewal, an edit of the metadata, a wrong password, a certificate that does not cover its
    host, metadata that comes later, an instance that joins and one that is stopped, and a deletion; on a real web
    server also a certificate that somebody replaces there by hand. What becomes of each is seen from outside: by TLS
    handshakes with every instance, blob tags and status.

    Exit code 1 when something was not seen, and it is named.
    """
    console = messages() if as_json else results()
    began = time.perf_counter()
    overheard = Overheard()
    settings = _settings(agents, targets, state, overheard)
    reports = run_until_stopped(_demonstrate(settings, console, overheard))
    seconds = time.perf_counter() - began
    missing = [f"{report.title}: {sentence}" for report in reports for sentence in report.missing()]
    done = bool(reports) and all(report.ok for report in reports)
    if as_json:
        emit(
            {
                "ok": done,
                "agents": agents,
                "targets": list(targets),
                "seconds": round(seconds, 1),
                "steps": [report.to_json() for report in reports],
                "not_seen": missing,
            }
        )
    for sentence in missing:
        say(f"certcast: not seen: {sentence}", "bold red")
    if missing:
        for line in overheard.errors:
            say(f"  {line}", "red")
        say(f"logs are in {state / 'logs'}" if state else "run it again with --state DIR to keep the logs")
    if done and not as_json:
        on = f"{agents} instances ({', '.join(dict.fromkeys(targets[:agents]))})"
        console.print(safe(f"All of it was seen, on {on}, in {seconds:.0f} s.", "bold green"))
    return Exit.DONE if done else Exit.FAILED


def _settings(agents: int, targets: tuple[str, ...], state: Path | None, overheard: Overheard) -> PlatformSettings:
    return PlatformSettings(
        on_line=overheard,
        agents=agents,
        targets=targets,
        ports=FREE_PORTS,
        state=state,
        function_environment={
            "CERTCAST_TRUST": "off",
            "CERTCAST_SCRUB_PASSWORD": "true",
            "CERTCAST_SWEEP_SCHEDULE": SWEEP_SCHEDULE,
        },
        agent_environment={"CERTCAST_ROLE": "*", "CERTCAST_PROOF_CYCLE": PROOF_CYCLE_S},
    )


async def _demonstrate(settings: PlatformSettings, console: Console, overheard: Overheard) -> list[StepReport]:
    with _waiting(console, "starting the local cloud"):
        platform = LocalPlatform(settings)
        await platform.start()
    try:
        say(f'to look on from elsewhere: CERTCAST_STORAGE="{platform.connection_string}" certcast status --watch')
        backstage = LocalBackstage(platform, overheard)
        async with opened(StorageAccess(connection_string=platform.connection_string)) as storage:
            with _Stage(console) as stage:
                demo = Demo(uploads=storage.uploads, state=storage.tables, backstage=backstage, changed=stage.show)
                return await _unless_lost(platform, _all(demo, stage))
    finally:
        with _waiting(console, "stopping the local cloud"):
            await platform.stop()


async def _all(demo: Demo, stage: _Stage) -> list[StepReport]:
    return [stage.finished(report) async for report in demo.steps()]


async def _unless_lost(platform: LocalPlatform, work: Coroutine[None, None, T]) -> T:
    """Do the work as long as every part of the cloud runs.

    Raises:
        ChildEndedError: A part has ended.
    """
    working, losing = asyncio.ensure_future(work), asyncio.ensure_future(platform.failure())
    try:
        await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise losing.result()
        return working.result()
    finally:
        for task in (working, losing):
            task.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


class _Stage:
    """Where the steps are shown: redrawn with every change on a terminal, elsewhere once each is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, report: StepReport) -> None:
        """Draw the step in hand."""
        if self._live is not None:
            self._live.update(report.drawn(), refresh=True)

    def finished(self, report: StepReport) -> StepReport:
        """Leave the finished step on the screen."""
        if self._live is not None:
            self._live.update(safe(""), refresh=True)
        self._console.print(report.drawn())
        return report


def _waiting(console: Console, text: str) -> Live | nullcontext[None]:
    """A spinner on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        return nullcontext()
    return Live(Spinner("dots", text=safe(text)), console=console, transient=True)
