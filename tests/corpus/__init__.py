"""Inputs of every kind that people upload, made at test time, each with the verdict that is right by hand.

A family is a module with `ROWS`; `test_NAME.py` beside it holds all of a family to its verdicts in one test, since its
inputs share what they are made of. `python -m tests.corpus` writes the table of docs/verdicts.md anew.
"""
