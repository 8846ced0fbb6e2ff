"""Which bindings a batch did not change but can affect, and what one look at each should show; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.installing.sighting import Expectation
from instance_agent.targets.base import BindingChange, Install
from shared.hostnames import DEFAULT_HOST, wildcard_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from instance_agent.installing.sighting import Sighting
    from instance_agent.targets.base import HostPort, InstalledBinding, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A host that should be answered as before, or by the next binding now that its own was removed.

    Attributes:
        expected: What a look at it should show.
        causes: The changes that can affect it.
    """

    expected: Expectation
    causes: tuple[BindingChange, ...]

    @property
    def is_bound(self) -> bool:
        """Whether it has a binding of its own, which none of the changes is about."""
        return all(cause.key != self.expected.key for cause in self.causes)

    def taken_by(self, seen: Sighting) -> Install | None:
        """The change whose certificate is seen here in place of the right one; None where it is none of theirs."""
        if not self.is_harmed(seen):
            return None
        installs = (change for change in self.causes if isinstance(change, Install))
        return next((each for each in installs if each.bundle.fingerprint_sha256 == seen.fingerprint_sha256), None)

    def is_harmed(self, seen: Sighting) -> bool:
        """Whether a certificate is seen here that is not the right one."""
        return seen.fingerprint_sha256 not in {"", self.expected.fingerprint_sha256}


def neighbours_of(changes: Sequence[BindingChange], bound: Mapping[Key, InstalledBinding]) -> list[Neighbour]:
    """The neighbours of changes that were made.

    A wildcard, and the default even more, can take over what is below it; an exact host, what is above.

    Args:
        changes: At most one for each host and port.
        bound: What was bound before; where wildcards or the default changed, all of it.
    """
    changed = {change.key: change for change in changes}
    after = after_these(changes, bound)
    causes: dict[Key, list[BindingChange]] = {}
    for key, binding in after.items():
        causes[key] = [changed[above] for above in heirs_of(binding) if above in changed]
    for change in changes:
        for above in heirs_of(change):
            if above in after:
                causes[above].append(change)
    found = [
        Neighbour(expected=_answered_by(after[key], after[key]), causes=tuple(by))
        for key, by in causes.items()
        if by and key not in changed
    ]
    orphans = [(change, heir_of(change, after)) for change in changes if change.key not in after]
    found += [
        Neighbour(expected=_answered_by(change, heir), causes=(change,))
        for change, heir in orphans
        if heir is not None and change.key in bound
    ]
    # Of a binding that the server only half has, no certificate is known that should be seen.
    return [each for each in found if each.expected.fingerprint_sha256]


def heirs_of(binding: HostPort) -> tuple[Key, ...]:
    """What answers for a host where nothing is bound for it, the nearer first: its wildcard, then the default."""
    if binding.host == DEFAULT_HOST:
        return ()
    names = (wildcard_of(binding.host), DEFAULT_HOST)
    return tuple((name, binding.port) for name in names if name is not None)


def heir_of(binding: HostPort, bound: Mapping[Key, InstalledBinding]) -> InstalledBinding | None:
    """Which of the bindings answers for a host where nothing is bound for it; None for the server's own default."""
    return next((bound[key] for key in heirs_of(binding) if key in bound), None)


def after_these(
    changes: Iterable[BindingChange], before: Mapping[Key, InstalledBinding]
) -> dict[Key, InstalledBinding]:
    """What is bound once the changes are made."""
    after = dict(before)
    for change in changes:
        if isinstance(change, Install):
            after[change.key] = change.bound
        else:
            after.pop(change.key, None)
    return after


def _answered_by(asked: HostPort, binding: InstalledBinding) -> Expectation:
    """That a host is answered with a binding's certificate."""
    return Expectation(host=asked.host, port=asked.port, fingerprint_sha256=binding.fingerprint_sha256)
