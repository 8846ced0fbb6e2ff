"""The target that opens and judges uploads: a verdict comes of each, and what is accepted can be opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import wraps
from random import Random
from typing import ParamSpec, TypeVar

import atheris

from shared.bundle import CertificateBundle
from shared.pkcs12.asn1 import OCTET_STRING
from shared.upload import UploadMetadata
from shared.validation import judge
from shared.validation.judge import ValidationPolicy, judge_pfx
from shared.validation.judged import Judged
from shared.validation.tasks import LENGTH_OCTETS, Answer, decode_answer, encode
from shared.validation.trust import Trust
from tests.fuzz import corpus
from tests.fuzz.der import Node, changed, parsed
from tests.fuzz.seal import PASSWORD, changed_layers, changed_mac

P = ParamSpec("P")
T = TypeVar("T")

_NOW = datetime.now(UTC)
_PASSWORDS = (PASSWORD.encode(), None)
_CASES = (
    (
        ValidationPolicy(trust=Trust.from_setting("off")),
        UploadMetadata(hosts=(corpus.HOST, "*.example.com", "no host!"), subject=f"CN={corpus.HOST}, O=Shop", port=443),
    ),
    (ValidationPolicy(trust=Trust(roots=(corpus.root().certificate,), name="roots.pem")), UploadMetadata()),
)
_caught: list[BaseException] = []


def _remembered(function: Callable[P, T]) -> Callable[P, T]:
    """What `judge_pfx` makes a verdict of is a verdict with no good reason: remember that it was raised."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as problem:
            _caught.append(problem)
            raise

    return call


judge.open_pfx = _remembered(judge.open_pfx)  # type: ignore[attr-defined]  # imported there to be used there
judge._judge = _remembered(judge._judge)


def seeds() -> Iterator[bytes]:
    return corpus.files()


def run(data: bytes) -> None:
    for policy, metadata in _CASES:
        _caught.clear()
        judgement = judge_pfx(data, metadata, _PASSWORDS, policy=policy, now=_NOW)
        if _caught:
            raise _caught[0]
        answer = decode_answer(encode(Answer(judged=Judged.of(judgement)))[LENGTH_OCTETS:])
        assert answer.judged == Judged.of(judgement)
        bundle = answer.judged.bundle
        if judgement.accepted and bundle is not None:
            assert CertificateBundle.from_sealed(bundle.pem.encode(), bundle.id_for(data)) == judgement.bundle
        if judgement.bundle is None:
            return  # whom it trusts makes no difference


def mutate(data: bytes, random: Random) -> bytes | None:
    """Change a file in a few places below its outer layers; now and then anywhere in its octets."""
    root = parsed(data)
    if root is None or random.random() < 0.05:
        return None
    try:
        return _changed(root, random)
    except RecursionError:  # layer upon layer was put around something
        return None


def _changed(root: Node, random: Random) -> bytes:
    if random.random() < 0.2:
        changed_layers(root, random)
    # Most of what may be wrong is inside certificates and keys, which are read where all around them is sound.
    wrapped = [node for node in root.walk() if node.tag == OCTET_STRING and node.inside]
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        part = random.choice(wrapped) if wrapped and random.random() < 0.7 else root
        changed(part, random, lambda octets: bytes(atheris.Mutate(octets, len(octets) + 8)))
    if random.random() < 0.2:
        changed_layers(root, random)
    if random.random() < 0.7:
        changed_mac(root, random)
    return root.encoded()
