"""Conditions of role assignments, read as Azure reads them, as far as this project's pages use the language.

learn.microsoft.com, "Azure role assignment condition format and syntax". Parentheses stand wherever AND and OR meet.
"""

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"\s*(?:(?P<mark>AND\b|OR\b|[!()])|ActionMatches\{'(?P<action>[^']+)'\}"
    r"|@Resource\[(?P<attribute>[^\]]+)\]\s+(?P<operator>StringEquals|StringStartsWith)\s+'(?P<value>[^']*)')"
)


class _Reader:
    """One reading of a condition for one request."""

    def __init__(self, condition: str, action: str, resource: Mapping[str, str]) -> None:
        self._text = condition.strip()
        self._at = 0
        self._action = action
        self._resource = resource

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise ValueError(f"a condition goes on with {self._text[self._at :]!r}")
        self._at = found.end()
        return found

    def _ended(self) -> bool:
        return self._text[self._at :].strip() == ""

    def expression(self) -> bool:
        """An expression, up to the end or to the parenthesis that closes it."""
        result, joined = self._term(), set[str]()
        while not self._ended():
            before, word = self._at, self._next()["mark"]
            if word == ")":
                self._at = before
                break
            if word not in {"AND", "OR"}:
                raise ValueError(f"'{word}' stands where AND or OR belongs")
            joined.add(word)
            if len(joined) > 1:
                raise ValueError("AND and OR meet without parentheses")
            right = self._term()
            result = (result and right) if word == "AND" else (result or right)
        return result

    def _term(self) -> bool:
        token = self._next()
        if token["mark"] == "!":
            return not self._term()
        if token["mark"] == "(":
            inside = self.expression()
            if self._next()["mark"] != ")":
                raise ValueError("a parenthesis is not closed")
            return inside
        if token["action"]:
            return token["action"] == self._action
        found = self._resource.get(token["attribute"])
        if found is None:
            return False
        return found == token["value"] if token["operator"] == "StringEquals" else found.startswith(token["value"])


def holds(condition: str, action: str, resource: Mapping[str, str]) -> bool:
    """Whether a condition lets a role's data action be done to a resource.

    Args:
        condition: Its text.
        action: The data action.
        resource: The resource's attributes by their names.

    Raises:
        ValueError: It is no condition that is understood here.
    """
    reader = _Reader(condition, action, resource)
    result = reader.expression()
    if not reader._ended():
        raise ValueError("a condition goes on after its end")
    return result
