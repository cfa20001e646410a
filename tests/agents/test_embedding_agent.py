"""The embedding room without a broker: prompts leave for their tenant's partition, with their vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from connectors.embedders.cache import CachedEmbedder
from connectors.embedders.wordllama import WordllamaEmbedder
from schemas.errors import SchemaUnavailable, ServiceRefused, ServiceUnavailable
from schemas.prompts import EmbeddedFrame, ModeratedFrame, ModeratedPrompt
from streams.engine import frames
from streams.engine.partitioning import partition_of
from streams.engine.ports import Record
from streams.prompts import ingest
from streams.prompts.embedding import agent
from streams.prompts.ports import Embedder
from tests.fakes import FakeEngine, FakeUnit, NoSchemas, a_record
from tests.wire import MODERATION, a_prompt

PARTITIONS = 8


class LengthEmbedder:
    """A text's vector points by its length; declines `declined`, fails on `down`."""

    name = "lengths"
    dimension = 2

    async def embed(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        if any("down" in text for text in texts):
            raise ServiceUnavailable("embedding: no answer")
        if any("declined" in text for text in texts):
            raise ServiceRefused("embedding: declined")
        angles = np.array([len(text) / 100 for text in texts], dtype=np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def an_engine(embedder: Embedder | None = None) -> FakeEngine:
    engine = FakeEngine()
    agent.attach(engine, embedder=embedder or LengthEmbedder(), schemas=NoSchemas(), partitions=PARTITIONS)
    return engine


def moderated(number: int, text: str, tenant: str = "acme") -> ModeratedPrompt:
    prompt = a_prompt(number, text=text).model_copy(update={"tenant": tenant})
    return ModeratedPrompt(prompt=prompt, moderation=MODERATION)


def a_frame(*prompts: ModeratedPrompt) -> Record:
    return a_record(frames.encode(ModeratedFrame(prompts=prompts)), topic="prompts-moderated")


def arrived(unit: FakeUnit) -> list[tuple[int, str, list[float]]]:
    """Return (partition, text, vector) of everything that left."""
    found = []
    for sent in unit.sent_to("prompts-embedded"):
        frame = frames.decode(EmbeddedFrame, sent.value or b"")
        vectors = np.frombuffer(frame.vectors, dtype="<f4").reshape(-1, frame.dimension)
        for prompt, vector in zip(frame.prompts, vectors, strict=True):
            found.append((sent.partition, prompt.prompt.text, vector.tolist()))
    return found


async def test_prompts_leave_for_their_tenants_partition_with_their_own_vector() -> None:
    unit = await an_engine().run(
        "embedding",
        [a_frame(moderated(1, "one"), moderated(2, "three", "globex")), a_frame(moderated(3, "thirteen"))],
        partition=4,
    )
    expected = {}
    for text in ("one", "three", "thirteen"):
        (vector,) = await LengthEmbedder().embed([text])
        expected[text] = vector.tolist()
    assert {text: vector for _, text, vector in arrived(unit)} == expected
    for partition, text, _ in arrived(unit):
        assert partition == partition_of("globex" if text == "three" else "acme", PARTITIONS)
    assert [text for _, text, _ in arrived(unit) if text != "three"] == ["one", "thirteen"]


async def test_prompts_of_several_frames_share_a_frame_when_their_tenant_does() -> None:
    unit = await an_engine().run("embedding", [a_frame(moderated(n, f"text {n}")) for n in range(20)])
    assert len(unit.sent) == 1


async def test_a_broken_frame_is_dead_lettered_and_the_others_go_on() -> None:
    broken = a_record(frames.encode(ModeratedFrame(prompts=(moderated(1, "x"),)))[:-3], topic="prompts-moderated")
    unit = await an_engine().run("embedding", [broken, a_frame(moderated(2, "good"))])
    assert [letter.record for letter in unit.dead_letters] == [broken]
    assert [text for _, text, _ in arrived(unit)] == ["good"]


async def test_a_frame_of_an_unknown_writer_holds_the_partition() -> None:
    value = bytearray(frames.encode(ModeratedFrame(prompts=(moderated(1, "x"),))))
    value[2] ^= 0xFF
    with pytest.raises(SchemaUnavailable):
        await an_engine().run("embedding", [a_record(bytes(value), topic="prompts-moderated")])


async def test_a_declined_prompt_is_dead_lettered_as_it_would_stand_in_prompts() -> None:
    prompts = (moderated(1, "good"), moderated(2, "declined secret"), moderated(3, "fine"))
    unit = await an_engine().run("embedding", [a_frame(*prompts)])
    (letter,) = unit.dead_letters
    assert (letter.record.topic, letter.record.partition, letter.record.offset) == ("prompts", 3, 42)
    assert orjson.loads(letter.record.value or b"")["id"] == "prompt-2"
    assert "secret" not in str(letter.error)
    again = ingest.decode(letter.record, NoSchemas())
    assert again.model_copy(update={"metadata_json": ""}) == prompts[1].prompt.model_copy(update={"metadata_json": ""})
    assert [text for _, text, _ in arrived(unit)] == ["good", "fine"]


async def test_a_service_that_fails_fails_the_unit_so_that_the_partition_is_held() -> None:
    with pytest.raises(ServiceUnavailable):
        await an_engine().run("embedding", [a_frame(moderated(1, "down"))])


async def test_the_same_prompts_give_the_same_vectors_bit_for_bit_however_they_are_cut() -> None:
    prompts = [moderated(n, f"Prompt number {n} about {'cats ' * (n % 7)}", f"tenant-{n % 3}") for n in range(40)]
    embedder = WordllamaEmbedder()
    whole = await an_engine(embedder).run("embedding", [a_frame(*prompts)])
    engine = an_engine(CachedEmbedder(embedder, entries_max=5))
    cut = [await engine.run("embedding", [a_frame(prompt)]) for prompt in prompts]
    assert sorted(arrived(whole)) == sorted(row for unit in cut for row in arrived(unit))


async def test_a_unit_without_records_sends_nothing() -> None:
    unit = await an_engine().run("embedding", [])
    assert unit.sent == []


async def test_prompts_of_a_frame_handled_one_by_one_leave_as_they_do_together() -> None:
    engine = an_engine()
    whole = a_frame(*(moderated(number, f"Text {'x' * number}.", f"t{number % 3}") for number in range(9)))
    pieces = engine.splits[agent.STAGE](whole)
    apart = [await engine.run(agent.STAGE, [piece.record]) for piece in pieces]
    together = arrived(await engine.run(agent.STAGE, [whole]))
    assert sorted(entry for unit in apart for entry in arrived(unit)) == sorted(together)
    assert [orjson.loads(piece.letter.value or b"")["id"] for piece in pieces] == [
        moderated(number, "").prompt.prompt_id for number in range(9)
    ]
