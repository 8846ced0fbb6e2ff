"""Which of two desired rows for one host and port an instance obeys."""

from datetime import timedelta
from itertools import permutations

import pytest

from shared.binding import ANY_ROLE, BindingState, DesiredBinding, concerns, effective, roles_of
from tests.fakes.storage import START


@pytest.mark.parametrize(
    ("role", "instance_role", "concerned"),
    [
        ("web", "web", True),
        (ANY_ROLE, "web", True),
        (ANY_ROLE, ANY_ROLE, True),
        ("api", "web", False),
        ("web", ANY_ROLE, False),
        ("Web", "web", False),
    ],
)
def test_a_row_concerns_instances_of_its_role_and_one_for_every_role_all(
    role: str, instance_role: str, *, concerned: bool
) -> None:
    assert concerns(role, instance_role) is concerned
    assert (role in roles_of(instance_role)) is concerned


class TestEffective:
    @staticmethod
    def row(role: str, *, present: bool, minute: int = 0) -> DesiredBinding:
        state = BindingState.PRESENT if present else BindingState.ABSENT
        at = START + timedelta(minutes=minute)
        return DesiredBinding(role=role, host="a.example.com", port=443, state=state, generation=1, changed_at=at)

    def test_a_row_of_the_instances_own_role_overrides_the_one_for_all(self) -> None:
        web, everyone = self.row("web", present=True), self.row(ANY_ROLE, present=True)
        for order in permutations([web, everyone]):
            assert effective(order, "web") == web
            assert effective(order, "api") == everyone
            assert effective(order, ANY_ROLE) == everyone

    def test_a_removed_row_of_its_own_role_gives_way_to_the_one_for_all(self) -> None:
        web, everyone = self.row("web", present=False), self.row(ANY_ROLE, present=True)
        for order in permutations([web, everyone]):
            assert effective(order, "web") == everyone

    def test_of_two_removed_rows_the_one_removed_last_tells_what_was_served(self) -> None:
        first, last = self.row("web", present=False, minute=1), self.row(ANY_ROLE, present=False, minute=2)
        for order in permutations([first, last]):
            assert effective(order, "web") == last
        first, last = self.row(ANY_ROLE, present=False, minute=1), self.row("web", present=False, minute=2)
        for order in permutations([first, last]):
            assert effective(order, "web") == last

    def test_rows_of_other_roles_do_not_concern_an_instance(self) -> None:
        assert effective([self.row("web", present=True)], "api") is None
        assert effective([], "web") is None
