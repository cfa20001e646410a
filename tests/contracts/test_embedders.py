"""Every embedder through the same checks, and what is particular to each."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from connectors.embedders import EMBEDDERS
from connectors.embedders.cache import CachedEmbedder
from connectors.embedders.vectors import unit_rows
from connectors.embedders.wordllama import WordllamaEmbedder
from schemas.limits import TEXT_BYTES_MAX
from streams.prompts.ports import Embedder
from tests.stub_gateway import StubGateway, embeddings

STUB_DIMENSION = 16

TEXTS = [
    "Translate 'good morning' into French.",
    "Summarise the report in three sentences.",
    "把下面的句子翻译成英文：今天天气很好。",
    "def add(a, b):\n    return a + b",
    "x",
    " ",
    "",
    "\0",
    "a lone surrogate \ud800 in the middle",
    "🧿" * 3_000,
    "word " * 9_000,
    "漢字" * 40_000,
]


@pytest.fixture(scope="module", params=["wordllama", "portkey", "wordllama cached", "portkey cached"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    name, *cached = request.param.split()
    with StubGateway() as gateway:
        gateway.answer = lambda body: (200, embeddings(body, STUB_DIMENSION))
        arguments: dict[str, Any] = {}
        if name == "portkey":
            arguments = {"model": "m", "dimension": STUB_DIMENSION, "api_key": "key", "base_url": gateway.url}
        made = EMBEDDERS[name](**arguments)
        yield CachedEmbedder(made, entries_max=4) if cached else made


def embed(embedder: Embedder, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return asyncio.run(embedder.embed(texts))


def test_it_is_registered_under_each_name_of_the_settings() -> None:
    assert set(EMBEDDERS) == {"wordllama", "portkey"}


def test_every_text_has_a_finite_row_of_unit_length(embedder: Embedder) -> None:
    vectors = embed(embedder, TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1.0, abs=1e-6)


def test_a_text_has_the_same_vector_bit_for_bit_whatever_stands_around_it(embedder: Embedder) -> None:
    together = embed(embedder, TEXTS)
    alone = np.concatenate([embed(embedder, [text]) for text in TEXTS])
    backwards = embed(embedder, TEXTS[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == backwards.tobytes()


def test_a_repeated_text_has_the_same_row_twice(embedder: Embedder) -> None:
    first, _, second = embed(embedder, [TEXTS[0], TEXTS[1], TEXTS[0]])
    assert first.tobytes() == second.tobytes()


def test_other_texts_have_other_vectors(embedder: Embedder) -> None:
    one, other = embed(embedder, TEXTS[:2])
    assert one.tobytes() != other.tobytes()


def test_concurrent_calls_get_their_own_rows(embedder: Embedder) -> None:
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(embedder.embed([text]) for text in TEXTS[:5] * 4))

    expected = embed(embedder, TEXTS[:5])
    for position, rows in enumerate(asyncio.run(all_at_once())):
        assert rows[0].tobytes() == expected[position % 5].tobytes()


def test_the_name_says_what_changes_the_vectors() -> None:
    small, large = EMBEDDERS["wordllama"](chunk_chars=200), EMBEDDERS["wordllama"](chunk_chars=400)
    assert small.name != large.name


# -- wordllama


def test_like_texts_are_nearer_than_unlike_ones() -> None:
    french, german, weather = WordllamaEmbedder().encode(
        ["Translate this sentence into French.", "Translate this text into German.", "How hot was last summer?"]
    )
    assert french @ german > french @ weather + 0.2


def test_the_vectors_are_those_of_the_wordllama_package() -> None:
    from pathlib import Path

    import wordllama

    reference = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    texts = TEXTS[:4]
    assert WordllamaEmbedder().encode(texts) == pytest.approx(reference.embed(texts, norm=True), abs=1e-6)


def test_one_large_prompt_among_many_short_ones_costs_no_more_than_itself() -> None:
    embedder = WordllamaEmbedder()
    embedder.encode(["load the weights"])
    tracemalloc.start()
    embedder.encode(["short prompt"] * 255 + ["a" * TEXT_BYTES_MAX])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The tokens of a chunk, 1 KiB each, are the largest thing held; padding 256 rows would take gigabytes.
    assert peak_bytes < 64 * 1024 * 1024


def test_a_long_text_is_read_up_to_its_last_chunk_and_no_further() -> None:
    embedder = WordllamaEmbedder(chunk_chars=10, chunks_max=3)
    base, inside, outside = embedder.encode(["a b c d e " * 4, "a b c d e " * 2 + "z y x w v " * 2, "a b c d e " * 9])
    assert base.tobytes() == outside.tobytes()
    assert base.tobytes() != inside.tobytes()


# -- the rows themselves


def test_a_row_without_direction_gets_one_and_always_the_same() -> None:
    rows = unit_rows(np.array([[0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]]))
    assert rows.tolist() == [[0.5, 0.5, 0.5, 0.5], [pytest.approx(0.6), pytest.approx(0.8), 0.0, 0.0]]


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_very_small_and_very_large_rows_keep_their_direction(size: float) -> None:
    assert unit_rows(np.array([[3.0 * size, 4.0 * size]]))[0] == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        unit_rows(np.array([[1.0, value]]))


# -- the cache


class Counting:
    """An embedder that remembers what it was asked."""

    name = "counting"
    dimension = 2

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def embed(self, texts: Any) -> Any:
        self.asked.append(list(texts))
        return np.array([[1.0, len(text)] for text in texts], dtype=np.float32)


async def test_the_cache_asks_for_each_text_once() -> None:
    inner = Counting()
    cache = CachedEmbedder(inner)
    await cache.embed(["a", "b", "a"])
    await cache.embed(["b", "c"])
    assert inner.asked == [["a", "b"], ["c"]]
    assert (cache.hits, cache.misses) == (2, 3)


async def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, entries_max=2)
    await cache.embed(["a", "b"])
    await cache.embed(["a"])
    await cache.embed(["c"])
    await cache.embed(["a"])
    await cache.embed(["b"])
    assert inner.asked == [["a", "b"], ["c"], ["b"]]


async def test_more_texts_than_the_cache_holds_are_answered_all_the_same() -> None:
    cache = CachedEmbedder(Counting(), entries_max=2)
    rows = await cache.embed(["a", "bb", "ccc", "a"])
    assert rows[:, 1].tolist() == [1.0, 2.0, 3.0, 1.0]


async def test_a_cache_of_no_entries_only_passes_on() -> None:
    inner = Counting()
    cache = CachedEmbedder(inner, entries_max=0)
    await cache.embed(["a"])
    await cache.embed(["a"])
    assert inner.asked == [["a"], ["a"]]


async def test_changing_an_answer_does_not_change_what_is_remembered() -> None:
    cache = CachedEmbedder(Counting())
    rows = await cache.embed(["a"])
    rows[:] = 7.0
    assert (await cache.embed(["a"])).tolist() == [[1.0, 1.0]]
