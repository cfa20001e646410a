"""CloudEvents headers, as the Kafka protocol binding (version 1.0.2, binary mode) asks for them."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import cloudevents


def test_the_headers_of_an_event() -> None:
    assert dict(
        cloudevents.headers(
            event_id="e-1",
            event_type=cloudevents.TEMPLATE_EVOLVED,
            source="/promptloom/canonicalization",
            time_ms=1_769_847_300_250,
            subject="acme/cluster-1",
        )
    ) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e-1",
        "ce_type": b"promptloom.template.evolved.v1",
        "ce_source": b"/promptloom/canonicalization",
        "ce_time": b"2026-01-31T08:15:00.250Z",
        "ce_subject": b"acme/cluster-1",
        "content-type": b"application/json",
    }


def test_an_event_without_a_subject_has_no_subject_header() -> None:
    names = [name for name, _ in cloudevents.headers(event_id="1", event_type="t", source="/s", time_ms=0)]
    assert "ce_subject" not in names


def test_the_required_attributes_may_not_be_empty() -> None:
    for missing in ("event_id", "event_type", "source"):
        attributes = {"event_id": "1", "event_type": "t", "source": "/s"} | {missing: ""}
        with pytest.raises(ValueError, match="needs an id, a type and a source"):
            cloudevents.headers(**attributes, time_ms=0)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_any_id_makes_a_legal_header_and_can_be_told_from_it(event_id: str) -> None:
    value = dict(cloudevents.headers(event_id=event_id, event_type="t", source="/s", time_ms=0))["ce_id"].decode()
    assert value.isprintable()
    assert unquote(value) == event_id


def test_whole_seconds_keep_their_milliseconds() -> None:
    assert cloudevents.rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert cloudevents.rfc3339(4_102_444_800_000) == "2100-01-01T00:00:00.000Z"
