"""A certificate that no TLS client takes is refused, instead of holding up each instance that tries to prove it."""

import datetime as dt

from shared.upload import UploadMetadata
from shared.validation.assembling import MAX_CERTIFICATE_BYTES
from shared.validation.judge import ValidationPolicy, judge_pfx
from shared.validation.trust import Trust
from shared.verdict import VerdictCode
from tests.rigs.attacks import PASSWORD, long_chain


def test_a_chain_that_is_too_long_for_a_handshake_is_refused_in_words() -> None:
    file = long_chain().pfx(PASSWORD, iterations=1)
    policy = ValidationPolicy(trust=Trust.from_setting("off"))
    now = dt.datetime.now(dt.UTC)
    [violation] = judge_pfx(file, UploadMetadata(), [PASSWORD.encode()], policy=policy, now=now).violations
    assert violation.code is VerdictCode.TOO_LARGE
    assert f"{MAX_CERTIFICATE_BYTES} are the most" in violation.detail
