"""Holding a family to its verdicts: our judgement, OpenSSL's word and the library's, each beside what is right."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import pkcs12

from shared.upload import UploadMetadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_pfx
from shared.validation.trust import Trust
from tests.corpus.row import Row
from tests.corpus.workshop import SECRET, Workshop

_ANY = Trust.from_setting("off")


def faults(rows: Sequence[Row], folder: Path) -> list[str]:
    """What is not as it should be, a line each."""
    workshop = Workshop(folder)
    return [fault for row in rows for fault in _faults(row, workshop)]


def judged(row: Row, workshop: Workshop, content: bytes) -> Judgement:
    """Our word on an input."""
    roots = (workshop.root.certificate, x509.load_der_x509_certificate(workshop.old_root.der))
    trust = Trust(roots=roots, name="corpus.pem") if row.trusts else _ANY
    passwords = [None, b""] if row.password is None else [row.password.encode()]
    policy = ValidationPolicy(trust=trust)
    return judge_pfx(content, UploadMetadata(hosts=row.hosts), passwords, policy=policy, now=datetime.now(UTC))


def _faults(row: Row, workshop: Workshop) -> Iterator[str]:
    content = row.make(workshop)
    judgement = judged(row, workshop, content)
    verdicts = tuple(violation.code.value for violation in judgement.violations)
    cautions = tuple(warning.code.value for warning in judgement.warnings)
    said = " ".join(finding.detail for finding in (*judgement.violations, *judgement.warnings))
    if (verdicts, cautions) != (row.verdicts, row.warnings):
        yield f"{row.name}: {verdicts} {cautions} instead of {row.verdicts} {row.warnings}: {said}"
    yield from (f"{row.name}: '{text}' is not in: {said}" for text in row.says if text not in said)
    given = (row.password or "").strip()
    if len(given) > 1 and given != SECRET and given in said:  # the usual one is a word of ours too
        yield f"{row.name}: the password is in: {said}"
    if row.openssl is not None and workshop.opens(content, row.password) is not row.openssl:
        yield f"{row.name}: openssl {'does not open' if row.openssl else 'opens'} it"
    if judgement.accepted and row.library and not _library_agrees(judgement, content, row.password):
        yield f"{row.name}: cryptography does not agree"


def _library_agrees(judgement: Judgement, content: bytes, password: str | None) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):  # of BER where DER belongs
            found = pkcs12.load_pkcs12(content, None if password is None else password.encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    assert judgement.bundle is not None
    return found.cert is not None and found.cert.certificate == judgement.bundle.leaf
