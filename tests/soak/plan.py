"""What is done in a soak, in which order: decided by the seed alone, so that a run can be had again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from shared.hostnames import DEFAULT_HOST

How = Literal["replaced", "taken away"]
KeyKind = Literal["ec", "rsa"]

ANCHOR, ANCHOR_HOST = "anchor.pfx", "anchor.soak.test"
"""The upload for the host that the load asks for: it is renewed and changed by hand, and never removed."""

TENANTS = 8
LABELS = ("www", "shop", "api")
MOST_UPLOADS = 30
"""More are not made, so that all bindings are proved within one cycle."""
_SEVERAL = 4
_OLDER = 0.15  # of uploads, the part that begins earlier than what is served, and loses
_DEFAULT = "default.pfx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Upload a new certificate.

    Attributes:
        name: The blob's name; it may be there already.
        hosts: What the certificate is for.
        key: Kind of its key.
        older: Whether it begins earlier than all that are not.
        named: Whether the metadata names the hosts, which are the certificate's own where it does not.
        default: Whether it is to answer for unknown names too.
    """

    name: str
    hosts: tuple[str, ...]
    key: KeyKind
    older: bool = False
    named: bool = False
    default: bool = False

    @property
    def claimed(self) -> tuple[str, ...]:
        """The hosts for which it is a candidate."""
        return (*self.hosts, DEFAULT_HOST) if self.default else self.hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Delete an upload."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """Change a host's certificate on one server behind the agent's back.

    Attributes:
        instance: Number of the instance.
        host: A host that uploads claim.
        how: What is done.
    """

    instance: int
    host: str
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartServer:
    """Have one instance's web server end and start again.

    Attributes:
        instance: Number of the instance.
        killed: Whether it ends as in a power failure.
    """

    instance: int
    killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KillAgent:
    """Kill one instance's agent and start it again."""

    instance: int


Action = Put | Remove | ByHand | RestartServer | KillAgent


class Plan:
    """The actions of one soak, one after the other.

    Args:
        seed: Decides all of them.
        instances: How many instances there are.
        defaults: Whether uploads may ask to answer for unknown names.
    """

    def __init__(self, seed: int, *, instances: int, defaults: bool) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret depends on it
        self._instances = instances
        self._defaults = defaults
        self._there: dict[str, Put] = {}
        self._numbers = count(1)
        self._weights: dict[Callable[[], Action | None], int] = {
            self._new: 6,
            self._renewal: 5,
            self._removal: 3,
            self._by_hand: 9,
            self._restart: 1,
            self._kill: 1,
        }

    def first(self) -> Put:
        """The upload that a soak begins with."""
        return self._noted(Put(name=ANCHOR, hosts=(ANCHOR_HOST,), key="ec"))

    def next(self) -> Action:
        """The next action."""
        while True:
            [make] = self._random.choices([*self._weights], [*self._weights.values()])
            if (action := make()) is not None:
                return action

    def pause_s(self) -> float:
        """How long to wait before it, in units of the mean."""
        return min(4.0, self._random.expovariate(1))

    def _new(self) -> Put | None:
        if len(self._there) >= MOST_UPLOADS:
            return None
        if self._defaults and self._random.random() < 1 / TENANTS:
            return self._noted(Put(name=_DEFAULT, hosts=("free.soak.test",), key=self._key(), default=True))
        apex = f"t{self._random.randrange(TENANTS)}.soak.test"
        exact = [apex, *(f"{label}.{apex}" for label in LABELS)]
        hosts = self._random.choice(
            (
                (self._random.choice(exact),),
                tuple(self._random.sample(exact, self._random.randint(2, _SEVERAL))),
                (f"*.{apex}", apex),
                (f"*.{apex}",),
            )
        )
        name = f"{apex.partition('.')[0]}-{next(self._numbers)}.pfx"
        older = self._random.random() < _OLDER
        return self._noted(Put(name=name, hosts=hosts, key=self._key(), older=older, named=self._coin()))

    def _renewal(self) -> Put | None:
        before = self._random.choice([*self._there.values()])
        hosts = before.hosts
        if len(hosts) > 1 and self._random.random() < _OLDER:
            hosts = hosts[1:]  # a renewal may be for fewer
        return self._noted(
            Put(name=before.name, hosts=hosts, key=self._key(), named=self._coin(), default=before.default)
        )

    def _removal(self) -> Remove | None:
        names = [name for name in self._there if name != ANCHOR]
        if not names:
            return None
        name = self._random.choice(names)
        del self._there[name]
        return Remove(name=name)

    def _by_hand(self) -> ByHand:
        hosts = sorted({host for put in self._there.values() for host in put.hosts})
        host = self._random.choice(hosts)
        how: How = "taken away" if self._random.random() < 1 / 3 and host != ANCHOR_HOST else "replaced"
        return ByHand(instance=self._random.randrange(self._instances), host=host, how=how)

    def _restart(self) -> RestartServer:
        return RestartServer(instance=self._random.randrange(self._instances), killed=self._coin())

    def _kill(self) -> KillAgent:
        return KillAgent(instance=self._random.randrange(self._instances))

    def _key(self) -> KeyKind:
        return "rsa" if self._coin() else "ec"

    def _coin(self) -> bool:
        return self._random.random() < 1 / 2

    def _noted(self, put: Put) -> Put:
        self._there[put.name] = put
        return put
