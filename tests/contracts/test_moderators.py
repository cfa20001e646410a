"""Every moderator through the same checks, and how good the shipped classifier is."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from connectors.dataset import Row, find, read
from connectors.dataset.files import shipped
from connectors.moderators import MODERATORS
from connectors.moderators.features import OVERLAP_CHARS, WINDOW_CHARS, grams, windows
from connectors.moderators.offline import FOLDER, WEIGHTS, OfflineModerator
from connectors.moderators.portkey import CATEGORIES
from infra.training.moderation import LABELS, main
from streams.prompts.ports import Moderator
from tests.stub_gateway import StubGateway, moderations

DATA = Path(__file__).parents[2].parent / "shared" / "data"
WEIGHTS_BYTES_MAX = 2 * 1024 * 1024

TEXTS = [
    "Translate 'good morning' into French.",
    "this is bad",
    "",
    " ",
    "\0",
    "?!",
    "a lone surrogate \ud800",
    "把下面的句子翻译成英文",
    "word " * 50_000,
]


@pytest.fixture(scope="module", params=["offline", "portkey"])
def moderator(request: pytest.FixtureRequest) -> Iterator[Moderator]:
    with StubGateway() as gateway:
        gateway.answer = lambda body: (200, moderations(body, CATEGORIES))
        arguments: dict[str, Any] = {}
        if request.param == "portkey":
            arguments = {"model": "m", "api_key": "key", "base_url": gateway.url}
        yield MODERATORS[request.param](**arguments)


@pytest.fixture(scope="module")
def offline() -> OfflineModerator:
    return OfflineModerator()


def score(moderator: Moderator, texts: list[str]) -> list[dict[str, float]]:
    return asyncio.run(moderator.score(texts))


def test_it_is_registered_under_each_name_of_the_settings() -> None:
    assert set(MODERATORS) == {"offline", "portkey"}


def test_every_text_has_a_probability_in_every_category(moderator: Moderator) -> None:
    rows = score(moderator, TEXTS)
    assert len(rows) == len(TEXTS)
    for row in rows:
        assert tuple(row) == moderator.categories
        assert all(type(value) is float and 0.0 <= value <= 1.0 for value in row.values())


def test_a_text_has_the_same_scores_whatever_stands_around_it(moderator: Moderator) -> None:
    together = score(moderator, TEXTS)
    assert together == [score(moderator, [text])[0] for text in TEXTS]
    assert together == score(moderator, TEXTS[::-1])[::-1]


def test_no_texts_give_no_scores(moderator: Moderator) -> None:
    assert score(moderator, []) == []


def test_both_moderators_name_categories_alike(offline: OfflineModerator) -> None:
    assert set(offline.categories) == set(LABELS.values())
    assert set(offline.categories) <= set(CATEGORIES)


# -- the shipped classifier


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Hot naked girls fuck hard in this free porn video, watch the sexy pussy action now.", "sexual"),
        ("I cut myself again last night, I want to kill myself.", "self-harm"),
        ("All muslims are terrorists and should be wiped out.", "hate"),
    ],
)
def test_an_obvious_case_is_rejected_for_what_it_is(offline: OfflineModerator, text: str, category: str) -> None:
    filled = f"Translate the following text into French and keep its tone.\n\n{text}\n\nReturn only the translation."
    for scores in score(offline, [text, filled]):
        assert scores[category] >= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Translate the following sentence into German: The meeting starts at nine.",
        "How do I kill a process that listens on port 8080?",
        "Write a Python function that aborts a running child process.",
        "Explain how breast cancer is diagnosed.",
        "Summarise the history of the Second World War in five sentences.",
        "Schreibe ein Gedicht über den Herbst.",
    ],
)
def test_an_ordinary_prompt_passes(offline: OfflineModerator, text: str) -> None:
    assert max(score(offline, [text])[0].values()) < 0.5


def test_fewer_than_one_in_two_hundred_prompts_of_the_dataset_is_rejected(offline: OfflineModerator) -> None:
    rows = [row for file in find(shipped()) for row in read(file) if isinstance(row, Row)]
    texts = [row.fields["text"] for row in rows if isinstance(row.fields.get("text"), str)][::3]
    assert len(texts) > 1_000
    rejected = (offline.scores(texts) >= 0.5).any(axis=1)
    assert rejected.mean() < 0.005


def test_the_weights_are_small() -> None:
    assert (FOLDER / WEIGHTS).stat().st_size < WEIGHTS_BYTES_MAX


@pytest.mark.skipif(not (DATA / "moderation").is_dir(), reason="the moderation samples are not here")
def test_the_weights_tell_offending_samples_from_others(offline: OfflineModerator) -> None:
    samples = [json.loads(line) for line in (DATA / "moderation" / "samples.jsonl").read_text().splitlines()]
    scores = offline.scores([sample["prompt"] for sample in samples])
    for position, label in enumerate(LABELS):
        flags = np.array([math.nan if sample.get(label) is None else sample[label] for sample in samples])
        known = ~np.isnan(flags)
        # These samples taught: this says that the file is whole. What it is worth stands in weights.json.
        assert roc_auc_score(flags[known], scores[known, position]) > 0.95


def test_the_held_out_figures_are_above_the_floor() -> None:
    card = json.loads((FOLDER / "weights.json").read_text())
    assert card["held_out"]["auc_mean"] > 0.84
    assert card["held_out"]["ordinary_prompts_rejected"] < 0.005
    assert card["by_category"]["sexual"]["auc"] > 0.94
    assert card["by_category"]["self-harm"]["auc"] > 0.94


# -- features


def test_each_paragraph_is_a_window_and_a_short_one_joins_its_neighbour() -> None:
    instruction, text = "Translate the following text into French:", "It was a dark and stormy night, and it rained."
    assert list(windows(f"{instruction}\n\n{text}")) == [f"{instruction}\n\n", text]
    assert list(windows(f"Text:\n \n{text}\n\nThanks!")) == [f"Text:\n \n{text}\n\nThanks!"]


@given(st.text(alphabet="ab \n", max_size=500))
def test_nothing_of_a_text_is_left_out(text: str) -> None:
    assert "".join(windows(text)) == text


def test_windows_cover_a_long_paragraph_and_overlap() -> None:
    text = "".join(chr(0x4E00 + position % 20_000) for position in range(10_345))
    cut = list(windows(text))
    assert cut[0] + "".join(window[OVERLAP_CHARS:] for window in cut[1:]) == text
    assert all(len(window) <= WINDOW_CHARS for window in cut)
    assert all(len(window) > OVERLAP_CHARS for window in cut)


@pytest.mark.parametrize("chars", [0, 1, WINDOW_CHARS])
def test_a_short_text_is_one_window(chars: int) -> None:
    assert list(windows("x" * chars)) == ["x" * chars]


def test_grams_do_not_see_case_punctuation_or_spacing() -> None:
    one, other = grams("Hello, WORLD!"), grams(" hello\n\tworld__")
    assert one[0].tolist() == other[0].tolist()
    assert one[1].tolist() == other[1].tolist()


def test_gram_weights_have_unit_length_and_buckets_ascend() -> None:
    buckets, weights = grams("to be or not to be, that is the question")
    assert np.linalg.norm(weights) == pytest.approx(1.0)
    assert (np.diff(buckets) > 0).all()


def test_the_gram_hash_is_the_one_the_weights_were_trained_with() -> None:
    assert grams("abcd")[0].tolist() == [2676, 6671, 14924]


# -- training


def a_data_folder(folder: Path) -> Path:
    """Write samples in which each category has a word of its own, and ordinary prompts without them."""
    words = dict(zip(LABELS, ["zorg", "blik", "quax", "vumm", "drell", "yops", "fint", "gwah"], strict=True))
    samples = []
    for number in range(160):
        label = list(LABELS)[number % 8]
        offends = number % 16 < 8
        sample: dict[str, Any] = {"prompt": f"text {number} with {words[label] if offends else 'nothing'} inside"}
        sample |= {other: 0 for other in LABELS if (number + len(other)) % 3}
        samples.append(sample | {label: int(offends)})
    families = [
        {"template_id": f"t{number}", "template": f"Do {number} things with {{{{x}}}}.", "licence": "MIT"}
        for number in range(10)
    ]
    filled = [{"template_id": f"t{number % 10}", "text": f"Do {number} things with ease."} for number in range(50)]
    noise = [{"text": f"A question about subject {number}?"} for number in range(30)]
    (folder / "moderation").mkdir()
    (folder / "promptfamilies").mkdir()
    for path, rows in {
        "moderation/samples.jsonl": samples,
        "promptfamilies/families.jsonl": families,
        "promptfamilies/noise.jsonl": noise,
        "promptfamilies/main.jsonl.gz": filled,
    }.items():
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / path).write_bytes(gzip.compress(content) if path.endswith(".gz") else content)
    return folder


def test_training_learns_what_the_flags_say_and_gives_the_same_file_twice(tmp_path: Path) -> None:
    data = a_data_folder(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    for into in (first, second):
        into.mkdir()
        main(data, into)
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()
    trained = OfflineModerator(first)
    offending, harmless = trained.scores(["this text has drell inside", "this text has nothing inside"])
    assert trained.categories[int(offending.argmax())] == "sexual"
    assert offending.max() > 10 * harmless.max()
    card = json.loads((first / "weights.json").read_text())
    assert card["held_out"]["auc_mean"] > 0.9


def test_what_is_remembered_of_paragraphs_changes_no_score() -> None:
    paragraphs = [f"Paragraph {number}, about the weather in {number} towns of the north." for number in range(6)]
    texts = ["\n\n".join(paragraphs[start : start + 3]) for start in range(4)]
    remembering = OfflineModerator()
    together = remembering.scores([*texts, *texts])
    again = remembering.scores(texts)
    alone = [OfflineModerator().scores([text])[0] for text in texts]
    assert (together[:4] == alone).all()
    assert (together[4:] == alone).all()
    assert (again == alone).all()
