"""Claims and elections: who is served does not depend on the order in which anything arrived."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.binding import ANY_ROLE, BindingKey, BindingState, Claim, DesiredBinding
from shared.function.election import (
    LEAD,
    MAX_CLAIMS,
    WITHDRAWN_KEEP,
    StaleRevisionError,
    TooManyClaimsError,
    elect,
    elected_again,
    next_generation,
    redeployed,
    with_claim,
    without_claim,
)
from tests.fakes.storage import START
from tests.rigs import rows
from tests.rigs.some import some

KEY = BindingKey(role=ANY_ROLE, host="a.example.com", port=443)
NOW = START


def claim(source: str = "a.pfx", revision: int = 1, *, day: int = 0, uploaded: int = 0, bundle: str = "") -> Claim:
    return rows.claim(
        source,
        not_before=START + timedelta(days=day),
        bundle=bundle or f"bundle of {source} from day {day}",
        revision=revision,
        source_etag=f"etag {revision}",
        uploaded_at=START + timedelta(seconds=uploaded),
    )


CLAIMS = st.builds(
    lambda source, day, uploaded: claim(source, day=day, uploaded=uploaded),
    st.sampled_from(["a.pfx", "b.pfx", "c.pfx", "d.pfx"]),
    st.integers(0, 2),
    st.integers(0, 2),
)


def entered(*claims: Claim, row: DesiredBinding | None = None) -> DesiredBinding:
    for each in claims:
        row = with_claim(row, KEY, each, now=NOW)
    assert row is not None
    return row


def served(row: DesiredBinding) -> tuple[object, ...]:
    return (row.state, row.source, row.bundle_id, row.fingerprint_sha256, row.thumbprint_sha1, row.not_after, row.site)


class TestElection:
    def test_the_certificate_that_is_valid_from_the_latest_date_wins(self) -> None:
        row = entered(claim("new.pfx", day=5), claim("old.pfx", day=1, uploaded=100))
        assert row.source == "new.pfx"

    def test_among_equally_new_certificates_the_latest_upload_wins(self) -> None:
        row = entered(claim("late.pfx", uploaded=9), claim("early.pfx", uploaded=1))
        assert row.source == "late.pfx"

    def test_no_claim_is_elected_where_none_stands(self) -> None:
        assert elect([], NOW) is None
        assert elect([replace(claim(), withdrawn_at=NOW)], NOW) is None

    @given(st.lists(CLAIMS, min_size=1, max_size=5, unique_by=lambda each: each.source))
    def test_the_order_of_arrival_makes_no_difference(self, claims: list[Claim]) -> None:
        found = [entered(*order) for order in permutations(claims)]
        assert len({served(row) for row in found}) == 1
        assert len({row.claims for row in found}) == 1
        assert found[0].source == max(claims, key=lambda each: (each.not_before, each.uploaded_at, each.source)).source

    @given(st.lists(st.tuples(CLAIMS, st.booleans()), min_size=1, max_size=8), st.randoms())
    def test_what_looks_at_one_upload_left_behind_is_decided_by_the_highest_revision(
        self, looks: list[tuple[Claim, bool]], random: object
    ) -> None:
        """Each look enters or withdraws; in any order, stale ones refused, the last look's word stands."""
        numbered = [(replace(each, revision=number), gone) for number, (each, gone) in enumerate(looks, start=1)]
        expected = {each.source: (each, gone) for each, gone in numbered}
        shuffled = list(numbered)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        row: DesiredBinding | None = None
        for each, gone in shuffled:
            try:
                if gone:
                    row = without_claim(row, KEY, each.source, each.revision, now=NOW)
                else:
                    row = with_claim(row, KEY, each, now=NOW)
            except StaleRevisionError:
                continue
        assert row is not None
        standing = [each for each, gone in expected.values() if not gone]
        winner = elect(standing, NOW)
        assert row.source == (winner.source if winner else "")
        assert {each.source for each in row.claims if each.withdrawn_at is None} == {each.source for each in standing}


