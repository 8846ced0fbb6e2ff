"""Route templates of HTTP triggers, such as `items/{id:int}/{*rest}`, as paths of aiohttp's router.

https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-templates

Unlike the cloud's host, this one knows no default values.
"""

from __future__ import annotations

import re

from shared.errors import ConfigurationError

_PARAMETER = re.compile(r"\{(?P<rest>\*{0,2})(?P<name>[A-Za-z]\w*)(?::(?P<constraint>\w+))?(?P<optional>\?)?\}")
_FREE_SEGMENT = re.compile(r"\{\w+\??\}")
_VALUES = {
    None: r"[^/]+",
    "int": r"-?\d+",
    "alpha": r"[A-Za-z]+",
    "guid": r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}",
}


def precedence(template: str) -> list[int]:
    """Sorts templates: of several that match, literals go before parameters, and those before a rest."""
    return [_rank(segment) for segment in template.split("/")]


def paths(template: str, purpose: str) -> list[str]:
    """What to register for a template: one path with its last parameter, and one without where that may be left out.

    Parameters have the template's names; what is no parameter, and has its case ignored, is named after an underscore.

    Args:
        template: Without slashes at its ends.
        purpose: Begins the text of an error.

    Raises:
        ConfigurationError: It is no template, or has a constraint that this host does not know.
    """
    head, _, tail = template.rpartition("/")
    last = _PARAMETER.fullmatch(tail)
    shorter = paths(head, purpose) if last is not None and (last["rest"] or last["optional"]) else []
    path = "/"
    for number, part in enumerate(re.split(r"(\{[^{}]*\})", template)):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is not None and parameter["constraint"] in _VALUES:
            value = r"[\s\S]*?" if parameter["rest"] else _VALUES[parameter["constraint"]]
            path += f"{{{parameter['name']}:{value}}}"
        elif "{" in part or "}" in part:
            raise ConfigurationError(f"{purpose}: the route {template!r} has {part!r}, which this host does not know")
        elif part:
            path += f"{{_{number}:(?i:{re.escape(part)})}}"
    return [*shorter, path + "{_end:/*}"]


def _rank(segment: str) -> int:
    if "{" not in segment:
        return 0
    if segment.startswith("{*"):
        return 3
    return 2 if _FREE_SEGMENT.fullmatch(segment) else 1
