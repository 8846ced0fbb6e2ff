"""Spans: pieces of work with a name, a beginning, an end, and the trace that they belong to.

A span is recorded where `CERTCAST_TRACES` asks for it, by the recorder that `shared.telemetry.tracing` sets. Otherwise
what remains of it is the fields that log lines have: which upload, host, instance, generation and trace is worked on.
A trace goes on across processes by the trace contexts that messages, rows and reports carry.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar

from shared.errors import CertcastError
from shared.phrasing import LOGGED_CHARS, shown
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.traceparents import trace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from contextvars import Token
    from types import TracebackType

    Value = str | int | float | bool
    P = ParamSpec("P")
    R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What is worked on now.

    Attributes:
        upload: The upload's name.
        host: The host name.
        instance: The instance's id.
        generation: The row's generation.
        traceparent: W3C trace context: of the span that is recorded, else the one that is carried on.
        recorded: The span that is recorded; None where none is.
    """

    upload: str | None = None
    host: str | None = None
    instance: str | None = None
    generation: int | None = None
    traceparent: str = ""
    recorded: Recorded | None = None


class Recorded(Protocol):
    """A span that is recorded."""

    traceparent: str

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""

    def fail(self, description: str) -> None:
        """Say that the work failed."""

    def end(self, *, here: bool) -> None:
        """End it.

        Args:
            here: Whether it ends where it began, so that what was current before is so again.
        """


class Recorder(Protocol):
    """What records spans."""

    def begin(
        self,
        name: str,
        *,
        kind: Kind,
        parent: str,
        links: Iterable[str],
        attributes: Mapping[str, Value],
        began_ns: int | None,
    ) -> Recorded:
        """Begin a span; it is the current one of OpenTelemetry's own context until it ends.

        Args:
            name: Its name.
            kind: Its kind.
            parent: The trace context of its parent; anything else begins a trace.
            links: Trace contexts of spans that it has to do with; what is none is left out.
            attributes: Its first attributes.
            began_ns: When it began, in nanoseconds since 1970; None for now.
        """


_NOTHING = Fields()
_current: ContextVar[Fields] = ContextVar("certcast_fields", default=_NOTHING)


class _Process:
    """What holds for the whole process: who records spans, and which instance's agent this is."""

    recorder: Recorder | None = None
    instance: str | None = None


def record_with(recorder: Recorder | None) -> None:
    """Have spans recorded from now on, or no longer."""
    _Process.recorder = recorder


def this_is(instance: str | None) -> None:
    """Say which instance's agent this process is; None where it is no agent's alone."""
    _Process.instance = instance


def has_become(instance: str) -> None:
    """Say that this process's agent goes on under this id; a process with several agents is none's."""
    if _Process.instance is not None:
        _Process.instance = instance


def fields() -> Fields:
    """What is worked on now."""
    known = _current.get()
    return known if known.instance or _Process.instance is None else replace(known, instance=_Process.instance)


def note(attributes: Mapping[str, Value]) -> None:
    """Add attributes to the span that is recorded now, if any."""
    if (recorded := _current.get().recorded) is not None:
        recorded.note(attributes)


def fail(description: str) -> None:
    """Say that the work of the span that is recorded now failed, and how."""
    if (recorded := _current.get().recorded) is not None:
        recorded.fail(shown(description, LOGGED_CHARS))


class About:
    """What is worked on, for as long as a `with` lasts.

    Args:
        known: What that is.
    """

    __slots__ = ("_known", "_token")

    def __init__(self, known: Fields) -> None:
        self._known = known

    @property
    def traceparent(self) -> str:
        """The trace context for what this work sends on; empty where there is none."""
        return self._known.traceparent

    def __enter__(self) -> Self:
        self._token: Token[Fields] = _current.set(self._known)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> bool:
        """Go back to what was worked on before; False where the work was abandoned, and is ended by somebody else."""
        try:
            _current.reset(self._token)
        except ValueError:
            return False
        return True


