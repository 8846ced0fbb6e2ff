"""The agent as a Windows service: installed, removed and run."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from instance_agent.windows.access import make_private
from instance_agent.windows.event_log import event_log_handler
from instance_agent.windows.machine import program_data
from shared.errors import ConfigurationError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Serve = Callable[[asyncio.Event], Coroutine[Any, Any, int]]

log = logger(__name__)

NAME = "certcast"
TITLE = "certcast agent"
DESCRIPTION = "Installs the certificates that certcast hands out and binds them in IIS."
_RESTARTS_S = (5, 30, 120)
_RESET_AFTER_S = 24 * 3600
_STOP_HINT_MS = 30_000
_STOP_REPORT_S = 5.0


def install(arguments: Sequence[str] = ("run-service",)) -> None:
    """Install the service and its private settings folder, or bring what is installed up to date; does not start it.

    It starts automatically after the other services, and again 5 s, 30 s and 2 minutes after a failure. Its account is
    LocalSystem, which may change the IIS configuration and the machine's certificate stores.

    Args:
        arguments: For `python -m instance_agent`; the command that calls `run`.

    Raises:
        ConfigurationError: pywin32 is missing, or the process is not elevated.
    """
    service = _win32("win32service")
    command = subprocess.list2cmdline([sys.executable, "-m", "instance_agent", *arguments])
    try:
        make_private(program_data())
        manager = service.OpenSCManager(None, None, service.SC_MANAGER_ALL_ACCESS)
        try:
            handle = _create_or_change(service, manager, command)
            try:
                _configure(service, handle)
            finally:
                service.CloseServiceHandle(handle)
        finally:
            service.CloseServiceHandle(manager)
    except service.error as error:
        raise ConfigurationError(f"the service could not be installed: {error.strerror}; run elevated") from error


def uninstall() -> None:
    """Stop and remove the service; settings and certificates stay.

    Raises:
        ConfigurationError: pywin32 is missing, the process is not elevated, or there is no such service.
    """
    service, utility = _win32("win32service"), _win32("win32serviceutil")
    try:
        utility.StopService(NAME)
    except service.error as error:
        log.info("the service was not stopped: %s", error.strerror)
    try:
        utility.RemoveService(NAME)
    except service.error as error:
        raise ConfigurationError(f"the service could not be removed: {error.strerror}") from error


def run(serve: Serve) -> None:
    """Be the service: called in the process that Windows started, returns when the service has ended.

    Args:
        serve: The agent's life, until the event is set; answers an exit code.
    """
    manager, framework, service = _win32("servicemanager"), _win32("win32serviceutil"), _win32("win32service")
    logging.getLogger().addHandler(event_log_handler())

    class CertcastService(framework.ServiceFramework):  # type: ignore[misc, name-defined]
        _svc_name_ = NAME
        _svc_display_name_ = TITLE
        _svc_description_ = DESCRIPTION

        def __init__(self, arguments: Sequence[str]) -> None:
            super().__init__(arguments)
            self.life = ServiceLife(serve)

        def SvcStop(self) -> None:  # noqa: N802 - pywin32's name
            """Windows wants an answer at once; the batch in hand is finished all the same."""
            self.life.stop(lambda: self.ReportServiceStatus(service.SERVICE_STOP_PENDING, waitHint=_STOP_HINT_MS))

        SvcShutdown = SvcStop

        def SvcDoRun(self) -> None:  # noqa: N802 - pywin32's name
            """The service's life; ending the process without a word makes Windows start the service again."""
            code = self.life.run()
            if code:
                logging.shutdown()
                os._exit(code)

    manager.Initialize(NAME, None)
    manager.PrepareToHostSingle(CertcastService)
    manager.StartServiceCtrlDispatcher()


class ServiceLife:
    """One run of the agent in a thread of Windows's, stopped from another.

    Args:
        serve: As in `run`.
        report_every_s: How often to tell Windows that the stop is still under way.
    """

    def __init__(self, serve: Serve, *, report_every_s: float = _STOP_REPORT_S) -> None:
        self._serve = serve
        self._report_every_s = report_every_s
        self._ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._stop_early = False
        self._reporter: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self) -> int:
        """Run to the end and answer the exit code; what went wrong is logged."""
        try:
            return asyncio.run(self._run())
        except Exception:  # the service's last chance to say anything
            log.exception("the agent ended with an error")
            return 1
        finally:
            with self._lock:
                self._ended.set()
                reporter = self._reporter
            if reporter is not None:
                reporter.join()

    def stop(self, report: Callable[[], None]) -> None:
        """Ask the agent to stop, and until it has, keep telling Windows that it is about to.

        Args:
            report: Tells Windows; not called any more once `run` has returned.
        """
        with self._lock:
            if self._reporter is not None or self._ended.is_set():
                return
            if self._loop is None or self._stopping is None:
                self._stop_early = True
            else:
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._reporter = threading.Thread(target=self._keep_reporting, args=(report,), daemon=True)
            self._reporter.start()

    def _keep_reporting(self, report: Callable[[], None]) -> None:
        report()
        while not self._ended.wait(self._report_every_s):
            report()

    async def _run(self) -> int:
        stopping = asyncio.Event()
        with self._lock:
            self._loop, self._stopping = asyncio.get_running_loop(), stopping
            if self._stop_early:
                stopping.set()
        try:
            return await self._serve(stopping)
        finally:
            with self._lock:
                self._loop = self._stopping = None


def _create_or_change(service: Any, manager: Any, command: str) -> Any:  # noqa: ANN401 - pywin32's objects
    try:
        handle = service.OpenService(manager, NAME, service.SERVICE_ALL_ACCESS)
    except service.error:
        return service.CreateService(
            manager,
            NAME,
            TITLE,
            service.SERVICE_ALL_ACCESS,
            service.SERVICE_WIN32_OWN_PROCESS,
            service.SERVICE_AUTO_START,
            service.SERVICE_ERROR_NORMAL,
            command,
            None,
            0,
            None,
            None,
            None,
        )
    service.ChangeServiceConfig(
        handle,
        service.SERVICE_NO_CHANGE,
        service.SERVICE_AUTO_START,
        service.SERVICE_NO_CHANGE,
        command,
        None,
        0,
        None,
        None,
        None,
        TITLE,
    )
    return handle


def _configure(service: Any, handle: Any) -> None:  # noqa: ANN401 - pywin32's objects
    service.ChangeServiceConfig2(handle, service.SERVICE_CONFIG_DESCRIPTION, DESCRIPTION)
    service.ChangeServiceConfig2(handle, service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, True)
    service.ChangeServiceConfig2(
        handle,
        service.SERVICE_CONFIG_FAILURE_ACTIONS,
        {
            "ResetPeriod": _RESET_AFTER_S,
            "RebootMsg": "",
            "Command": "",
            "Actions": [(service.SC_ACTION_RESTART, seconds * 1000) for seconds in _RESTARTS_S],
        },
    )
    service.ChangeServiceConfig2(handle, service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, True)


def _win32(name: str) -> Any:  # noqa: ANN401 - pywin32's modules
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = (
            "this is not Windows"
            if sys.platform != "win32"
            else "install what requirements.lock beside install.ps1 lists"
        )
        raise ConfigurationError(f"the Windows service needs pywin32: {reason}") from error
