"""Opening and judging whatever an uploader sends: a judgement comes of it, and nothing else.

`python -m tests.fuzz.opening FOLDER [OPTIONS]`, which are libFuzzer's. An input's first byte says what it stands for: a
file, or what is inside one, so that what is changed there is reached though a file's layers are encrypted and checked.
With `--strict` it is a finding, too, where `judge_pfx` had to catch something that no code of ours expects.
"""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import atheris
from cryptography.hazmat.primitives.serialization import Encoding

with atheris.instrument_imports(include=["shared.pkcs12", "shared.validation", "shared.bundle", "shared.hostnames"]):
    from shared.upload import parse_metadata
    from shared.validation.judge import Judgement, ValidationPolicy, judge_pfx
    from shared.validation.judged import Judged
    from shared.validation.trust import Trust

from shared.codec import to_document
from tests.fuzz.der import mutated
from tests.fuzz.running import fuzz
from tests.rigs import handmade_pfx as handmade
from tests.rigs.certificates import Authority, authority, self_signed

PASSWORD = "secret"
STRICT = "--strict" in sys.argv
NOW = datetime.now(UTC)
ROOT = authority()
KNOWN = ROOT.issue("a.example.com", "*.example.com")
POLICIES = tuple(
    ValidationPolicy(trust=trust, max_kdf_iterations=20_000)
    for trust in (Trust.from_setting("off"), Trust(roots=(ROOT.root,), name="the fuzz target's root"))
)

WRAPPED: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data,
    lambda data: handmade.pfx(handmade.plain_safe(data)),
    lambda data: handmade.pfx(handmade.encrypted_safe(PASSWORD, data)),
    lambda data: handmade.pfx(
        handmade.plain_safe(handmade.bag(handmade.KEY_BAG, data), handmade.certificate_bag(KNOWN.certificate))
    ),
    lambda data: handmade.pfx(
        handmade.plain_safe(handmade.key_bag(KNOWN.key), _certificate_bag(data)),
    ),
    lambda data: handmade.pfx(
        handmade.plain_safe(
            handmade.key_bag(KNOWN.key), handmade.certificate_bag(KNOWN.certificate), _certificate_bag(data)
        )
    ),
    lambda data: handmade.pfx(handmade.safe_of(data, handmade.tlv(0x80, bytes(64)))),
)


def _certificate_bag(certificate: bytes) -> bytes:
    inner = handmade.sequence(handmade.oid(handmade.X509_CERTIFICATE), handmade.explicit(handmade.octets(certificate)))
    return handmade.bag(handmade.CERTIFICATE_BAG, inner)


def target(data: bytes) -> None:
    """Judge one input."""
    if not data:
        return
    logging.disable(logging.CRITICAL)
    file = WRAPPED[data[0] % len(WRAPPED)](data[1:])
    hosts = data[-40:].decode("latin-1") if data[0] & 0x80 else ""
    metadata, faults = parse_metadata({"HostHeader": hosts, "CertificateSubject": hosts[:20]})
    policy = POLICIES[data[0] >> 6 & 1]
    judgement = judge_pfx(file, metadata, [PASSWORD.encode()], policy=policy, now=NOW, earlier=faults)
    assert isinstance(judgement, Judgement)
    assert judgement.violations or judgement.accepted
    assert not (STRICT and any("an unexpected" in violation.detail for violation in judgement.violations))
    to_document(Judged.of(judgement))


def corpus() -> list[bytes]:
    """Files of every kind that is read, and what is inside them."""
    ca: Authority = ROOT.intermediate()
    issued = [ca.issue("a.example.com", key=kind) for kind in ("ec", "rsa")] + [
        self_signed("b.example.com", key="ed25519")
    ]
    files = [each.pfx(PASSWORD, iterations=10) for each in issued]
    files += [issued[0].pfx(PASSWORD, iterations=10, legacy=True), issued[0].pfx(None)]
    safes = [handmade.plain_safe(handmade.key_bag(issued[0].key), handmade.certificate_bag(issued[0].certificate))]
    files += [handmade.pfx(*safes, mac=handmade.pbmac1(safes, PASSWORD, iterations=10)), handmade.pfx(*safes)]
    contents = handmade.sequence(handmade.key_bag(issued[0].key), handmade.certificate_bag(issued[0].certificate))
    keys = [handmade.pkcs8(each.key) for each in issued]
    certificates = [each.certificate.public_bytes(Encoding.DER) for each in issued]
    shrouded = handmade.shrouded_key_bag(issued[0].key, PASSWORD)
    safe = [contents, shrouded]
    parts = [(0, files), (1, safe), (2, safe), (3, keys), (4, certificates), (5, certificates)]
    return [bytes([number | bits]) + data for number, some in parts for data in some for bits in (0, 0x40, 0x80)]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change what follows the first byte, and seldom that."""
    if not data or seed % 50 == 0:
        return bytes(atheris.Mutate(data, max_size))
    return data[:1] + mutated(data[1:], max_size - 1, seed)


if __name__ == "__main__":
    fuzz(target, corpus, custom_mutator=mutate)
