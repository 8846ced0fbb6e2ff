"""Starting a process: its modules are imported without a search for garbage among them."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def imported(name: str) -> ModuleType:
    """Import the module that holds a process's code, and all that it needs, in three quarters of the time.

    What modules make stays as long as the process does. Python would look through all of it again and again while more
    is added, and once more at the end; here it looks at none of it, then or later (`gc.freeze`).
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
