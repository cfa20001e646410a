"""Fragments of one template come together, siblings part, and turns of phrase are no templates: on real embeddings."""

from __future__ import annotations

import random

import pytest

from schemas.prompts import ClusterChangeKind
from tests.clustering import (
    NAMES,
    ROUTE,
    Feed,
    assignments,
    busy_stream,
    changes,
    filled,
    interleaved,
    reshaped_stream,
    turbulent_stream,
)

ARTICLE = "Read the article below and answer in one sentence.\nArticle: {text}\nQuestion: {ask}"
NOTICE = (
    "You write for {{name}}'s newsletter. Given the item {{thing}}, {task} in no more than eighty words, "
    "keep the price, and {ending} before you finish. Never mention other shops, and sign as the owner."
)
EXPERT = (
    "You are a {dialect} expert. Given a question, first write a correct query, then look at its results and return "
    "the answer. Unless told how many, ask for at most five rows, best ones first. Never ask for all columns, only for "
    "those that are needed, and wrap each name in double quotes. Use only names that the tables have, and mind which "
    "column is in which table. Use the {today} function for the current date, if the question says today. Do not "
    "explain the query, and do not repeat the question.\n\n"
    "Tables: {{name}}, {{thing}}\nQuestion: how many of {{thing}} does {{name}} have?"
)
ACTORS = (
    "I want you to act as a {thing}. You complain about {name}. Never leave your part. Begin with {number} jokes.",
    "I want you to act as the neighbour of {name}. My first question is about {thing}! Answer in verse, if you can.",
    "I want you to act as an auctioneer selling {thing}. {name} bids. Raise the price by {number} and cheer loudly.",
    "I want you to act as somebody who lost {thing}. Ask {name} for help. Cry. Then offer {number} coins as thanks.",
    "I want you to act as my diary. Today I met {name}, who showed me {thing}. Remember that. What would you say?",
    "I want you to act as a judge. {name} stole {thing}. Weigh {number} witnesses. Speak slowly, and decide nothing.",
)
# Templates with one document each between an opening and an ending of their own.
AROUND_A_DOCUMENT = (
    ("List every person named in the text.", "One name a line, in the order of appearance."),
    ("Turn this story into a telegram.", "No more than twenty words, and STOP after each thought."),
    ("Which claims in the passage could a reader check?", "Answer as a table with two columns."),
    ("Translate what follows into plain Dutch.", "Leave the names of places as they are."),
    ("You grade essays for a village school.", "Close with a mark between one and ten."),
    ("Here is a letter that came by mistake.", "Guess who wrote it, and give two reasons."),
    ("Write three quiz questions on this reading.", "Mark the right answer with a star."),
    ("Rewrite the paragraph for a child of six.", "Short words only, please."),
    ("Find what contradicts itself below.", "If nothing does, say so and stop."),
)


def homes(feed: Feed, texts: list[str], kind: list[str]) -> set[str | None]:
    feed.feed(texts)
    wanted = set(kind)
    return {home for text, home in zip(texts, feed.clusters()[-len(texts) :], strict=True) if text in wanted}


