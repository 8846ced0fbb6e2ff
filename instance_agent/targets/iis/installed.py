"""Which bindings of IIS are certcast's, and with which certificate they count; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instance_agent.targets.base import InstalledBinding, Key
from instance_agent.targets.iis.tag import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from instance_agent.targets.iis.bindings import Binding, Site
    from instance_agent.targets.iis.tag import Tag


def installed_bindings(
    sites: Sequence[Site],
    *,
    tags: Mapping[str, Tag],
    fingerprints: Mapping[str, str],
    served: Mapping[str, str],
    owned: Collection[Key],
    unsettled: Collection[str],
    site_name: Callable[[str], str],
) -> dict[Key, InstalledBinding]:
    """The bindings whose certificate is tagged for them, and those that we bound and others gave another certificate.

    A binding counts with its certificate where IIS and http.sys agree on it and the settings that only http.sys holds
    are as they were; else as one of whose certificate nothing is known.

    Args:
        sites: With the bindings asked about.
        tags: Tags of the certificates of ours, by thumbprint.
        fingerprints: SHA-256 of these certificates, by thumbprint.
        served: Thumbprint by endpoint as http.sys says; where it says nothing, IIS is believed.
        owned: Hosts and ports that this agent bound.
        unsettled: Endpoints whose settings are still to be put back.
        site_name: A site's name as uploads give it.
    """
    found: dict[Key, InstalledBinding] = {}
    for site in sites:
        for binding in site.bindings:
            ours = is_ours(binding, tags) and binding.thumbprint in fingerprints
            if not ours and binding.key not in owned:
                continue
            agreed = served.get(binding.endpoint, binding.thumbprint) == binding.thumbprint
            sound = ours and agreed and binding.endpoint not in unsettled
            fingerprint = fingerprints[binding.thumbprint] if sound else ""
            installed = InstalledBinding(
                host=binding.key[0],
                port=binding.port,
                bundle_id=_bundle_id(binding, tags, fingerprint),
                fingerprint_sha256=fingerprint,
                site=site_name(site.name),
                site_in_any_case=True,
            )
            found.setdefault(installed.key, installed)
    return found


def _bundle_id(binding: Binding, tags: Mapping[str, Tag], fingerprint: str) -> str:
    content = tags[binding.thumbprint].marks[binding.key[0]].content if fingerprint else ""
    return f"{fingerprint}/{content}" if content else ""
