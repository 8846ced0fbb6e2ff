"""The order and the pace of looks at what is bound."""

import itertools
from collections import Counter, deque
from datetime import timedelta

import pytest

from instance_agent.memory import Attempt
from instance_agent.proof.proofs import DOUBT_WAITS, HURRY_EVERY_S, MOST_LOOKS_PER_S, Proofs, too_many
from instance_agent.targets.base import Key
from shared.binding import ANY_ROLE
from shared.messages import BindingReport, InstallOutcome
from tests.fakes.storage import START, FakeClock
from tests.rigs.some import some

CYCLE_S = 3600


def key(number: int) -> Key:
    return (f"h{number}.example.com", 443)


class Looks:
    """Looks made as the agent makes them, each of which shows what is bound unless it is told otherwise."""

    def __init__(self, *, cycle_s: float = CYCLE_S) -> None:
        self.clock = FakeClock()
        self.proofs = Proofs(self.clock)
        self.cycle_s = cycle_s
        self.unseen: set[Key] = set()
        self.made: list[tuple[float, Key]] = []

    @property
    def now_s(self) -> float:
        return (self.clock() - START).total_seconds()

    def enter(self, *keys: Key, outcome: InstallOutcome = InstallOutcome.LIVE, seen: str = "ab" * 32) -> None:
        reports = [
            BindingReport(
                role=ANY_ROLE,
                host=host,
                port=port,
                generation=1,
                source="a.pfx",
                outcome=outcome,
                finished_at=self.clock(),
                fingerprint_sha256=seen,
            )
            for host, port in keys
        ]
        self.proofs.enter(Attempt(report=report, not_after=START + timedelta(days=90)) for report in reports)

    def let_pass(self, seconds: float) -> None:
        until = self.now_s + seconds
        while (wait_s := self.proofs.wait_s(self.cycle_s)) is not None and self.now_s + wait_s < until:
            self.clock.advance(wait_s)
            taken = self.proofs.take()
            assert taken is not None
            self.made.append((self.now_s, taken))
            if taken in self.unseen:
                self.proofs.doubted(taken)
            else:
                self.proofs.seen(taken)
        self.clock.advance(max(0.0, until - self.now_s))

    def at(self, wanted: Key) -> list[float]:
        return [at for at, looked_at in self.made if looked_at == wanted]

    def most_in_a_second(self) -> int:
        window: deque[float] = deque()
        most = 0
        for at, _ in self.made:
            window.append(at)
            while at - window[0] >= 0.999:
                window.popleft()
            most = max(most, len(window))
        return most


@pytest.mark.parametrize("number", [1, 2, 7, 100, 2000])
def test_each_binding_is_looked_at_within_each_cycle_evenly_spread(number: int) -> None:
    looks = Looks()
    looks.enter(*map(key, range(number)))
    looks.let_pass(3 * CYCLE_S)
    for each in map(key, range(number)):
        times = [0.0, *looks.at(each), 3 * CYCLE_S]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= CYCLE_S
    assert len(looks.made) <= 4 * number
    spaces = [later - earlier for (earlier, _), (later, _) in zip(looks.made, looks.made[1:], strict=False)]
    assert not spaces or max(spaces) - min(spaces) < 1


def test_what_comes_and_goes_keeps_no_other_from_its_look_within_the_cycle() -> None:
    looks = Looks()
    stays = [key(number) for number in range(20)]
    looks.enter(*stays)
    for hour in range(10):
        come = [(f"{hour}-{number}.example.net", 443) for number in range(300 if hour % 2 else 5)]
        looks.let_pass(CYCLE_S * 0.45)
        looks.enter(*come)
        looks.let_pass(CYCLE_S * 0.45)
        looks.enter(*come, outcome=InstallOutcome.REMOVED, seen="")
    for each in stays:
        times = [0.0, *looks.at(each)]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= CYCLE_S
    assert looks.proofs.watched == len(stays)
    assert looks.most_in_a_second() <= MOST_LOOKS_PER_S


