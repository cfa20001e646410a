"""Slots: names from context, types from values, statistics in bounded space."""

from __future__ import annotations

import pytest

from schemas.events import SlotType
from streams.prompts.canonicalization.slot_names import name_slots
from streams.prompts.canonicalization.slot_types import type_of
from streams.prompts.canonicalization.slots import (
    KEPT_HASHES,
    TOP_VALUES,
    Sketch,
)
from streams.prompts.canonicalization.template import Template
from tests.canonical import dice


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("Title: ", "\n", "title"),
        ("Review text:\n", "\n", "review_text"),
        ("<document>\n", "\n</document>", "document"),
        ('{"user_id": "', '"}', "user_id"),
        ("[Submission]: ", "\n", "submission"),
        ("[BEGIN TEXT]\n", "\n[END TEXT]", "text"),
        ("- ", " - The target audience of it", "target_audience"),
        ("单词: ", "\n", "单词"),
        ("Translate this into ", " please", "translate_into"),
        ("", "", "slot_1"),
    ],
)
def test_a_slot_is_named_by_its_context(before: str, after: str, name: str) -> None:
    assert name_slots(Template((before, after))).names == (name,)


ORDERS, WORDS, PEOPLE, PLACES = ["17", "204", "9"], ["one thing", "some other"], ["Ann", "Bo"], ["Oslo", "Porto"]


@pytest.mark.parametrize(
    ("prompt", "values", "name"),
    [
        # Of a number: what is counted if it follows at once, or else the noun before it.
        ("Summarize order _ for customer Carol.", ORDERS, "order"),
        ("Translate sentence _ of chapter 4.", ORDERS, "sentence"),
        ("Please start the machine _ in hall B.", ORDERS, "machine"),
        ("Answer in at most _ words.", ORDERS, "number_of_words"),
        ("Give me _ bullet points on it.", ORDERS, "number_of_points"),
        ("Are the following _ texts diverse?", ORDERS, "number_of_texts"),
        # A preposition belongs to the name: what is in it is not what stands before it.
        ("What is the weather in _ on Monday?", PLACES, "weather_in"),
        ("What is the capital of _?", PLACES, "capital_of"),
        ("Write an email to _ about it.", PEOPLE, "email_to"),
        ("Write an email to Ann about _.", WORDS, "topic"),
        ("Schreibe einen Brief an Ann über das Wetter in _ von heute.", PLACES, "wetter_in"),
        ("_ to _.", PLACES, "to"),
        # Across a colon, a conjunction or a question word begins another clause.
        ("Explain to children of ten years how _", WORDS, "text"),
        ("Question: how _", WORDS, "question"),
        ("Choose red and _", WORDS, "text"),
        # Of a label that is an instruction: what the instruction is about.
        ("Summarize the text in three sentences: _", WORDS, "text"),
        ("Translate the following context to French: _", WORDS, "context"),
        ("An answer that someone wrote to the following question: _", WORDS, "question"),
        ("- _ - the language in which you answer", WORDS, "language"),
        ("- _ - the name of the user", WORDS, "name_user"),
        # Without spaces: what follows the last particle.
        ("我的第一个请求是“_”", WORDS, "第一个请求"),
        ("我的第一个建议请求是_", WORDS, "第一个建议请求"),
        ("把下面的句子翻译成_。", WORDS, "句子翻译成"),
        ("把下面的句子翻译成_。", ["英语", "法语"], "language"),
    ],
)
def test_a_slot_is_named_by_the_words_it_belongs_to(prompt: str, values: list[str], name: str) -> None:
    template = Template(tuple(prompt.split("_")))
    assert name_slots(template, [prompt.replace("_", value) for value in values]).names[-1] == name


def test_names_are_unique() -> None:
    assert name_slots(Template(("Name: ", "\nName: ", ""))).names == ("name", "name_2")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "22", "-3", "4,000"], SlotType.INTEGER),
        (["1.5", "2", "3e8", "40 %"], SlotType.NUMBER),
        (["2024-01-31", "31.1.2024", "January 31, 2024"], SlotType.DATE),
        (["11:46", "7 pm", "23:59:59"], SlotType.TIME),
        (["https://a.b/c", "http://x.y"], SlotType.URL),
        (["a.b@c.de", "x@y.org"], SlotType.EMAIL),
        (["/usr/bin/env", "src/main.py", "C:\\temp\\x"], SlotType.PATH),
        (['{"a": 1}', "[1, 2]"], SlotType.JSON),
        (["English", "german", "日本語"], SlotType.LANGUAGE),
        (["Ann Lee", "Bo", "Carla de Souza"], SlotType.NAME),
        (["a few words", "some more words"], SlotType.TEXT_SHORT),
        (["long " * 50, "longer " * 60], SlotType.TEXT_LONG),
    ],
)
def test_a_type_is_what_the_values_have_in_common(values: list[str], expected: SlotType) -> None:
    assert type_of(values)[0] is expected


def test_an_enum_lists_its_values() -> None:
    assert type_of(["red", "green"] * 4) == (SlotType.ENUM, {"values": ["green", "red"]}, 1.0)


def test_code_says_its_language() -> None:
    values = [f"def f{n}(x):\n    return x + {n}\nprint(f{n}(1))" for n in range(5)]
    assert type_of(values)[:2] == (SlotType.CODE, {"language": "python"})


def test_a_sketch_takes_bounded_space_and_counts_about_right() -> None:
    chance = dice(3)
    sketch = Sketch()
    for _ in range(20_000):
        sketch.add(f"v{min(chance.randrange(5_000), chance.randrange(5_000))}" if chance.random() < 0.7 else "often")
    assert (len(sketch.hashes), len(sketch.top)) == (KEPT_HASHES, 2 * TOP_VALUES)
    assert sketch.summary()["top"][0][0] == "often"
    assert 3_000 < sketch.distinct() < 7_500


@pytest.mark.parametrize("different", [12, 30, 300])
def test_the_most_frequent_values_are_counted_as_if_all_were_looked_through_also_after_a_restore(
    different: int,
) -> None:
    chance = dice(different)
    sketch, plain = Sketch(), dict[str, int]()
    for _ in range(3_000):
        value = f"v{min(chance.randrange(different), chance.randrange(different))}"
        sketch.add(value)
        if value not in plain and len(plain) == 2 * TOP_VALUES:
            least = min(plain, key=lambda known: (plain[known], known))
            plain[value] = plain.pop(least)
        plain[value] = plain.get(value, 0) + 1
        assert list(sketch.top.items()) == list(plain.items())
        if chance.random() < 0.01:
            sketch = Sketch(top=dict(sketch.top))