ENDINGS = st.builds(
    lambda source, day, uploaded, minutes: replace(
        claim(source, day=day, uploaded=uploaded), not_after=NOW + timedelta(minutes=minutes)
    ),
    st.sampled_from(["a.pfx", "b.pfx", "c.pfx", "d.pfx"]),
    st.integers(-2, 0),
    st.integers(0, 1),
    st.sampled_from([-300, -1, 0, 5, 10, 11, 25, 40, 200_000]),
)
"""Claims of which some have ended, some end within minutes and some last."""
SETS = st.lists(ENDINGS, min_size=1, max_size=5, unique_by=lambda each: each.source)
TIMES = st.lists(st.integers(0, 300), min_size=1, max_size=6).map(
    lambda minutes: [NOW + timedelta(minutes=each) for each in sorted(minutes)]
)


def elected(claims: Iterable[Claim], now: datetime) -> Claim:
    return some(elect(claims, now))


class TestTime:
    """The winner depends on the set of claims and on the time, and on nothing else."""

    @pytest.mark.parametrize(
        ("left", "winner"),
        [
            (LEAD + timedelta(seconds=1), "new.pfx"),
            (LEAD, "old.pfx"),
            (timedelta(minutes=5), "old.pfx"),
            (-timedelta(days=3), "old.pfx"),
        ],
    )
    def test_what_ends_within_the_lead_time_loses_to_what_lasts(self, left: timedelta, winner: str) -> None:
        new = replace(claim("new.pfx", day=0), not_after=NOW + left)
        assert entered(new, claim("old.pfx", day=-60)).source == winner

    def test_of_what_has_ended_or_will_in_minutes_the_one_that_ends_last_wins(self) -> None:
        ends = {"a.pfx": -60, "b.pfx": 2, "c.pfx": 3, "d.pfx": 1}
        claims = [replace(claim(name), not_after=NOW + timedelta(minutes=each)) for name, each in ends.items()]
        assert elected(claims, NOW).source == "c.pfx"
        assert elected(claims, NOW + timedelta(days=9)).source == "c.pfx", "it is served on, as there is nothing else"

    @given(SETS, TIMES)
    def test_no_expired_one_is_elected_where_another_is_valid_nor_one_about_to_be_where_another_lasts(
        self, claims: list[Claim], times: list[datetime]
    ) -> None:
        for now in times:
            winner = elected(claims, now)
            assert winner.not_after >= now or all(each.not_after < now for each in claims)
            assert winner.not_after > now + LEAD or all(each.not_after <= now + LEAD for each in claims)

    @given(SETS, TIMES)
    def test_the_order_of_arrival_makes_no_difference_at_any_time(
        self, claims: list[Claim], times: list[datetime]
    ) -> None:
        for now in times:
            assert len({elected(order, now).source for order in permutations(claims)}) == 1

    @given(SETS, TIMES, st.randoms())
    def test_nor_does_when_each_arrived_or_was_in_place(
        self, claims: list[Claim], times: list[datetime], random: object
    ) -> None:
        arriving = list(claims)
        random.shuffle(arriving)  # type: ignore[attr-defined]
        row: DesiredBinding | None = None
        for number, each in enumerate(arriving):
            row = with_claim(row, KEY, each, now=times[min(number, len(times) - 1)])
        last = max(times)
        at_once: DesiredBinding | None = None
        for each in claims:
            at_once = with_claim(at_once, KEY, each, now=last)
        assert served(elected_again(some(row), now=last)) == served(some(at_once))

    @given(SETS, TIMES)
    def test_time_that_passes_in_steps_leads_where_it_leads_in_one(
        self, claims: list[Claim], times: list[datetime]
    ) -> None:
        begun = row = entered(*claims)
        for now in times:
            row = elected_again(row, now=now)
        assert served(row) == served(elected_again(begun, now=max(times)))
        assert row == elected_again(row, now=max(times)), "once more changes nothing"

    @given(SETS, TIMES)
    def test_what_lost_by_time_never_comes_back_while_the_set_is_the_same(
        self, claims: list[Claim], times: list[datetime]
    ) -> None:
        winners = [elected(claims, now).source for now in times]
        assert len([each for each, _ in groupby(winners)]) == len(set(winners))

    @given(SETS, ENDINGS, TIMES)
    def test_one_more_claim_wins_or_changes_nothing_and_withdrawing_a_loser_changes_nothing(
        self, claims: list[Claim], more: Claim, times: list[datetime]
    ) -> None:
        more = replace(more, source="more.pfx")
        for now in times:
            before, after = elected(claims, now), elected([*claims, more], now)
            assert after in {before, more}
            losers = [each for each in [*claims, more] if each != after]
            for loser in losers:
                without = [each for each in [*claims, more] if each != loser]
                assert elected([*without, replace(loser, withdrawn_at=now)], now) == after

    @given(SETS, st.integers(-500, 500))
    def test_when_it_is_makes_no_difference_if_all_dates_move_with_it(self, claims: list[Claim], days: int) -> None:
        by = timedelta(days=days)
        moved = [
            replace(
                each,
                not_before=each.not_before + by,
                not_after=each.not_after + by,
                uploaded_at=each.uploaded_at + by,
            )
            for each in claims
        ]
        assert elected(moved, NOW + by).source == elected(claims, NOW).source

    def test_electing_again_is_a_generation_of_its_own_only_where_another_wins(self) -> None:
        ends = replace(claim("new.pfx", day=0), not_after=NOW + timedelta(days=5))
        row = entered(ends, claim("old.pfx", day=-2))
        assert elected_again(row, now=NOW + timedelta(days=4)) == row
        then = NOW + timedelta(days=5) - LEAD
        again = elected_again(row, now=then, traceparent="t")
        generation = next_generation(row.generation, then)
        assert (again.source, again.generation, again.traceparent) == ("old.pfx", generation, "t")
        alone = entered(ends)
        assert elected_again(alone, now=NOW + timedelta(days=50)) == alone


