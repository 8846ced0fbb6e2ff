"""What a batch of changes needs of the certificate stores: imports and tags; opens no store itself."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from instance_agent.targets.base import Install, Remove
from instance_agent.targets.iis.plan import Bind
from instance_agent.targets.iis.tag import Tag, read_tag, tag_of, tags_by_thumbprint
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.iis.stores import StoredCertificate
    from shared.bundle.link import Link

log = logger(__name__)


class Needs:
    """What a batch wants, compared with what the stores have.

    Attributes:
        tags: Tags of the certificates of ours as they are before the batch.
        wanted: The changes as the planner takes them.
        missing: By thumbprint, the changes whose certificate must be imported.
        chains: The chains of all certificates that are to be served.
        retagged: Certificates of ours that serve further hosts from now on, with the tag that says so.
    """

    def __init__(self, changes: Sequence[BindingChange], listing: Sequence[StoredCertificate], store: str) -> None:
        self.tags = tags_by_thumbprint(listing)
        self.wanted: list[Bind | Remove] = []
        self.missing: dict[str, list[Install]] = defaultdict(list)
        self.chains: list[tuple[Link, ...]] = []
        self.retagged: list[tuple[StoredCertificate, Tag]] = []
        usable = {it.thumbprint: it for it in listing if it.store.lower() == store.lower() and it.has_private_key}
        present: dict[str, list[Install]] = defaultdict(list)
        for change in changes:
            if isinstance(change, Install):
                thumbprint = change.bundle.thumbprint_sha1
                self.chains.append(change.bundle.chain)
                (present if thumbprint in usable else self.missing)[thumbprint].append(change)
                self.wanted.append(Bind(host=change.host, port=change.port, thumbprint=thumbprint, site=change.site))
            else:
                self.wanted.append(change)
        for thumbprint, installs in present.items():
            self._use(usable[thumbprint], installs)

    def _use(self, certificate: StoredCertificate, installs: list[Install]) -> None:
        tag = read_tag(certificate.friendly_name)
        if tag is None:
            log.warning(
                "the certificate %s was in the store before certcast: it is bound for %s as it is, and neither it nor "
                "the binding will be removed by certcast",
                certificate.thumbprint,
                ", ".join(install.host for install in installs),
            )
            return
        wanted = tag_of(installs)
        if not tag.says(wanted):
            self.retagged.append((certificate, tag.widened(wanted)))
