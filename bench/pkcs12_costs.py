"""What each way to a key costs beside one step of PKCS#12's own derivation: the weights in `shared.pkcs12`.

`python bench/pkcs12_costs.py`; processor time, the least of three runs.
"""

import time
from collections.abc import Callable

from shared.pkcs12 import rc2
from shared.pkcs12.kdf import HMACS, KeyDerivation, Password, Pbkdf2Derivation, Pkcs12Derivation, ScryptDerivation

ITERATIONS = 200_000
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


def main() -> None:
    """Print, for each scheme, the time of a step that is charged for it as a ratio to the step it is measured by."""
    unit = per_charged_step(Pkcs12Derivation(digest="sha1", salt=SALT, iterations=ITERATIONS, purpose=1), 16)
    print(f"a step takes {unit * 1e9:.0f} ns; a charged step of the others takes, beside it:")
    for digest in ("md5", *HMACS.values()):
        own = Pkcs12Derivation(digest=digest, salt=SALT, iterations=ITERATIONS, purpose=1)
        print(f"  PKCS#12, {digest:7} {per_charged_step(own, 16) / unit:.2f}")
    for digest in HMACS.values():
        for size in (16, 32):
            theirs = Pbkdf2Derivation(digest=digest, salt=SALT, iterations=ITERATIONS)
            print(f"  PBKDF2, {digest:7} for {size} octets {per_charged_step(theirs, size) / unit:.2f}")
    for n, r, p in ((2, 1, 100_000), (1024, 8, 10), (16_384, 8, 1), (65_536, 8, 1)):
        scrypt = ScryptDerivation(salt=SALT, n=n, r=r, p=p)
        print(f"  scrypt, N={n} r={r} p={p} {per_charged_step(scrypt, 32) / unit:.2f}")
    block = took_s(lambda: rc2.decrypt_cbc(b"12345", bytes(8), bytes(8 * RC2_BLOCKS))) / RC2_BLOCKS
    print(f"  a block of RC2 takes {block / unit:.0f} steps")


if __name__ == "__main__":
    main()
