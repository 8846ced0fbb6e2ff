"""What is in a PFX: its bundle, or the reasons why there is none."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from shared.bundle import CertificateBundle
from shared.validation.assembling import OpenedPfx
from shared.validation.pfx import MAX_KDF_ITERATIONS, MAX_PFX_BYTES, open_pfx
from shared.validation.trust import Trust
from shared.verdict import Violation

ANY = Trust(roots=None, name="off")


def load_pfx(
    content: bytes,
    passwords: Sequence[bytes | None],
    *,
    max_bytes: int = MAX_PFX_BYTES,
    max_kdf_iterations: int = MAX_KDF_ITERATIONS,
) -> CertificateBundle | tuple[Violation, ...]:
    opened = open_pfx(content, passwords, max_bytes=max_bytes, max_kdf_iterations=max_kdf_iterations)
    return with_chain(opened) if isinstance(opened, OpenedPfx) and not opened.violations else opened.violations


def with_chain(opened: OpenedPfx) -> CertificateBundle:
    """The bundle with the chain it is served with where any root is trusted."""
    chosen = ANY.choose(opened.leaf, opened.others, host=None, now=dt.datetime.now(dt.UTC))
    return replace(opened.bundle, chain=chosen.chain)
