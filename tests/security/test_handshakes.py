"""A certificate that no TLS client takes is refused, instead of holding up each instance that tries to prove it."""

from shared.validation.assembling import MAX_CERTIFICATE_BYTES, Unopened
from shared.validation.pfx import open_pfx
from shared.verdict import VerdictCode
from tests.rigs.attacks import PASSWORD, long_chain


def test_a_chain_that_is_too_long_for_a_handshake_is_refused_in_words() -> None:
    file = long_chain().pfx(PASSWORD, iterations=1)
    opened = open_pfx(file, [PASSWORD.encode()])
    assert isinstance(opened, Unopened)
    [violation] = opened.violations
    assert violation.code is VerdictCode.TOO_LARGE
    assert f"{MAX_CERTIFICATE_BYTES} are the most" in violation.detail
