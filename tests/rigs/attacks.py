"""What an uploader who means harm puts into the container, made from nothing before anything is measured."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.rigs import handmade_pfx as handmade
from tests.rigs.certificates import Issued, authority, self_signed

PASSWORD = "mallory"
USUAL_PACE = 2.5
"""Uploads in the time that an undisturbed one takes until it is said to be live.

At many times that, whoever uploads, the local cloud on a small machine is busy with nothing else.
"""

_CA = authority("Mallory's CA")
_ED25519 = "1.3.101.112"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileUpload:
    """One upload.

    Attributes:
        name: The blob's.
        content: The file.
        metadata: All of it.
    """

    name: str
    content: bytes = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Uploads that are meant to harm others.

    Attributes:
        uploads: In the order in which they are made.
        pace: How many in the time that an undisturbed upload takes until it is said to be live.
    """

    uploads: tuple[HostileUpload, ...]
    pace: float = USUAL_PACE


def _uploads(what: str, files: Iterable[bytes]) -> tuple[HostileUpload, ...]:
    """One upload for each file, under names that no other attack has."""
    return tuple(_upload(f"mallory/{what}/{number}.pfx", file) for number, file in enumerate(files))


def _upload(name: str, file: bytes, **metadata: str) -> HostileUpload:
    return HostileUpload(name=name, content=file, metadata={"CertificatePassword": PASSWORD, **metadata})


def _sound(*hosts: str, subject: str | None = None) -> bytes:
    """A sound file that costs little to open."""
    return _CA.issue(*hosts, subject=subject).pfx(PASSWORD, iterations=1)


def key_of_a_wrong_length() -> bytes:
    """A file with an Ed25519 key of 31 octets, at which `cryptography` raises an InternalError."""
    key = handmade.octets(handmade.octets(bytes(31)))
    pkcs8 = handmade.sequence(handmade.integer(0), handmade.sequence(handmade.oid(_ED25519)), key)
    certificate = handmade.certificate_bag(self_signed("mallory.test", key="ed25519").certificate)
    return handmade.pfx(handmade.plain_safe(handmade.bag(handmade.KEY_BAG, pkcs8), certificate))


def dear_file(iterations: int) -> bytes:
    """A tiny file whose one layer asks for so many iterations of PKCS#12's own derivation, which 3DES does thrice."""
    parameters = handmade.sequence(handmade.octets(b"saltsalt"), handmade.integer(iterations))
    algorithm = handmade.sequence(handmade.oid(handmade.PBE_3DES), parameters)
    return handmade.pfx(handmade.safe_of(algorithm, handmade.tlv(0x80, bytes(64))))


def _wrong_keys() -> Attack:
    # Each name is written again and again, so that each is judged again and again.
    file = key_of_a_wrong_length()
    return Attack(uploads=tuple(_upload(f"mallory/wrong-key/{number % 5}.pfx", file) for number in range(20)))


def _dear_files(iterations: int) -> Attack:
    return Attack(uploads=_uploads(f"dear-{iterations}", (dear_file(iterations + number) for number in range(20))))


def _many_for_one_host(count: int, pace: float) -> Attack:
    files = (_sound(f"one-of-{count}.mallory.test") for _ in range(count))
    return Attack(uploads=_uploads(f"one-of-{count}", files), pace=pace)


def _long_subjects() -> Attack:
    # With a backslash before each comma, as it is written, a subject is twice as long. The shorter one is accepted.
    subjects = ["O=" + "\\," * count for count in (490_000, 60_000)]
    files = (_sound(f"subject-{number}.mallory.test", subject=subjects[number % 2]) for number in range(24))
    return Attack(uploads=_uploads("subject", files))


def long_chain() -> Issued:
    """A certificate that is sound, with a chain that no TLS client takes."""
    return _CA.intermediate("O=" + "x" * 30_000).intermediate("O=" + "y" * 30_000).issue("chain.mallory.test")


def _long_chains() -> Attack:
    return Attack(
        uploads=_uploads("chain", (long_chain().pfx(PASSWORD, iterations=1) for _ in range(10))), pace=USUAL_PACE / 2
    )


def _many_ports() -> Attack:
    return Attack(
        uploads=tuple(
            _upload(f"mallory/port/{port}.pfx", _sound(f"port-{port}.mallory.test"), PortNumber=str(port))
            for port in range(2000, 2240, 10)
        )
    )


def _others_hosts() -> Attack:
    """Certificates for a neighbour's hosts, later than its own, from a prefix to which a policy gives other hosts."""
    later = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    files = [_CA.issue(f"others-hosts-{number % 5}.neighbour.test", not_before=later) for number in range(20)]
    return Attack(uploads=_uploads("others", (each.pfx(PASSWORD, iterations=1) for each in files)))


_HOSTILE_NAMES = (
    "mallory\r\n2026-01-01 INFO shared.function.claiming: upload neighbour.pfx: removed.pfx",
    "mallory\x1b[2J\x1b]0;gone\x07.pfx",
    "mallory\u202exfp.\u2066txt.pfx",
    "mallory\u2028\u2029\x85.pfx",
    "mallory/%2e%2e/%2e%2e/bundles/x.pfx",
    "mallory/..%2f..%2fbundles%2fx.pfx",
    "mallory?comp=metadata&x=.pfx",
    "mallory#fragment.pfx",
    "mallory" + "\u0301" * 300 + ".pfx",
    "m" * 1000 + ".pfx",
)


def _hostile_names() -> Attack:
    """Sound certificates under names that forge a log's lines, turn text round, or look like a way to another blob."""
    uploads = (_upload(name, _sound(f"name-{number}.mallory.test")) for number, name in enumerate(_HOSTILE_NAMES))
    return Attack(uploads=tuple(uploads), pace=USUAL_PACE / 2)


ATTACKS: Mapping[str, Callable[[], Attack]] = {
    "24-long-subjects": _long_subjects,
    "keys-of-a-wrong-length": _wrong_keys,
    "twenty-dear-files": lambda: _dear_files(4_900_000),
    "long-chains": _long_chains,
    "24-ports": _many_ports,
    "60-for-one-host": lambda: _many_for_one_host(60, 2 * USUAL_PACE),
    "201-for-one-host": lambda: _many_for_one_host(201, 2 * USUAL_PACE),
    "hostile-names": _hostile_names,
    "others-hosts": _others_hosts,
    "twenty-files-just-cheap-enough": lambda: _dear_files(600_000),
}
"""By what an uploader does. They follow each other on one local cloud for each settings, and two come last on theirs:
after the hostile names Azurite lists no blobs any more, and files that are just cheap enough are judged for a minute.
"""

_PREFIXES = [{"prefix": f"{who}/", "hosts": [f"*.{who}.test"]} for who in ("mallory", "neighbour")]
_POLICY: Mapping[str, str] = {"CERTCAST_POLICY": json.dumps({"version": 1, "uploads": _PREFIXES})}
USUAL_SETTINGS: Mapping[str, str] = {}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "others-hosts": _POLICY,  # which is about a policy
    "twenty-files-just-cheap-enough": _POLICY,  # to which it makes no difference
}
"""Settings of the Function at an attack, beside the usual ones."""
