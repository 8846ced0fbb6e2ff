"""Spans with and without a recorder: whom they hang on, what they say, and what they cost where none is recorded."""

import asyncio
import gc
from collections.abc import Iterator
from contextvars import Context

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from shared.errors import UnavailableError
from shared.telemetry import names
from shared.telemetry.names import Kind, Stage
from shared.telemetry.now_and_then import NowAndThen
from shared.telemetry.recording import SpanRecorder
from shared.telemetry.spans import about, fail, fields, has_become, invoked, note, record_with, span, spanned, this_is
from shared.telemetry.traceparents import ids_of, trace_of, traceparent_of

ABOVE = f"00-{'a1' * 16}-{'b2' * 8}-01"
OTHER = f"00-{'c3' * 16}-{'d4' * 8}-00"


@pytest.fixture
def kept() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, sampler=ALWAYS_ON)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    record_with(SpanRecorder(provider, NowAndThen()))
    yield exporter
    record_with(None)
    provider.shutdown()


def ids(exporter: InMemorySpanExporter) -> dict[str, tuple[str, str | None]]:
    """The trace and the parent's span of each span that has ended, by name."""
    return {
        each.name: (f"{each.context.trace_id:032x}", f"{each.parent.span_id:016x}" if each.parent else None)
        for each in exporter.get_finished_spans()
        if each.context is not None
    }


class TestWithoutARecorder:
    def test_the_trace_context_that_came_is_carried_on(self) -> None:
        with span(Stage.ACT, of=ABOVE) as acting:
            assert acting.traceparent == ABOVE
            with span(Stage.REPORT) as reporting:
                assert reporting.traceparent == ABOVE
                note({names.STATUS: "live"})
                fail("nothing is recorded")
        assert fields().traceparent == ""

    def test_fields_are_known_below_and_no_longer_after_it(self) -> None:
        with span(Stage.LOOK, of="", upload="a.pfx"):
            with span(Stage.JUDGE, host="a.test"):
                assert (fields().upload, fields().host) == ("a.pfx", "a.test")
            assert fields().host is None
        assert fields().upload is None

    def test_work_of_another_trace_is_not_about_the_same_upload(self) -> None:
        with span(Stage.LOOK, of=ABOVE, upload="a.pfx", instance="web-0"), span(Stage.SETTLE, of=OTHER):
            assert (fields().upload, fields().instance) == (None, "web-0")

    async def test_a_function_is_called_as_it_is(self) -> None:
        @spanned(Stage.JUDGE)
        async def judge(of: str) -> str:
            return of.upper()

        assert await judge("a") == "A"
        assert judge.__name__ == "judge"