class TestRevisions:
    def test_an_older_look_never_overwrites_a_newer_one(self) -> None:
        row = entered(claim(revision=2, bundle="new"))
        with pytest.raises(StaleRevisionError, match=r"a\.pfx was looked at again meanwhile, for a\.example\.com:443"):
            with_claim(row, KEY, claim(revision=1, bundle="old"), now=NOW)
        with pytest.raises(StaleRevisionError):
            without_claim(row, KEY, "a.pfx", 1, now=NOW)

    def test_the_same_look_may_be_written_twice(self) -> None:
        row = entered(claim(revision=2))
        assert with_claim(row, KEY, claim(revision=2), now=NOW + timedelta(hours=1)) == row

    def test_a_withdrawn_claim_is_not_brought_back_by_a_look_that_began_earlier(self) -> None:
        row = without_claim(entered(claim(revision=1)), KEY, "a.pfx", 3, now=NOW)
        assert row.state is BindingState.ABSENT
        with pytest.raises(StaleRevisionError):
            with_claim(row, KEY, claim(revision=2), now=NOW)
        assert entered(claim(revision=4), row=row).present

    @pytest.mark.parametrize("before", [None, entered(claim("other.pfx"))])
    def test_a_claim_that_was_never_entered_is_withdrawn_all_the_same(self, before: DesiredBinding | None) -> None:
        """A look that began earlier may still be on its way to enter it."""
        row = without_claim(before, KEY, "a.pfx", 2, now=NOW)
        with pytest.raises(StaleRevisionError):
            with_claim(row, KEY, claim(revision=1), now=NOW)
        assert row.source == (before.source if before else "")

    def test_withdrawing_twice_changes_nothing(self) -> None:
        once = without_claim(entered(claim(revision=1)), KEY, "a.pfx", 2, now=NOW)
        assert without_claim(once, KEY, "a.pfx", 2, now=NOW + timedelta(hours=1)) == once
        assert without_claim(once, KEY, "a.pfx", 5, now=NOW).generation == once.generation

    def test_a_withdrawn_claim_is_forgotten_after_a_day(self) -> None:
        gone = without_claim(entered(claim(revision=1)), KEY, "a.pfx", 2, now=NOW)
        later = with_claim(gone, KEY, claim("b.pfx"), now=NOW + WITHDRAWN_KEEP - timedelta(seconds=1))
        assert later.claim_of("a.pfx") is not None
        much_later = with_claim(gone, KEY, claim("b.pfx"), now=NOW + WITHDRAWN_KEEP)
        assert much_later.claim_of("a.pfx") is None


