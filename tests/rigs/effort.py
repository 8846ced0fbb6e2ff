"""How much the randomised tests try: `CERTCAST_TEST_EFFORT=20` makes every one of them try twenty times as much.

`CERTCAST_TEST_SEED` repeats a simulation that another run made; without it each run is a new one. The seed is printed
at the head of every run of the tests.
"""

import os
import secrets

EFFORT = float(os.environ.get("CERTCAST_TEST_EFFORT", "1"))
SEED = int(os.environ.get("CERTCAST_TEST_SEED") or secrets.randbelow(2**32))
os.environ["CERTCAST_TEST_SEED"] = str(SEED)  # the same one in every process that runs tests


def examples(usual: int) -> int:
    """How many examples to try where so many are usual."""
    return max(1, round(usual * EFFORT))
