"""Runs the local Functions host: `python -m local_azure.functions_host`."""

import logging
import os
import sys

from shared.starting import imported

if __name__ == "__main__":
    exit_code = imported("local_azure.functions_host.host").main()
    imported("shared.telemetry.tracing").end()
    logging.shutdown()
    sys.stdout.flush()
    # As in the cloud, connections that the app keeps open, and functions that are stuck on a thread, end with their
    # process; Python's own way out would complain of the former and wait for the latter.
    os._exit(exit_code)
