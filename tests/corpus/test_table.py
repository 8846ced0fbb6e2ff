from collections import Counter

from shared.verdict import VerdictCode, WarningCode
from tests.corpus.table import FAMILIES, table, written

ROWS = [row for rows in FAMILIES.values() for row in rows]


def test_the_page_has_the_table_of_the_corpus() -> None:
    assert written() == table(), "write it again: python -m tests.corpus"


def test_there_are_hundreds_of_inputs_each_named_once() -> None:
    names = Counter((title, row.name) for title, rows in FAMILIES.items() for row in rows)
    assert len(names) >= 300
    assert not [name for name, count in names.items() if count > 1]


def test_the_verdicts_are_words_that_exist() -> None:
    assert {code for row in ROWS for code in row.verdicts} <= set(VerdictCode)
    assert {code for row in ROWS for code in row.warnings} <= set(WarningCode)


def test_whatever_is_refused_in_opening_says_why() -> None:
    vague = [row.name for row in ROWS if row.verdicts == ("unreadable_bundle",) and not any(row.says)]
    assert len(vague) < 5, vague
