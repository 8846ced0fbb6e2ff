"""The exact hosts under each wildcard, by the types of their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.hostnames import wildcard_of

if TYPE_CHECKING:
    from instance_agent.targets.base import Key


class Neighbours:
    """Key types of what is bound, and the exact hosts by the wildcard that covers them."""

    def __init__(self) -> None:
        self._types: dict[Key, str] = {}
        self._under: dict[Key, dict[str, set[str]]] = {}

    def type_of(self, key: Key) -> str | None:
        """The key type of a binding; None where none is known."""
        return self._types.get(key)

    def put(self, key: Key, key_type: str) -> None:
        """Take a binding up, in place of what was there."""
        self.drop(key)
        self._types[key] = key_type
        if (wildcard := wildcard_of(key[0])) is not None:
            self._under.setdefault((wildcard, key[1]), {}).setdefault(key_type, set()).add(key[0])

    def drop(self, key: Key) -> None:
        """Take a binding out; one that is not there is fine."""
        key_type, wildcard = self._types.pop(key, None), wildcard_of(key[0])
        if key_type is not None and wildcard is not None:
            self._under[wildcard, key[1]][key_type].discard(key[0])

    def unlike(self, wildcard: Key, key_type: str) -> frozenset[str]:
        """The exact hosts under a wildcard whose key type is another than this."""
        under = self._under.get(wildcard, {})
        return frozenset().union(*(hosts for their_type, hosts in under.items() if their_type != key_type))
