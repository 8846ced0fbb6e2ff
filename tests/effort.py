"""How much the randomised tests try: `CERTCAST_TEST_EFFORT=20` makes every one of them try twenty times as much."""

from __future__ import annotations

import os

EFFORT = float(os.environ.get("CERTCAST_TEST_EFFORT", "1"))


def examples(usual: int) -> int:
    """How many examples to try where so many are usual."""
    return max(1, round(usual * EFFORT))
