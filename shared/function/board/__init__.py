"""The fleet as people look at it: all uploads as they are told now, and all instances, in memory while somebody looks.

A page of ten thousand uploads cannot read ten thousand rows. What was read once is kept, and brought up to date by the
rows that were written since; rows that are gone, which no such reading shows, are found by reading all again, a portion
every few seconds.
"""

from shared.function.board.board import Board
from shared.function.board.view import View

__all__ = ["Board", "View"]
