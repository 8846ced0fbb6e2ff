"""What each way to a key costs beside one step of PKCS#12's own derivation: the weights in `shared.pkcs12`.

Processor time, the least of three runs.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import _results
from _results import Figure, Results, Table

from shared.pkcs12 import rc2
from shared.pkcs12.kdf import HMACS, KeyDerivation, Pbkdf2Derivation, Pkcs12Derivation, ScryptDerivation
from shared.pkcs12.passwords import Password

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

ITERATIONS, QUICK_ITERATIONS = 200_000, 20_000
PASSWORD = Password(utf8=b"secret", bmp="secret".encode("utf-16-be") + b"\0\0")
SALT = b"12345678"
RC2_BLOCKS = 5_000


def took_s(work: Callable[[], object]) -> float:
    """Seconds of processor time, the least of three runs."""
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def per_charged_step(derivation: KeyDerivation, size: int) -> float:
    """Seconds of processor time for each step that is charged."""
    return took_s(lambda: derivation.derive(PASSWORD, size)) / derivation.cost(size)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iterations", type=int, help=f"of each derivation (default {ITERATIONS:,})")


def run(chosen: argparse.Namespace) -> Results:
    """Measure, for each scheme, a step that is charged for it, as a ratio to the step it is measured by."""
    iterations = chosen.iterations or (QUICK_ITERATIONS if chosen.quick else ITERATIONS)
    unit = per_charged_step(Pkcs12Derivation(digest="sha1", salt=SALT, iterations=iterations, purpose=1), 16)
    schemes: dict[str, tuple[KeyDerivation, int]] = {}
    for digest in ("md5", *HMACS.values()):
        schemes[f"PKCS#12, {digest}"] = Pkcs12Derivation(digest=digest, salt=SALT, iterations=iterations, purpose=1), 16
    for digest in HMACS.values():
        for size in (16, 32):
            theirs = Pbkdf2Derivation(digest=digest, salt=SALT, iterations=iterations)
            schemes[f"PBKDF2, {digest}, {size} octets"] = theirs, size
    for n, r, p in ((2, 1, 100_000), (1024, 8, 10), (16_384, 8, 1), (65_536, 8, 1)):
        schemes[f"scrypt, N={n} r={r} p={p}"] = ScryptDerivation(salt=SALT, n=n, r=r, p=p), 32
    ratios = {name: per_charged_step(*scheme) / unit for name, scheme in schemes.items()}
    block = took_s(lambda: rc2.decrypt_cbc(b"12345", bytes(8), bytes(8 * RC2_BLOCKS))) / RC2_BLOCKS
    step = "a step of PKCS#12 with SHA-1"
    return Results(
        name="pkcs12_costs",
        command=_results.command("pkcs12_costs", chosen),
        tables=[Table("A charged step, against " + step, ("scheme", "ratio"), tuple(ratios.items()))],
        figures=[
            Figure(step, unit * 1e9, "ns"),
            Figure("a block of RC2", block * 1e9, "ns", block / unit, step),
            Figure("the dearest charged step", max(ratios.values()) * unit * 1e9, "ns", max(ratios.values()), step),
        ],
    )


def main() -> int:
    """Run it from the command line."""
    return _results.main(__doc__, add_arguments, run)


if __name__ == "__main__":
    sys.exit(main())
