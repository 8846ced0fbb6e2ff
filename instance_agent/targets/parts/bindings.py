"""What every target asks of a batch of changes and of its bindings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from instance_agent.targets.base import BindingChange


def installs_of(changes: Iterable[BindingChange], refusal: Callable[[Install], str | None]) -> list[Install]:
    """The installs of a batch, each of which the server can take.

    Args:
        changes: The batch.
        refusal: As `BindingTarget.refusal`.

    Raises:
        ApplyError: The server can never take one of them.
    """
    installs = [change for change in changes if isinstance(change, Install)]
    for install in installs:
        if (reason := refusal(install)) is not None:
            raise ApplyError(reason, culprit=install.key)
    return installs


def answering(bindings: Iterable[InstalledBinding], seen_fingerprint_sha256: str) -> str | None:
    """Which binding of ours has the certificate that was seen, for `BindingTarget.explain_mismatch`."""
    for binding in bindings:
        if binding.fingerprint_sha256 == seen_fingerprint_sha256:
            return f"the certificate bound for {binding.phrased} answered"
    return None


class Bindings(Mapping[Key, InstalledBinding]):
    """What is bound, by host and port. A set of all is kept beside it: hashing thousands for each look takes time."""

    def __init__(self, bindings: Iterable[InstalledBinding] = ()) -> None:
        self._by_key = {binding.key: binding for binding in bindings}
        self._all = set(self._by_key.values())

    def __getitem__(self, key: Key) -> InstalledBinding:
        return self._by_key[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def owned(self, keys: Collection[Key] | None) -> frozenset[InstalledBinding]:
        """The bindings for these keys, or every one, for `BindingTarget.current`."""
        if keys is None:
            return frozenset(self._all)
        return frozenset(self._by_key[key] for key in keys if key in self._by_key)

    def take_up(self, changes: Iterable[BindingChange]) -> None:
        """Hold what is bound once these changes were made."""
        for change in changes:
            if (old := self._by_key.pop(change.key, None)) is not None:
                self._all.discard(old)
            if isinstance(change, Install):
                self._by_key[change.key] = change.bound
                self._all.add(change.bound)