def test_prompts_about_two_documents_join_their_template_once_it_shows() -> None:
    stories = [" ".join(filled("{name} saw {thing}.", 12, seed=seed)) for seed in range(30)]
    asks = [f"How did {text}?" for text in filled("{name} come by {thing}", 44, seed=5)]
    hot = [ARTICLE.format(text=stories[number // 8], ask=asks[number]) for number in range(16)]
    varied = [ARTICLE.format(text=stories[2 + number], ask=asks[16 + number]) for number in range(28)]
    feed = Feed()
    home = homes(feed, [*hot, *varied], [*hot, *varied])
    assert changes(feed.steps, ClusterChangeKind.MERGED)
    assert len(home) == 1
    assert None not in home


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_document_that_many_templates_are_filled_with_keeps_none_of_their_prompts(seed: int) -> None:
    stories = [" ".join(filled("{name} saw {thing}.", 12, seed=number)) for number in range(109)]
    popular = stories.pop()
    hot = [f"{start}\n\n{popular}\n\n{end}" for start, end in AROUND_A_DOCUMENT] * 2
    families = [
        [f"{start}\n\n{stories[12 * family + number]}\n\n{end}" for number in range(12)]
        for family, (start, end) in enumerate(AROUND_A_DOCUMENT)
    ]
    texts = [*interleaved(hot, seed=seed), *interleaved(*families, seed=seed)]
    feed = Feed()
    feed.feed(texts)
    placed = [(text, home) for text, home in zip(texts, feed.clusters(), strict=True) if home is not None]
    assert {text for text, _ in placed} >= set(hot)
    pairs = {(text.partition("\n")[0], home) for text, home in placed}
    assert len(pairs) == len({home for _, home in pairs}) == len(AROUND_A_DOCUMENT)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_small_siblings_that_differ_at_several_places_part_in_any_order(seed: int) -> None:
    use = filled(NOTICE.format(task="describe what it was used for", ending="check the year twice"), 20)
    praise = filled(NOTICE.format(task="praise how well it was kept", ending="invite the reader to see it"), 20)
    texts = interleaved(use, praise, filled(ROUTE, 20), seed=seed)
    feed = Feed()
    feed.feed(busy_stream())
    one = homes(feed, texts, use)
    clusters = dict(zip(texts, feed.clusters()[-len(texts) :], strict=True))
    other = {clusters[text] for text in praise}
    assert len(one) == len(other) == 1
    assert one != other
    assert None not in one | other


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_siblings_that_differ_in_two_fixed_words_part(seed: int) -> None:
    passage = "Please write a {kind} passage to answer the question.\nQuestion: how old is {{thing}}?\nPassage:"
    science = filled(passage.format(kind="scientific paper"), 20)
    money = filled(passage.format(kind="financial article"), 20)
    texts = interleaved(science, money, filled(ROUTE, 20), seed=seed)
    feed = Feed()
    feed.feed(busy_stream())
    one = homes(feed, texts, science)
    clusters = dict(zip(texts, feed.clusters()[-len(texts) :], strict=True))
    other = {clusters[text] for text in money}
    assert len(one) == len(other) == 1
    assert one != other


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_long_siblings_that_differ_in_a_few_fixed_words_part_however_alike_their_meaning(seed: int) -> None:
    siblings = [
        filled(EXPERT.format(dialect=dialect, today=today), 20, seed=seed)
        for dialect, today in (("SQLite", "date('now')"), ("DuckDB", "today()"), ("CrateDB", "CURRENT_DATE"))
    ]
    texts = interleaved(*siblings, filled(ROUTE, 20), seed=seed)
    feed = Feed()
    feed.feed(busy_stream())
    feed.feed(texts)
    clusters = dict(zip(texts, feed.clusters()[-len(texts) :], strict=True))
    found = [{clusters[text] for text in sibling} for sibling in siblings]
    assert [len(one) for one in found] == [1, 1, 1]
    assert len(set.union(*found) - {None}) == 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_last_sentence_after_a_long_value_makes_a_template_of_its_own(seed: int) -> None:
    choice = "Choices are given below, numbered, one on each line.\n----\n{thing}\n{name}\n----\nUse only them.\n{ask}"
    asks = [f"Which suits '{' '.join(filled('{name} with {thing}', 9, seed=number))}'?" for number in range(40)]
    plain = [choice.format(thing=asks[-number], name=asks[number - 9], ask=asks[number]) for number in range(20)]
    longer = [choice.format(thing=asks[-number], name=asks[number - 9], ask=asks[number]) for number in range(20, 40)]
    longer = [f"{text}\nAnswer with the number alone, and give your reason on the next line." for text in longer]
    texts = interleaved(plain, longer, filled(ROUTE, 20), seed=seed)
    feed = Feed()
    feed.feed(busy_stream())
    one = homes(feed, texts, plain)
    clusters = dict(zip(texts, feed.clusters()[-len(texts) :], strict=True))
    other = {clusters[text] for text in longer}
    assert len(one) == len(other) == 1
    assert one != other


def test_fragments_of_a_template_without_ends_of_its_own_come_together() -> None:
    template = (
        "{text}\nAccording to the story above, choose the best option to answer the following question.\n"
        "Question: {ask}\nOptions:\nA. {one}\nB. {two}\nC. {three}"
    )
    stories = [" ".join(filled("{name} saw {thing}.", 6, seed=300 + number)) for number in range(18)]
    asks = filled("How did {name} come by {thing}?", 18, seed=3)
    # Twelve know no reason, six do: each kind has wording of its own among the values.
    reasons = ["None of the above choices ."] * 12 + filled("Because I {name} and {thing} .", 6, seed=3)
    ones, threes = filled("{name} and {thing}", 18, seed=3), filled("{other} of {thing}", 18, seed=3)
    texts = [
        template.format(text=text, ask=ask, one=one, two=two, three=three)
        for text, ask, one, two, three in zip(stories, asks, ones, reasons, threes, strict=True)
    ]
    home = homes(Feed(), interleaved(texts, seed=3), texts)
    assert len(home) == 1
    assert None not in home


def test_prompts_that_merely_begin_alike_found_no_cluster() -> None:
    actors = [text for seed in (1, 2) for actor in ACTORS for text in filled(actor, 1, seed=seed)]
    feed = Feed()
    feed.feed(busy_stream())
    feed.feed(actors[: len(ACTORS)])
    assert set(feed.clusters()[-len(ACTORS) :]) == {None}


def test_a_short_template_with_a_value_at_its_end_is_no_turn_of_phrase() -> None:
    feed = Feed()
    lines = filled("Name three uses of {thing}:\n{name} and {other} disagree. Settle it.", 12)
    home = homes(feed, [*busy_stream(), *lines], lines)
    assert len(home) == 1
    assert None not in home


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_fits_one_template_comes_together_however_it_is_shuffled(seed: int) -> None:
    texts = interleaved(reshaped_stream(), seed=seed)
    feed = Feed()
    feed.feed(texts)
    expected = Feed()
    expected.feed(reshaped_stream())
    same = dict(zip(reshaped_stream(), expected.clusters(), strict=True))
    pairs = {(same[text], home) for text, home in zip(texts, feed.clusters(), strict=True)}
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def test_the_gate_that_decided_is_named() -> None:
    feed = Feed()
    feed.feed([*turbulent_stream(), *reshaped_stream()])
    gates = {one.decision.gate for one in assignments(feed.steps)}
    assert gates >= {"none", "structure", "moved"}
    for one in assignments(feed.steps):
        if one.decision.gate == "tie":
            assert one.decision.nearest_meaning >= one.decision.second_meaning
            assert "alike" in one.reasoning


@pytest.mark.parametrize(
    "template",
    [
        "Summarize order {number} for customer {name}.",
        "Translate sentence {number} of chapter {number}",
        "Please start the machine {number} in hall {hall}.",
        "Give {name} a lesson of {number} minutes.",
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_short_template_with_a_number_and_a_value_that_repeats_is_one_cluster(template: str, known: bool) -> None:
    chance = random.Random(template)  # noqa: S311  test data, not secrets
    texts = [
        template.replace("of chapter {number}", f"of chapter {chance.randint(1, 40)}").format(
            number=chance.randint(1, 9_999), name=chance.choice(NAMES), hall=chance.choice("ABCDEF")
        )
        for _ in range(40)
    ]
    feed = Feed()
    feed.feed(busy_stream() if known else ())
    home = homes(feed, texts, texts)
    assert len(home) == 1
    assert None not in home


def test_short_instructions_that_begin_with_opposite_verbs_stay_two_clusters() -> None:
    chance = random.Random(1)  # noqa: S311  test data, not secrets
    start, stop = (
        [f"Please {verb} the machine {chance.randint(1, 500)} in hall {chance.choice('ABCDEF')}." for _ in range(100)]
        for verb in ("start", "stop")
    )
    feed = Feed()
    texts = interleaved(start, stop)
    one = homes(feed, texts, start)
    clusters = dict(zip(texts, feed.clusters(), strict=True))
    other = {clusters[text] for text in stop}
    assert len(one) == len(other) == 1
    assert one != other


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_length_in_words_or_in_a_number_of_words_does_not_split_its_template(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  test data, not secrets
    lengths = ("100 words", "250 words", "800 words", "1000 words", "short")
    texts = [
        f'Summarise the article titled "{title}" for the shop.\n- Name the main point\n'
        f"- Provide a summary with a {chance.choice(lengths)} length\nStay polite, and do not add opinions of your own."
        for title in filled("{thing} and {name}", 60, seed=seed)
    ]
    feed = Feed()
    feed.feed(busy_stream())
    home = homes(feed, texts, texts)
    assert len(home) == 1
    assert None not in home
