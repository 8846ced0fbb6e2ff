"""Writes the corpus's table into docs/verdicts.md."""

from tests.corpus.table import write

write()
