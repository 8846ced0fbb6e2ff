"""The command of `python -m instance_agent`: parses it, builds the agent, turns errors into exit codes."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from instance_agent.acting import Actor
from instance_agent.agent import Agent
from instance_agent.config import AgentSettings, agent_settings, named_instance, read_environment
from instance_agent.health import HealthServer
from instance_agent.identity import mark_in, mark_of
from instance_agent.installing.listener_probe import ListenerProbe
from instance_agent.installing.probe_settings import ProbeSettings
from instance_agent.metadata_service import machine_name
from instance_agent.selection import make_target
from shared import VERSION
from shared.azure.account import Account
from shared.config import text
from shared.errors import CertcastError, ConfigurationError
from shared.phrasing import LOGGED_CHARS, logger, shown
from shared.telemetry.tracing import OF_TELEMETRY, begin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from instance_agent.installing.probe import Probe
    from instance_agent.targets.base import BindingTarget

DONE, FAILED, USAGE = 0, 1, 2

log = logger("instance_agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 failed, 2 wrong settings or usage."""
    parser = argparse.ArgumentParser(prog="instance_agent", description="certcast's agent on one role instance")
    parser.add_argument("--version", action="version", version=f"certcast {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="serve until stopped")
    commands.add_parser("once", help="reconcile once and exit; 0 when everything desired is served and proved")
    commands.add_parser("plan", help="say what a reconcile would do; changes nothing")
    commands.add_parser("status", help="say what the tables know of this instance, as JSON")
    selftest = commands.add_parser("selftest", help="try the target out with names and certificates of its own (IIS)")
    selftest.add_argument("--preflight", action="store_true", help="only see whether everything needed is there")
    commands.add_parser("install-service", help="install and start the Windows service")
    commands.add_parser("uninstall-service", help="stop and remove the Windows service")
    commands.add_parser("run-service", help="what the Windows service runs; not for people")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("azure").setLevel(logging.WARNING)
    try:
        if os.name == "nt":
            _refuse_foreign_settings()
        env = read_environment()
        # Where there is no managed identity, and for spans: these libraries read the process's environment alone.
        ours = ("AZURE_", *OF_TELEMETRY)
        os.environ.update({name: value for name, value in env.items() if name.startswith(ours)})
        if chosen.command.endswith("-service"):
            return _service(chosen.command, env)
        if chosen.command == "selftest":
            return _selftest(env, preflight_only=chosen.preflight)
        return asyncio.run(_command(chosen.command, env))
    except CertcastError as error:
        print(f"instance_agent: {shown(str(error), LOGGED_CHARS)}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigurationError) else FAILED
    except KeyboardInterrupt:
        return DONE


def _refuse_foreign_settings() -> None:
    """See that the folder with agent.toml is the Administrators': every account can make one of that name."""
    if importlib.util.find_spec("win32security") is None:
        return
    from instance_agent.windows import access, machine  # noqa: PLC0415 - Windows only

    access.refuse_foreign(machine.program_data())


def _selftest(env: Mapping[str, str], *, preflight_only: bool) -> int:
    target = text(env, "CERTCAST_TARGET", "embedded")
    if target in {"iis", "iis-ccs"}:
        from instance_agent.windows import selftest  # noqa: PLC0415 - Windows only, and slow to import

        return selftest.main(env, preflight_only=preflight_only, say=print)
    if preflight_only:
        return asyncio.run(_preflight(env))
    raise ConfigurationError(
        f"selftest is for the targets iis and iis-ccs; CERTCAST_TARGET is {target}, which has `--preflight` alone"
    )


async def _preflight(env: Mapping[str, str]) -> int:
    """See that the settings, the target's too, are such as `run` starts with; asks neither the cloud nor the server.

    So it says the same beside an agent that runs, and whether or not there is a network.

    Raises:
        ConfigurationError: One is missing or wrong, or a key file cannot be read.
    """
    settings = agent_settings(env)
    target = make_target(settings.target, env)
    ProbeSettings.from_env(env)
    async with Account(settings.storage, key_encryption_key=settings.key_encryption_key):
        print(f"ok   settings for {target.place}, role {settings.role}")
    return DONE


def _service(command: str, env: Mapping[str, str]) -> int:
    from instance_agent.windows import service  # noqa: PLC0415 - Windows only

    match command:
        case "install-service":
            service.install()
        case "uninstall-service":
            service.uninstall()
        case _:
            service.run(lambda stopping: _command("run", env, stopping=stopping))
    return DONE


async def _command(command: str, env: Mapping[str, str], *, stopping: asyncio.Event | None = None) -> int:
    metadata_name = None if named_instance(env) else await machine_name()
    settings = agent_settings(env, metadata_name=metadata_name)
    begin(env, service="certcast-agent", instance=settings.instance)
    target = make_target(settings.target, env)
    probe = ListenerProbe(ProbeSettings.from_env(env))
    async with Account(settings.storage, key_encryption_key=settings.key_encryption_key) as account:
        if command == "status":
            return await _status(account, settings, mark_of(settings.host, target.place))
        agent = _agent(account, settings, target, probe)
        if command == "plan":
            for step in await agent.plan():
                row = step.row
                print(f"{step.action:8}{shown(row.key.phrased)} {row.fingerprint_sha256[:16]} {shown(row.source)}")
            return DONE
        with target.held():
            if command == "once":
                return DONE if await agent.once() else FAILED
            await _run(agent, settings, stopping)
        return DONE


def _agent(account: Account, settings: AgentSettings, target: BindingTarget, probe: Probe) -> Agent:
    now = account.clock.now
    actor = Actor(target=target, bundles=account.bundles, probe=probe, now=now)
    return Agent(settings=settings, state=account.state, queues=account.queues, target=target, actor=actor, now=now)


async def _run(agent: Agent, settings: AgentSettings, stopping: asyncio.Event | None) -> None:
    """Run the agent until a signal stops it or, as a service, until the event is set."""
    health = HealthServer(agent, address=settings.health_address, port=settings.health_port)
    port = health.start()
    log.info("instance %s: health at http://%s:%d/readyz", settings.instance, settings.health_address, port)
    watch = None
    if stopping is None:
        _stop_on_signals(agent)
    else:
        watch = asyncio.create_task(_stop_when_set(agent, stopping))
    try:
        await agent.run()
    finally:
        if watch is not None:
            watch.cancel()
        await health.stop()
    log.info("instance %s: stopped", agent.settings.instance)


async def _stop_when_set(agent: Agent, stopping: asyncio.Event) -> None:
    await stopping.wait()
    agent.stop()


def _stop_on_signals(agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # SIGBREAK: Windows' Ctrl-Break and service wrappers
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, agent.stop)
        except NotImplementedError:  # Windows: asyncio has no signal handlers there
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(agent.stop))


async def _status(account: Account, settings: AgentSettings, mark: str) -> int:
    """Show the row of this machine's agent for its server, under whatever id that runs."""
    own = [known async for known in account.state.instances.all() if mark_in(known.value.session) == mark]
    if not own:
        print(f"instance {settings.instance} is not registered", file=sys.stderr)
        return FAILED
    record = max(own, key=lambda known: known.written_at).value
    document = {
        "id": record.id,
        "asked_id": record.asked_id or None,
        "role": record.role,
        "host": record.host,
        "target": record.target_kind,
        "target_version": record.target_version,
        "queue": settings.queue,
        "last_seen": record.last_seen.isoformat(),
        "bindings": record.bindings,
        "failing": record.failing,
        "ready": record.ready,
        "stopped": record.stopped,
        "trouble": record.trouble or None,
    }
    print(json.dumps(document, indent=2))
    return DONE