def test_more_than_a_cycle_has_room_for_are_looked_at_at_the_highest_pace_in_turn() -> None:
    looks = Looks(cycle_s=60)
    looks.enter(*map(key, range(1000)))
    assert too_many(1000, 60)
    assert not too_many(300, 60)
    looks.let_pass(400)
    assert looks.most_in_a_second() == MOST_LOOKS_PER_S
    counts = Counter(looked_at for _, looked_at in looks.made)
    assert len(counts) == 1000
    assert max(counts.values()) == 2


def test_an_installation_that_was_seen_is_a_look() -> None:
    looks = Looks()
    looks.enter(key(0), key(1))
    for _ in range(10):
        looks.let_pass(CYCLE_S / 4)
        looks.enter(key(1))
    assert looks.at(key(1)) == []
    assert looks.proofs.known[key(1)].at == looks.clock().timestamp()


def test_what_is_removed_or_fails_or_has_no_listener_is_not_looked_at() -> None:
    looks = Looks()
    looks.enter(*map(key, range(3)))
    looks.enter(key(0), outcome=InstallOutcome.REMOVED, seen="")
    looks.enter(key(1), outcome=InstallOutcome.FAILED, seen="")
    looks.enter(key(2), seen="")
    assert looks.proofs.watched == 0
    assert looks.proofs.wait_s(CYCLE_S) is None
    assert looks.proofs.take() is None
    known = looks.proofs.known
    assert set(known) == {key(1), key(2)}, "of what fails, the last proof is known still"
    assert known[key(1)].at == START.timestamp()
    assert known[key(2)].at is None
    assert known[key(2)].not_after == START + timedelta(days=90)


def test_what_was_not_seen_is_looked_at_again_soon_and_holds_up_no_other() -> None:
    looks = Looks(cycle_s=100)
    looks.enter(*map(key, range(10)))
    looks.unseen = {key(0)}
    looks.let_pass(100)
    first, *again = looks.at(key(0))
    waits = [later - earlier for earlier, later in zip([first, *again], again, strict=False)]
    assert waits[:3] == [pytest.approx(DOUBT_WAITS[number], abs=0.3) for number in range(3)]
    for number in range(1, 10):
        assert len(looks.at(key(number))) >= 1
    looks.unseen = set()
    looks.let_pass(100)
    looks.made.clear()
    looks.let_pass(100)
    assert 1 <= len(looks.at(key(0))) <= 2


def test_in_a_hurry_everything_is_looked_at_once_at_the_highest_pace_and_that_seldom() -> None:
    looks = Looks()
    looks.enter(*map(key, range(100)))
    looks.let_pass(60)
    looks.made.clear()
    for _ in range(10):
        looks.proofs.hurry()
        looks.let_pass(HURRY_EVERY_S / 20)
    assert {looked_at for _, looked_at in looks.made} == set(map(key, range(100)))
    assert looks.most_in_a_second() == MOST_LOOKS_PER_S
    assert len(looks.made) <= 115


def test_a_second_look_that_comes_to_nothing_keeps_no_other_from_its_look() -> None:
    """It showed another certificate, say, and the row is gone or cannot be read."""
    looks = Looks(cycle_s=100)
    looks.enter(key(0), key(1))
    looks.proofs.doubted(key(0))
    taken = Counter[Key]()
    while looks.now_s < 100:
        looks.clock.advance(some(looks.proofs.wait_s(100)))
        each = some(looks.proofs.take())
        taken[each] += 1
    assert taken[key(0)] <= 10
    assert taken[key(1)] >= 1


def test_a_look_that_could_not_be_finished_is_made_again_soon_and_is_no_sign_that_nothing_is_served() -> None:
    looks = Looks()
    looks.enter(*map(key, range(10)))
    looks.proofs.unfinished(key(0))
    looks.let_pass(DOUBT_WAITS[0] + 1)
    assert len(looks.at(key(0))) == 1
    looks.proofs.unfinished(key(0))
    looks.clock.advance(1000)
    looks.proofs.unfinished(key(0))
    assert looks.proofs.doubted(key(0)) == 0.0
    looks.clock.advance(10)
    looks.proofs.unfinished(key(0))
    assert looks.proofs.doubted(key(0)) == 10.0
