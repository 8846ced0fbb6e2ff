"""Route templates of HTTP triggers, such as `items/{id:int}/{*rest}`, matched as the cloud's host matches them.

https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-templates; what matches is as in ASP.NET Core's
RoutePatternMatcher.cs and PathTokenizer.cs (github.com/dotnet/aspnetcore, src/Http/Routing/src): one slash at the end
of a path is ignored, and kept where a rest takes it; an empty segment before a rest, or at its start, matches nothing.

Unlike the cloud's host, this one knows no default values, and only a few constraints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from shared.errors import ConfigurationError

_PARAMETER = re.compile(r"\{(?P<rest>\*{0,2})(?P<name>[A-Za-z]\w*)(?::(?P<constraint>\w+))?(?P<optional>\?)?\}")
_CONSTRAINTS = {
    "int": re.compile(r"-?\d+"),
    "alpha": re.compile(r"[A-Za-z]+"),
    "guid": re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
}
_WRITTEN_SLASH = re.compile("(%2f)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """One segment of a template.

    Attributes:
        pattern: What it matches, each parameter a group.
        constraints: Of its parameters' values, by name.
        rest: The parameter that takes the rest of the path; empty where there is none.
        optional: Whether a path may do without it.
    """

    pattern: re.Pattern[str]
    constraints: Mapping[str, re.Pattern[str]]
    rest: str
    optional: bool


class Route:
    """A template.

    Args:
        template: Without slashes at its ends.
        purpose: Begins the text of an error.

    Raises:
        ConfigurationError: It is no template, or has a constraint that this host does not know.
    """

    def __init__(self, template: str, purpose: str) -> None:
        self._segments = [_segment(text, template, purpose) for text in template.split("/")] if template else []

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters' values in a decoded path; None where the template does not match it."""
        segments = path.removeprefix("/").split("/")
        if not segments[-1]:
            segments.pop()
        values: dict[str, str] = {}
        for number, text in enumerate(segments):
            if not text or number == len(self._segments):
                return None
            segment = self._segments[number]
            if segment.rest:
                values[segment.rest] = path.removeprefix("/").split("/", number)[-1]
                break
            found = segment.pattern.fullmatch(text)
            if found is None:
                return None
            values |= found.groupdict()
        if not all(segment.rest or segment.optional for segment in self._segments[len(segments) :]):
            return None
        return values if all(self._allows(name, value) for name, value in values.items()) else None

    def _allows(self, name: str, value: str) -> bool:
        constraints = (segment.constraints[name] for segment in self._segments if name in segment.constraints)
        return all(constraint.fullmatch(value) for constraint in constraints)


def _segment(text: str, template: str, purpose: str) -> _Segment:
    pattern, constraints, rest, optional = "", {}, "", False
    for part in re.split(r"(\{[^{}]*\})", text):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None and not {"{", "}"}.isdisjoint(part):
            raise ConfigurationError(f"{purpose}: the route {template!r} has {part!r}, which this host does not know")
        if parameter is None:
            pattern += f"(?i:{re.escape(part)})"
            continue
        name, constraint = parameter["name"], parameter["constraint"]
        if constraint is not None:
            if constraint not in _CONSTRAINTS:
                raise ConfigurationError(
                    f"{purpose}: the route {template!r} has {part!r}, which this host does not know"
                )
            constraints[name] = _CONSTRAINTS[constraint]
        pattern += rf"(?P<{name}>[\s\S]+)"
        rest, optional = name if parameter["rest"] else "", parameter["optional"] is not None
    return _Segment(pattern=re.compile(pattern), constraints=constraints, rest=rest, optional=optional)


def decoded_path(raw: str) -> str:
    """A path as routes see it: decoded, except a slash written as %2F, and what is no UTF-8.

    github.com/dotnet/aspnetcore, src/Shared/UrlDecoder/UrlDecoder.cs.
    """
    return "".join(
        part if _WRITTEN_SLASH.fullmatch(part) else unquote_to_bytes(part).decode("utf-8", "surrogateescape")
        for part in _WRITTEN_SLASH.split(raw)
    ).translate({0xDC00 + octet: f"%{octet:02X}" for octet in range(0x80, 0x100)})