class TestGenerations:
    def test_the_first_claim_makes_one_that_no_row_had_before(self) -> None:
        row = entered(claim())
        first = next_generation(0, NOW)
        assert (row.generation, row.state, row.changed_at, row.accepted_at) == (first, BindingState.PRESENT, NOW, NOW)
        assert next_generation(first, NOW) == first + 1
        made_again = with_claim(None, KEY, claim(), now=NOW + timedelta(minutes=1))
        assert made_again.generation > first + 1

    def test_the_last_one_that_a_table_can_hold_is_far_away(self) -> None:
        assert next_generation(0, datetime(2090, 1, 1, tzinfo=UTC)) < 2**31
        assert next_generation(7, datetime(2020, 1, 1, tzinfo=UTC)) == 8  # a clock that is wrong

    @given(st.lists(st.tuples(CLAIMS, st.booleans()), min_size=1, max_size=12))
    def test_it_grows_exactly_when_what_is_served_changes(self, steps: list[tuple[Claim, bool]]) -> None:
        row: DesiredBinding | None = None
        for number, (each, gone) in enumerate(steps, start=1):
            before = row
            now = NOW + timedelta(minutes=number)
            if gone:
                row = without_claim(row, KEY, each.source, number, now=now, traceparent=str(number))
            else:
                row = with_claim(row, KEY, replace(each, revision=number), now=now, traceparent=str(number))
            if before is None:
                assert row.generation == next_generation(0, now)
                continue
            moved = served(before) != served(row)
            assert row.generation == (next_generation(before.generation, now) if moved else before.generation)
            assert (row.changed_at, row.traceparent) == (
                (now, str(number)) if moved else (before.changed_at, before.traceparent)
            )

    def test_it_does_not_grow_when_only_the_etag_or_the_losers_change(self) -> None:
        row = entered(claim(revision=1, day=5))
        scrubbed = entered(claim(revision=2, day=5), claim("loser.pfx", day=1), row=row)
        assert scrubbed.source_etag == "etag 2"
        assert scrubbed.generation == row.generation

    def test_it_grows_when_the_site_changes(self) -> None:
        row = entered(claim(revision=1))
        assert entered(replace(claim(revision=2), site="shop"), row=row).generation == row.generation + 1

    def test_redeploying_is_a_generation_of_its_own(self) -> None:
        row = entered(claim())
        again = redeployed(row, now=NOW + timedelta(hours=1), traceparent="t")
        assert (again.changed_at, again.traceparent) == (NOW + timedelta(hours=1), "t")
        assert again.generation == next_generation(row.generation, again.changed_at)
        assert served(again) == served(row)

    def test_an_upload_that_keeps_its_place_keeps_the_time_it_was_accepted(self) -> None:
        later = NOW + timedelta(days=1)
        row = with_claim(entered(claim(revision=1)), KEY, claim(revision=2, bundle="renewed"), now=later)
        assert (row.accepted_at, row.changed_at) == (NOW, later)


class TestBounds:
    def test_a_claim_too_many_is_refused_and_none_is_forgotten_for_it(self) -> None:
        row = entered(*(claim(f"{number:04}.pfx", day=number % 50) for number in range(MAX_CLAIMS)))
        with pytest.raises(TooManyClaimsError, match="200 uploads claim"):
            entered(claim("one more.pfx", day=60), row=row)
        assert len(row.claims) == MAX_CLAIMS
        again = entered(replace(claim("0000.pfx", day=61), revision=2), row=row)
        assert (again.source, len(again.claims)) == ("0000.pfx", MAX_CLAIMS)

    def test_a_claim_that_has_expired_makes_room(self) -> None:
        row = entered(
            *(claim(f"{number:04}.pfx", day=-200 if number < 3 else number % 50) for number in range(MAX_CLAIMS))
        )
        row = entered(claim("new.pfx", day=60), row=row)
        assert row.source == "new.pfx"
        assert len(row.claims) == MAX_CLAIMS
        assert all(row.claim_of(f"{number:04}.pfx") for number in range(3, MAX_CLAIMS))

    def test_of_expired_ones_beyond_the_bound_those_are_forgotten_that_would_be_elected_last(self) -> None:
        row = entered(*(claim(f"{number:04}.pfx", day=-300 - number) for number in range(MAX_CLAIMS + 5)))
        assert (row.source, len(row.claims)) == ("0000.pfx", MAX_CLAIMS)

    def test_an_endless_number_of_withdrawals_is_bounded(self) -> None:
        row = entered(claim("kept.pfx"))
        for number in range(MAX_CLAIMS + 20):
            row = without_claim(entered(claim(f"{number:04}.pfx"), row=row), KEY, f"{number:04}.pfx", 2, now=NOW)
        assert len(row.claims) <= MAX_CLAIMS + 1
        assert row.source == "kept.pfx"