class Span(About):
    """A piece of work that is recorded.

    Args:
        known: What it is about, itself included.
        recorded: It.
    """

    __slots__ = ("_recorded",)

    def __init__(self, known: Fields, recorded: Recorded) -> None:
        super().__init__(known)
        self._recorded = recorded

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        here = self._leave()
        if error is not None:
            self._recorded.note({names.ERROR: type(error).__name__})
            # Only our own errors are known to quote nothing that is secret.
            self._recorded.fail(shown(str(error), LOGGED_CHARS) if isinstance(error, CertcastError) else "")
        self._recorded.end(here=here)


def about(
    *, upload: str | None = None, host: str | None = None, instance: str | None = None, generation: int | None = None
) -> About:
    """Set fields of the log lines of some work, without a span of its own."""
    return About(_with(_current.get(), upload, host, instance, generation))


def invoked(traceparent: str | None) -> About:
    """Work that somebody else's span, as the Functions host's, began: what follows belongs to it or is linked to it."""
    return About(Fields(traceparent=traceparent if traceparent and trace_of(traceparent) else ""))


def span(
    stage: Stage,
    *,
    of: str | None = None,
    parent: str | None = None,
    links: Iterable[str] = (),
    kind: Kind = Kind.INTERNAL,
    began_ns: int | None = None,
    upload: str | None = None,
    host: str | None = None,
    instance: str | None = None,
    generation: int | None = None,
) -> About:
    """Begin a span, for a `with`; it is a child of the current one unless `of` or `parent` is given.

    Args:
        stage: What is done.
        of: The trace context that the work belongs to. Where the current span is of the same trace, it stays the
            parent; else the trace goes on from here, with a link to the current span. An empty one begins a trace.
        parent: The trace context of the parent, whatever is current.
        links: Trace contexts of other traces that meet in this work.
        kind: What it is to others.
        began_ns: When it began, in nanoseconds since 1970, where that was earlier.
        upload: The upload; as the current span's where it is not given, and the same holds for those that follow.
        host: The host name.
        instance: The instance.
        generation: The row's generation.
    """
    now = _current.get()
    under, linked, inherits = _place(now, of, parent)
    known = _with(now if inherits else Fields(instance=now.instance), upload, host, instance, generation)
    recorder = _Process.recorder
    if recorder is None:
        carried = of if of is not None else parent
        return About(replace(known, traceparent=now.traceparent if carried is None else carried, recorded=None))
    recorded = recorder.begin(
        stage.value,
        kind=kind,
        parent=under,
        links=(*linked, *links),
        attributes=_attributes(known),
        began_ns=began_ns,
    )
    return Span(replace(known, traceparent=recorded.traceparent, recorded=recorded), recorded)


def spanned(
    stage: Stage, *, kind: Kind = Kind.INTERNAL
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Make each call of a coroutine function a span below the current one."""

    def of(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @wraps(function)
        async def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
            if _Process.recorder is None:
                return await function(*args, **kwargs)
            with span(stage, kind=kind):
                return await function(*args, **kwargs)

        return recorded

    return of


def _place(now: Fields, of: str | None, parent: str | None) -> tuple[str, tuple[str, ...], bool]:
    """Where a span belongs: its parent, what it is linked to, and whether it is about what the current one is about."""
    if parent is not None:
        return parent, (), False
    if of is None:
        return now.traceparent, (), True
    if now.traceparent and trace_of(of) == trace_of(now.traceparent):
        return now.traceparent, (), True
    return of, (now.traceparent,) if now.traceparent else (), False


def _with(known: Fields, upload: str | None, host: str | None, instance: str | None, generation: int | None) -> Fields:
    return Fields(
        upload=known.upload if upload is None else upload,
        host=known.host if host is None else host,
        instance=known.instance if instance is None else instance,
        generation=known.generation if generation is None else generation,
        traceparent=known.traceparent,
        recorded=known.recorded,
    )


def _attributes(known: Fields) -> dict[str, Value]:
    """What a span says of what it is about; names come from outside, so they are shown as in a log line."""
    instance = known.instance or _Process.instance
    found: dict[str, Value] = {}
    for name, value in ((names.UPLOAD, known.upload), (names.HOST, known.host), (names.INSTANCE, instance)):
        if value:
            found[name] = shown(value, LOGGED_CHARS)
    if known.generation is not None:
        found[names.GENERATION] = known.generation
    return found
