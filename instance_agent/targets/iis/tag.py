"""The friendly name that marks a certificate as ours, and when a binding is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.bundle import BUNDLE_ID
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from instance_agent.targets.base import Install
    from instance_agent.targets.iis.bindings import Binding
    from instance_agent.targets.iis.stores import StoredCertificate

_PREFIX = "certcast:"
_PART = re.compile(r"^(?P<hosts>[^:;\s]+):(?P<generation>\d+)(?::(?P<content>[0-9a-f]{64}))?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a tag says of one host.

    Attributes:
        generation: The desired row's generation when the host was bound.
        content: Second half of the bundle's id, empty where it has none; the leaf's own hash is the first half.
    """

    generation: int
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """The friendly name `certcast:<host>:<generation>:<content hash>` of a certificate.

    A store keeps one friendly name per certificate, so one that serves several hosts names them all, as
    `certcast:<host>,<host>:<generation>:<hash>;<host>:…`: a binding that an administrator makes by hand with it, for
    another host, stays the administrator's.

    Attributes:
        marks: By host.
    """

    marks: Mapping[str, Mark] = field(default_factory=dict)

    def __str__(self) -> str:
        hosts: dict[Mark, list[str]] = {}
        for host, mark in self.marks.items():
            hosts.setdefault(mark, []).append(host)
        return _PREFIX + ";".join(
            ":".join([",".join(sorted(names)), str(mark.generation), *([mark.content] if mark.content else [])])
            for mark, names in hosts.items()
        )

    def widened(self, other: Tag) -> Tag:
        """The tag of one certificate that serves the hosts of both; of a host in both, the other's mark."""
        return Tag(marks={**self.marks, **other.marks})

    def says(self, other: Tag) -> bool:
        """Whether every host of the other is here with the same content."""
        return all(
            host in self.marks and self.marks[host].content == mark.content for host, mark in other.marks.items()
        )


def tag_of(installs: Iterable[Install]) -> Tag:
    """The tag of one certificate that these changes install."""
    marks = {}
    for install in installs:
        leaf, _, content = install.bundle_id.partition("/")
        known = BUNDLE_ID.match(install.bundle_id) and leaf == install.bundle.fingerprint_sha256
        marks[install.host] = Mark(generation=install.generation, content=content if known else "")
    return Tag(marks=marks)


def read_tag(friendly_name: str) -> Tag | None:
    """The tag in a friendly name, None where the certificate is not ours."""
    if not friendly_name.startswith(_PREFIX):
        return None
    marks: dict[str, Mark] = {}
    for part in friendly_name.removeprefix(_PREFIX).split(";"):
        match = _PART.match(part)
        if match is None:
            return None
        mark = Mark(generation=int(match["generation"]), content=match["content"] or "")
        marks.update(dict.fromkeys(match["hosts"].split(","), mark))
    return Tag(marks=marks)


def tags_by_thumbprint(certificates: Iterable[StoredCertificate]) -> dict[str, Tag]:
    """The tags of all certificates of ours, by thumbprint."""
    found: dict[str, Tag] = {}
    for certificate in certificates:
        tag = read_tag(certificate.friendly_name)
        if tag is not None:
            known = found.get(certificate.thumbprint)
            found[certificate.thumbprint] = tag if known is None else known.widened(tag)
    return found


def is_ours(binding: Binding, tags: Mapping[str, Tag]) -> bool:
    """Whether the binding is one of certcast's: with a certificate that is tagged for its very host, or as default."""
    if binding.protocol != "https" or binding.central:
        return False
    host, _ = binding.key
    if not host or not (binding.sni or host == DEFAULT_HOST):
        return False
    tag = tags.get(binding.thumbprint)
    return tag is not None and host in tag.marks
