"""Route templates of HTTP triggers, such as `items/{id:int}/{*rest}`: matching a path. No request is handled here.

https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-templates
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_PARAMETER = re.compile(r"\{(\*{0,2})(\w+)(?::(\w+))?(?:=([^}?]*))?(\?)?\}")
_CONSTRAINTS = {
    "int": r"-?\d+",
    "long": r"-?\d+",
    "bool": r"true|false",
    "alpha": r"[A-Za-z]+",
    "guid": r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
}
_LITERAL, _CONSTRAINED, _FREE, _REST = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A parsed template.

    Attributes:
        template: As it was written.
        precedence: Of several that match, the least one is taken: literals before parameters before a rest.
    """

    template: str
    precedence: tuple[int, ...]
    _pattern: re.Pattern[str]
    _defaults: dict[str, str]

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters' values in a path still quoted and without its first slash; None where it does not match."""
        found = self._pattern.fullmatch(path.strip("/"))
        if found is None:
            return None
        values = {name: unquote(value) for name, value in found.groupdict().items() if value}
        return self._defaults | values


def parse_route(template: str) -> Route:
    """Parse a template.

    Raises:
        ValueError: It is none, or has a constraint this host does not know.
    """
    pattern, precedence, defaults = "", [], {}
    for segment in filter(None, template.split("/")):
        slash = "/" if pattern else ""
        whole = _PARAMETER.fullmatch(segment)
        if whole is None:
            pattern += slash + _mixed(segment, template)
            precedence.append(_CONSTRAINED if "{" in segment else _LITERAL)
            continue
        stars, name, constraint, default, optional = whole.groups()
        value = f"(?P<{name}>{'.*' if stars else _value(constraint, template)})"
        if default is not None:
            defaults[name] = default
        omittable = bool(stars or optional or default is not None)
        pattern += f"(?:{slash}{value})?" if omittable else f"{slash}{value}"
        precedence.append(_REST if stars else _CONSTRAINED if constraint else _FREE)
    return Route(
        template=template,
        precedence=tuple(precedence),
        _pattern=re.compile(pattern, re.IGNORECASE | re.DOTALL),
        _defaults=defaults,
    )


def _mixed(segment: str, template: str) -> str:
    """A segment with literal text, and perhaps parameters within it."""
    pattern, end = "", 0
    for found in _PARAMETER.finditer(segment):
        pattern += _literal(segment[end : found.start()], template)
        pattern += f"(?P<{found[2]}>{_value(found[3], template)})"
        end = found.end()
    return pattern + _literal(segment[end:], template)


def _literal(text: str, template: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(f"the route {template!r} has a brace without its other half")
    return re.escape(text)


def _value(constraint: str | None, template: str) -> str:
    if constraint is None:
        return "[^/]+"
    if constraint not in _CONSTRAINTS:
        raise ValueError(f"the route {template!r} has the constraint {constraint!r}, which this host does not know")
    return _CONSTRAINTS[constraint]