class TestRecorded:
    def test_a_child_hangs_on_the_span_around_it(self, kept: InMemorySpanExporter) -> None:
        with span(Stage.LOOK, of=ABOVE, upload="a.pfx") as looking, span(Stage.JUDGE):
            pass
        found = ids(kept)
        assert found["certcast.look"] == ("a1" * 16, "b2" * 8)
        assert found["certcast.judge"] == ("a1" * 16, looking.traceparent.split("-")[2])
        assert [each.attributes for each in kept.get_finished_spans()] == [{"certcast.upload": "a.pfx"}] * 2

    def test_work_of_the_same_trace_hangs_on_the_current_span_and_of_another_is_linked(
        self, kept: InMemorySpanExporter
    ) -> None:
        with span(Stage.ACT, of=ABOVE, links=(OTHER, "no context", OTHER)) as acting:
            with span(Stage.INSTALL, of=f"00-{'a1' * 16}-{'e5' * 8}-01"):
                pass
            with span(Stage.SETTLE, of=OTHER):
                pass
        found = ids(kept)
        assert found["certcast.install"] == ("a1" * 16, acting.traceparent.split("-")[2])
        assert found["certcast.settle"] == ("c3" * 16, "d4" * 8)
        linked = {
            each.name: [f"{link.context.span_id:016x}" for link in each.links] for each in kept.get_finished_spans()
        }
        assert linked["certcast.settle"] == [acting.traceparent.split("-")[2]]
        assert linked["certcast.act"] == ["d4" * 8]
        assert linked["certcast.install"] == []

    def test_a_parent_that_is_given_is_the_parent_whatever_is_current(self, kept: InMemorySpanExporter) -> None:
        with span(Stage.FOLD, of=ABOVE, instance="web-0"), span(Stage.ENTER, parent=f"00-{'a1' * 16}-{'e5' * 8}-01"):
            assert fields().instance == "web-0"
        assert ids(kept)["certcast.enter"] == ("a1" * 16, "e5" * 8)

    @pytest.mark.parametrize("broken", ["", "trace", f"00-{'0' * 32}-{'b2' * 8}-01", f"{ABOVE}0", ABOVE.upper()])
    def test_what_is_no_context_begins_a_trace(self, kept: InMemorySpanExporter, broken: str) -> None:
        with span(Stage.LOOK, of=broken) as looking:
            assert trace_of(looking.traceparent)
        assert ids(kept)["certcast.look"][1] is None

    def test_the_hosts_invocation_is_gone_on_with(self, kept: InMemorySpanExporter) -> None:
        with invoked(OTHER), span(Stage.NOTICE):
            pass
        with invoked("nonsense"), span(Stage.SWEEP):
            pass
        assert ids(kept)["certcast.notice"] == ("c3" * 16, "d4" * 8)
        assert ids(kept)["certcast.sweep"][1] is None

    def test_a_failure_says_our_own_sentence_and_of_others_the_type_alone(self, kept: InMemorySpanExporter) -> None:
        with pytest.raises(UnavailableError), span(Stage.READ):
            raise UnavailableError("table uploads: no answer\nfrom the service")
        with pytest.raises(ValueError, match="hunter2"), span(Stage.JUDGE):
            raise ValueError("the password hunter2 is wrong")
        read, judge = kept.get_finished_spans()
        assert read.status.description == "table uploads: no answer\N{REPLACEMENT CHARACTER}from the service"
        assert read.attributes == {"error.type": "UnavailableError"}
        assert (judge.attributes, judge.status.description) == ({"error.type": "ValueError"}, None)
        assert not judge.events

    def test_names_from_outside_are_shown_as_in_a_log_line(self, kept: InMemorySpanExporter) -> None:
        with span(Stage.LOOK, of="", upload=f"a\u202eb\n{'c' * 2_000}"):
            pass
        [look] = kept.get_finished_spans()
        assert look.attributes is not None
        shown = str(look.attributes["certcast.upload"])
        assert shown.startswith("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}ccc")
        assert len(shown) < 1_010

    def test_openTelemetrys_own_context_has_the_span_while_it_lasts(self, kept: InMemorySpanExporter) -> None:  # noqa: N802
        with span(Stage.LOOK, of=ABOVE) as looking:
            own = trace.get_current_span().get_span_context()
            assert traceparent_of(own.trace_id, own.span_id, sampled=True) == looking.traceparent
        assert not trace.get_current_span().get_span_context().is_valid
        assert len(kept.get_finished_spans()) == 1

    async def test_tasks_begun_in_a_span_belong_to_it(self, kept: InMemorySpanExporter) -> None:
        @spanned(Stage.SETTLE)
        async def later() -> str | None:
            await asyncio.sleep(0)
            return fields().upload

        with span(Stage.LOOK, of=ABOVE, upload="a.pfx"):
            task = asyncio.create_task(later())
        assert await task == "a.pfx"
        assert ids(kept)["certcast.settle"][0] == "a1" * 16

    def test_work_that_was_abandoned_ends_without_a_word(
        self, kept: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def never() -> None:
            with span(Stage.LOOK, of=""):
                await asyncio.sleep(0)

        coroutine = never()
        Context().run(coroutine.send, None)
        coroutine.close()
        gc.collect()
        assert [each.name for each in kept.get_finished_spans()] == ["certcast.look"]
        assert not caplog.records

    def test_an_earlier_beginning_is_kept(self, kept: InMemorySpanExporter) -> None:
        with span(Stage.INSTALL, of="", began_ns=1_000, kind=Kind.CLIENT):
            pass
        [install] = kept.get_finished_spans()
        assert (install.start_time, install.kind) == (1_000, trace.SpanKind.CLIENT)


def test_an_agents_spans_and_lines_name_its_instance() -> None:
    has_become("nobody")
    assert fields().instance is None
    this_is("web-6")
    has_become("web-7")
    try:
        assert fields().instance == "web-7"
        with about(instance="web-8"):
            assert fields().instance == "web-8"
    finally:
        this_is(None)
    assert fields().instance is None


def test_shared_names_are_those_of_the_semantic_conventions() -> None:
    assert names.SYSTEM == messaging_attributes.MESSAGING_SYSTEM
    assert names.QUEUE == messaging_attributes.MESSAGING_DESTINATION_NAME
    assert names.MESSAGES == messaging_attributes.MESSAGING_BATCH_MESSAGE_COUNT
    assert names.ERROR == error_attributes.ERROR_TYPE
    assert names.PORT == server_attributes.SERVER_PORT


def test_ids_are_read_from_what_is_a_context_alone() -> None:
    assert ids_of(ABOVE) == ("a1" * 16, "b2" * 8)
    assert ids_of(f"01{ABOVE[2:]}") is None
    assert ids_of(f"{ABOVE}\n") is None
    assert trace_of("") == ""
    assert traceparent_of(0xA, 0xB, sampled=False) == f"00-{'0' * 31}a-{'0' * 15}b-00"
