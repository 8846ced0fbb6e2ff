"""Installs and failures as entries of the Windows Application event log; other log lines stay where they are."""

from __future__ import annotations

import logging
from logging.handlers import NTEventLogHandler

SOURCE = "certcast"

ABOUT_OUTCOMES = ("instance_agent.targets", "instance_agent.usability", "instance_agent.work")
"""Loggers whose information, too, is worth an entry: what was installed, removed or deleted."""


class WorthAnEntry(logging.Filter):
    """Lets warnings and errors of ours pass, and information about installs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record goes to the event log."""
        if record.levelno >= logging.WARNING:
            return record.name.partition(".")[0] in {"instance_agent", "shared"}
        about = any(record.name == name or record.name.startswith(f"{name}.") for name in ABOUT_OUTCOMES)
        return record.levelno == logging.INFO and about


def event_log_handler() -> logging.Handler:
    """A handler that writes entries under the source `certcast`, which it registers; needs an elevated process.

    No stack trace is written: the entries are for administrators, the trace is in the log file.
    """
    handler = NTEventLogHandler(SOURCE)
    handler.setFormatter(OneSentence())
    handler.addFilter(WorthAnEntry())
    return handler


class OneSentence(logging.Formatter):
    """The message alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Without the trace that the record may carry."""
        return f"{record.getMessage()} ({record.name})"
