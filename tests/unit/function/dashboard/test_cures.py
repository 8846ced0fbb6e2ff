"""The cures that the dashboard shows are those of docs/verdicts.md."""

from shared.function.dashboard.cures import PATH, advice_on, cure_of, pieces
from shared.verdict import VerdictCode, WarningCode
from tests.cures import written
from tests.rigs.deployment import ROOT


def test_the_data_is_what_the_page_says() -> None:
    assert (ROOT / PATH).read_text("utf-8") == written(), "run `python -m tests.cures`"


def test_each_code_has_a_meaning_and_a_cure() -> None:
    codes = [*VerdictCode, *WarningCode]
    assert codes
    assert not [code for code in codes if not (cure_of(code.value)["means"] and cure_of(code.value)["do"])]


def test_what_a_newer_version_says_has_no_cure_and_no_advice() -> None:
    assert cure_of("of_a_newer_version") == {"means": [], "do": []}
    assert advice_on("of_a_newer_version")["do"] == ""


def test_what_stands_between_backticks_is_code() -> None:
    assert pieces("set `Role`, or `*`") == [(False, "set "), (True, "Role"), (False, ", or "), (True, "*")]
    assert not [block for block in cure_of("weak_signature")["do"] if "](" in str(block) or "**" in str(block)]
