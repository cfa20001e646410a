"""Notes for the next worker: what cannot be read or may not be written costs the note, not the work."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse_v3

from streams.engine.exactly_once.notes import Decision, Note, Notes
from streams.engine.exactly_once.producer import ProducerId

SOURCE = ("words", 3)
NOTE = Note(Decision(ProducerId(7, 4), committed=True, seen=ProducerId(7, 5)), worked=True)


class Coordinator:
    """A client whose broker keeps the offsets of one group, or may not be asked for it."""

    def __init__(self, *, forbidden: bool = False, error: int = 0) -> None:
        self.kept: dict[tuple[str, int], str] = {}
        self._forbidden = forbidden
        self._error = error

    async def coordinator_lookup(self, _kind: CoordinationType, group: str) -> int:
        assert group == "app-fences"
        if self._forbidden:
            raise GroupAuthorizationFailedError
        return 1

    async def send(self, _node: int, request: Any) -> Any:
        if isinstance(request, OffsetCommitRequest):
            self.kept |= {(topic, number): text for topic, parts in request._topics for number, _, text in parts}
        assert isinstance(request, OffsetCommitRequest | OffsetFetchRequest)
        found = [(topic, [(number, 0, text, 0)]) for (topic, number), text in self.kept.items()]
        return OffsetFetchResponse_v3(0, [] if isinstance(request, OffsetCommitRequest) else found, self._error)


@pytest.mark.parametrize("note", [NOTE, Note(None, worked=True), Note(NOTE.decision)])
async def test_what_is_written_is_read_by_the_next_worker(note: Note) -> None:
    client = Coordinator()
    await Notes("app").write(client, {SOURCE: note})
    assert await Notes("app").read(client, [SOURCE]) == {SOURCE: note}


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"decision": [1], "worked": true}'])
async def test_a_note_of_another_version_is_passed_over(text: str) -> None:
    client = Coordinator()
    client.kept[SOURCE] = text
    assert await Notes("app").read(client, [SOURCE]) == {SOURCE: Note()}


async def test_a_group_that_may_not_be_used_is_told_once_and_costs_only_the_notes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes, client = Notes("app"), Coordinator(forbidden=True)
    for _ in range(2):
        await notes.write(client, {SOURCE: NOTE})
        assert await notes.read(client, [SOURCE]) == {}
    (warning,) = caplog.records
    assert "grant READ on their group" in warning.getMessage()
    assert vars(warning)["group"] == "app-fences"


async def test_no_answer_is_not_no_note() -> None:
    with pytest.raises(KafkaError):
        await Notes("app").read(Coordinator(error=14), [SOURCE])  # it still loads
