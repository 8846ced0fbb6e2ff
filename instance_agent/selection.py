"""Which target `CERTCAST_TARGET` selects, built from its own settings; the one place that knows all targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.embedded import DEFAULT_MAX_CONTEXTS, EmbeddedTarget
from shared.bundle import CertificateBundle
from shared.config import number
from shared.errors import CertcastError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from instance_agent.targets.base import BindingTarget


def make_target(kind: str, env: Mapping[str, str]) -> BindingTarget:
    """Build the target of that kind.

    Raises:
        ConfigurationError: There is none of that kind, or one of its settings is wrong.
    """
    maker = _TARGETS.get(kind)
    if maker is None:
        raise ConfigurationError(f"CERTCAST_TARGET must be one of {', '.join(sorted(_TARGETS))}, not {kind!r}")
    return maker(env)


def _embedded(env: Mapping[str, str]) -> BindingTarget:
    return EmbeddedTarget(
        address=env.get("CERTCAST_EMBEDDED_ADDRESS", "").strip() or "127.0.0.1",
        port_offset=number(env, "CERTCAST_EMBEDDED_PORT_OFFSET", default=0, least=0, most=65_000),
        fallback=_fallback(env.get("CERTCAST_EMBEDDED_FALLBACK", "").strip()),
        max_contexts=number(env, "CERTCAST_EMBEDDED_CONTEXTS", default=DEFAULT_MAX_CONTEXTS, least=1, most=1_000_000),
    )


def _fallback(path: str) -> CertificateBundle | None:
    if not path:
        return None
    try:
        return CertificateBundle.from_pem(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"CERTCAST_EMBEDDED_FALLBACK: {path} cannot be read ({error.strerror})") from None
    except CertcastError:
        raise ConfigurationError(
            f"CERTCAST_EMBEDDED_FALLBACK: {path} must hold a PEM private key, its certificate and the intermediates"
        ) from None


_TARGETS: dict[str, Callable[[Mapping[str, str]], BindingTarget]] = {EmbeddedTarget.kind: _embedded}
