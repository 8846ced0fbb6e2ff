"""What is in a PFX: its bundle, or the reasons why there is none."""

from collections.abc import Sequence

from shared.bundle import CertificateBundle
from shared.validation.assembling import OpenedPfx
from shared.validation.pfx import MAX_KDF_ITERATIONS, MAX_PFX_BYTES, open_pfx
from shared.verdict import Violation


def load_pfx(
    content: bytes,
    passwords: Sequence[bytes | None],
    *,
    max_bytes: int = MAX_PFX_BYTES,
    max_kdf_iterations: int = MAX_KDF_ITERATIONS,
) -> CertificateBundle | tuple[Violation, ...]:
    opened = open_pfx(content, passwords, max_bytes=max_bytes, max_kdf_iterations=max_kdf_iterations)
    return opened.bundle if isinstance(opened, OpenedPfx) else opened.violations
