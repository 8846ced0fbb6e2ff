"""What is asked of a process that judges and what it answers: JSON in frames, each its length in four octets and text.

JSON and not pickle: the answer comes from a process that an uploader's file may have taken over.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_type_hints

from shared.bundle import CertificateBundle
from shared.codec import from_document, from_plain, parse_json, to_document, to_plain
from shared.errors import BrokenBundleError, BrokenMessageError
from shared.upload import UploadMetadata
from shared.validation.judge import ValidationPolicy, judge_bundle, judge_pfx
from shared.validation.judged import Judged
from shared.validation.trust import Trust
from shared.verdict import Caution, VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LENGTH_OCTETS = 4
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Room for a PFX of 1 MiB, in base64, or for the PEM of what it holds."""
CHEAP_STEPS = 150_000
"""Key derivation for which no file has to wait behind others: 60 ms, and far more than tools use unless told."""
CHEAP_RSA_BITS = 4096
MAX_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One upload to be judged.

    Attributes:
        content: The PFX, base64; empty where a sealed bundle is judged.
        sealed: The sealed bundle's PEM.
        sealed_as: Its id.
        metadata: What the uploader wants.
        passwords: Those to try, base64 of UTF-8; None is no password.
        now: The time to judge by.
        earlier: What is already known against it.
        warnings: What its uploader is to be told besides.
        cheap: Whether to give up at once on what would take long.
    """

    content: str = field(default="", repr=False)
    sealed: str = field(default="", repr=False)
    sealed_as: str = ""
    metadata: UploadMetadata
    passwords: tuple[str | None, ...] = field(default=(), repr=False)
    now: datetime
    earlier: tuple[Violation, ...] = ()
    warnings: tuple[Caution, ...] = ()
    cheap: bool = False

    @classmethod
    def of_pfx(
        cls,
        content: bytes,
        metadata: UploadMetadata,
        passwords: Sequence[bytes | None],
        *,
        now: datetime,
        earlier: Sequence[Violation] = (),
        warnings: Sequence[Caution] = (),
    ) -> Task:
        """Judge an uploaded file."""
        return cls(
            content=_text(content),
            metadata=metadata,
            passwords=tuple(None if password is None else _text(password) for password in passwords),
            now=now,
            earlier=tuple(earlier),
            warnings=tuple(warnings),
        )

    def done(self, policy: ValidationPolicy) -> Answer:
        """Judge it, in this process."""
        if self.sealed:
            try:
                bundle = CertificateBundle.from_sealed(self.sealed.encode(), self.sealed_as)
            except BrokenBundleError as error:
                return Answer(broken=str(error))
            judgement = judge_bundle(
                bundle, self.metadata, policy=policy, now=self.now, earlier=self.earlier, warnings=self.warnings
            )
            return Answer(judged=Judged.of(judgement))
        if self.cheap:
            policy = replace(
                policy,
                max_kdf_iterations=min(policy.max_kdf_iterations, CHEAP_STEPS),
                max_checked_rsa_bits=min(policy.max_checked_rsa_bits, CHEAP_RSA_BITS),
            )
        passwords = [None if password is None else base64.b64decode(password) for password in self.passwords]
        judgement = judge_pfx(
            base64.b64decode(self.content),
            self.metadata,
            passwords,
            policy=policy,
            now=self.now,
            earlier=self.earlier,
            warnings=self.warnings,
        )
        if self.cheap and any(each.code is VerdictCode.KDF_TOO_EXPENSIVE for each in judgement.violations):
            return Answer(dear=True)
        return Answer(judged=Judged.of(judgement))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a task.

    Attributes:
        judged: The upload as it was judged.
        dear: Whether it would take longer than a cheap task may.
        broken: Why the sealed bundle is none; empty otherwise.
        lines: What was logged.
    """

    judged: Judged | None = None
    dear: bool = False
    broken: str = ""
    lines: tuple[str, ...] = ()


def frame(document: object) -> bytes:
    """Put a document into a frame."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return len(text).to_bytes(LENGTH_OCTETS) + text


def length_of(prefix: bytes) -> int:
    """The length of a frame's text.

    Raises:
        BrokenMessageError: It is longer than any of ours.
    """
    length = int.from_bytes(prefix)
    if length > MAX_FRAME_BYTES:
        raise BrokenMessageError("a frame is longer than any that is sent")
    return length


def encode(value: Task | Answer) -> bytes:
    """Put a task or an answer into a frame."""
    return frame(to_document(value))


def decode_task(text: bytes) -> Task:
    """Read a task."""
    return from_document(Task, parse_json(text))


def decode_answer(text: bytes) -> Answer:
    """Read an answer.

    Raises:
        BrokenMessageError: It is none.
    """
    try:
        document = parse_json(text)
    except ValueError:
        raise BrokenMessageError("an answer is not JSON") from None
    answer = from_document(Answer, document)
    return replace(answer, lines=answer.lines[:MAX_LINES])


def policy_document(policy: ValidationPolicy) -> dict[str, Any]:
    """A policy as JSON: plain fields as they are, the trusted roots by their setting."""
    return {name: to_plain(getattr(policy, name)) for name in _plain_fields()} | {"trust": policy.trust.name}


def policy_of(document: Mapping[str, Any]) -> ValidationPolicy:
    """Read a policy."""
    plain = {name: from_plain(document[name], kind) for name, kind in _plain_fields().items()}
    return ValidationPolicy(trust=Trust.from_setting(document["trust"]), **plain)


def _plain_fields() -> dict[str, Any]:
    hints = get_type_hints(ValidationPolicy)
    return {each.name: hints[each.name] for each in fields(ValidationPolicy) if each.name != "trust"}


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
