"""Claims and elections: who is served does not depend on the order in which anything arrived."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.binding import ANY_ROLE, BindingKey, BindingState, Claim, DesiredBinding
from shared.function.election import (
    MAX_CLAIMS,
    WITHDRAWN_KEEP,
    StaleRevisionError,
    TooManyClaimsError,
    elect,
    redeployed,
    with_claim,
    without_claim,
)
from tests.fakes.storage import START
from tests.rigs import rows

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
        assert elect([]) is None
        assert elect([replace(claim(), withdrawn_at=NOW)]) is None

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
        winner = elect(standing)
        assert row.source == (winner.source if winner else "")
        assert {each.source for each in row.claims if each.withdrawn_at is None} == {each.source for each in standing}


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
    def test_the_first_claim_makes_the_first_generation(self) -> None:
        row = entered(claim())
        assert (row.generation, row.state, row.changed_at, row.accepted_at) == (1, BindingState.PRESENT, NOW, NOW)

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
                assert row.generation == 1
                continue
            moved = served(before) != served(row)
            assert row.generation == before.generation + moved
            assert (row.changed_at, row.traceparent) == (
                (now, str(number)) if moved else (before.changed_at, before.traceparent)
            )

    def test_it_does_not_grow_when_only_the_etag_or_the_losers_change(self) -> None:
        row = entered(claim(revision=1, day=5))
        scrubbed = entered(claim(revision=2, day=5), claim("loser.pfx", day=1), row=row)
        assert scrubbed.source_etag == "etag 2"
        assert scrubbed.generation == 1

    def test_it_grows_when_the_site_changes(self) -> None:
        row = entered(claim(revision=1))
        assert entered(replace(claim(revision=2), site="shop"), row=row).generation == 2

    def test_redeploying_is_a_generation_of_its_own(self) -> None:
        row = entered(claim())
        again = redeployed(row, now=NOW + timedelta(hours=1), traceparent="t")
        assert (again.generation, again.changed_at, again.traceparent) == (2, NOW + timedelta(hours=1), "t")
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

    def test_an_endless_number_of_withdrawals_is_bounded(self) -> None:
        row = entered(claim("kept.pfx"))
        for number in range(MAX_CLAIMS + 20):
            row = without_claim(entered(claim(f"{number:04}.pfx"), row=row), KEY, f"{number:04}.pfx", 2, now=NOW)
        assert len(row.claims) <= MAX_CLAIMS + 1
        assert row.source == "kept.pfx"
