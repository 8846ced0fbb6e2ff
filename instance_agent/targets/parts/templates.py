"""Templates that an administrator wrote for a server's configuration: Jinja2 in its sandbox, every name defined.

What values a template gets is the target's business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from instance_agent.targets.base import Install

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

# What is written is configuration, where HTML escapes would be wrong: the values are checked before they get here.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    autoescape=False,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


class ConfigTemplate:
    """One template.

    Attributes:
        origin: Its file, or what to call it.
    """

    def __init__(self, text: str, origin: str) -> None:
        """Parse it.

        Raises:
            ConfigurationError: It is no template; the text names file and line.
        """
        self.origin = origin
        try:
            self._template = _ENVIRONMENT.from_string(text)
            self._names = find_undeclared_variables(_ENVIRONMENT.parse(text))
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise ConfigurationError(
                f"the template {origin}{f', line {line},' if line else ''} cannot be read: {error}"
            ) from None

    @classmethod
    def load(cls, path: Path) -> ConfigTemplate:
        """Read a template's file.

        Raises:
            ConfigurationError: It cannot be read, or is no template.
        """
        try:
            return cls(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ConfigurationError(f"the template {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the template {path} cannot be read: it is not UTF-8 text") from None

    def uses(self, name: str) -> bool:
        """Whether it uses a value of this name."""
        return name in self._names

    def render(self, **values: object) -> str:
        """Fill it in.

        Raises:
            ConfigurationError: It uses a name it is not given, or fails otherwise.
        """
        try:
            return self._template.render(**values)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ConfigurationError(
                f"the template {self.origin} cannot be filled in: {error} (it is given {', '.join(sorted(values))})"
            ) from None


def site_refusal(change: Install) -> str | None:
    """Why the site an uploader named may not reach a template; None when it may."""
    if change.site is None or _SITE.match(change.site):
        return None
    return (
        f"{change.phrased}: SiteName may have letters, digits and . _ - here, 64 at most, beginning with a "
        "letter or digit, since a template may put it into a server's configuration"
    )
