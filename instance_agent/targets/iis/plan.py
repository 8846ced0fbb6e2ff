"""The values around the IIS planner: what is wanted, on what it depends, and the plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from instance_agent.targets.base import HostPort, Key
from instance_agent.targets.iis.bindings import SslFlags
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.gateway import Operation
from instance_agent.targets.iis.tag import Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind(HostPort):
    """Serve the certificate of an install, as IIS names it.

    Attributes:
        thumbprint: Upper-case hex SHA-1 of the certificate.
        site: Site named by the upload; None is the first web site.
    """

    thumbprint: str
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the plan depends on besides sites and changes.

    Attributes:
        store: LocalMachine store that new certificates are in.
        tags: Tags of the certificates of ours, by thumbprint.
        fresh: Thumbprints that have just been put into the store; a binding that already names one is written again,
            since IIS may have looked for it in vain.
        catch_all: What to do about bindings without SNI.
        iis_major: IIS's major version.
        new_flags: Flags of new bindings besides SNI.
        owned: Hosts and ports that this agent bound; it removes their bindings though others gave them a certificate.
        role_instance: Name of the cloud role instance, which Cloud Services puts before the site's name.
    """

    store: str
    tags: Mapping[str, Tag] = field(default_factory=dict)
    fresh: Collection[str] = frozenset()
    catch_all: CatchAllPolicy = field(default_factory=CatchAllPolicy)
    iis_major: int = 10
    new_flags: SslFlags = SslFlags.NONE
    owned: Collection[Key] = frozenset()
    role_instance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Why one change cannot be made.

    Attributes:
        key: Host and port of the change.
        reason: One sentence that names what stands in the way and what to do.
        passing: Whether it may go away by itself, as when a site is still being made.
    """

    key: Key
    reason: str
    passing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Attributes:
        operations: In the order in which to do them; none when IIS is as wanted.
        conflicts: Changes that cannot be made; with any, nothing is to be done.
        notices: Sentences for the log.
    """

    operations: tuple[Operation, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    notices: tuple[str, ...] = ()
