"""Templates: learnt from texts, read and filled without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.prompts.canonicalization.learning import learn
from streams.prompts.canonicalization.slot_names import name_slots
from streams.prompts.canonicalization.template import Template, fill
from streams.prompts.canonicalization.tokens import tokenize, without_middle
from tests.canonical import dice, letters

LETTERS = "abcdefghijklmn"
MONTHS = ("January", "March", "April", "June", "October")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
CONSTANTS = st.lists(TEXT.filter(bool), min_size=1, max_size=4)


def shown(*texts: str) -> str:
    template = learn(texts)
    return template.named([str(number) for number in range(template.slots)]).show()


@given(TEXT)
def test_tokens_lose_nothing(text: str) -> None:
    assert "".join(tokenize(text)) == text


@given(CONSTANTS, st.data())
def test_a_filled_template_is_read_and_filled_again_byte_for_byte(constants: list[str], data: st.DataObject) -> None:
    template = name_slots(Template(("", *constants, "")))
    text = "".join(data.draw(TEXT) + constant for constant in constants) + data.draw(TEXT)
    values = template.parse(text)
    assert values is not None, "a text made from the template is always read"
    assert fill(template.show(), dict(zip(template.names, values, strict=True))) == text


@given(st.lists(TEXT, min_size=1, max_size=8))
def test_whatever_is_learnt_reads_what_it_was_learnt_from_or_refuses(texts: list[str]) -> None:
    template = name_slots(learn(texts))
    for text in texts:
        values = template.parse(text)
        if values is not None:
            assert fill(template.show(), dict(zip(template.names, values, strict=True))) == text


def test_what_all_texts_share_is_constant_and_the_rest_are_slots() -> None:
    assert shown(*letters(20)) == "Write a {{0}} letter to {{1}} about {{2}}, please.\nThank you."


@pytest.mark.parametrize("known", [None, Template(("Read this file of mine:\n", "."))])
def test_what_a_text_lacks_that_was_not_compared_is_no_constant(known: Template | None) -> None:
    """Nineteen texts of 300 words are too long to compare them all; the second one is left out."""
    chance = dice(7)
    subjects = [f"old {word}" for word in LETTERS] + ["old oak", "old pea", "old rye", "old tea", "old yew"]
    bodies = [" ".join(chance.choices(LETTERS, k=300)) for _ in subjects]
    pairs = enumerate(zip(bodies, subjects, strict=True))
    ask = "Read this file of mine:\n{}\nNow say in one short line who wrote the file above, and why. Subject: {}."
    texts = [ask.format(f"{number:02d} {body}", subject) for number, (body, subject) in pairs]
    others = [
        text.replace("Subject: old", "Subject: new") if number == 1 else text for number, text in enumerate(texts)
    ]
    assert learn(texts, known).constants[1].endswith("Subject: old ")
    assert learn(others, known).constants[1].endswith("Subject: ")
    assert all(learn(others, known).parse(text) is not None for text in others)


def test_white_space_and_line_breaks_are_kept() -> None:
    texts = [f"  Title:\t{word}\n\n\nText:   {word * 3} \n" for word in ("alpha", "gamma", "omega", "sigma", "theta")]
    assert shown(*texts) == "  Title:\t{{0}}\n\n\nText:   {{1}} \n"


def test_a_script_without_spaces_is_aligned_by_character() -> None:
    texts = [
        f"我想让你做{role}。我的第一个问题是“{role}在哪里工作？”" for role in ("医生", "律师", "老师", "厨师", "会计")
    ]
    assert shown(*texts) == "我想让你做{{0}}。我的第一个问题是“{{1}}在哪里工作？”"


def test_a_slot_takes_many_words_and_lines() -> None:
    values = ["one line", "two\nlines of it", "three\n\nlines\nhere", "none", "and a very long one " * 20]
    texts = [f"Summarize the text below.\n---\n{value}\n---\nSummary:" for value in values]
    assert shown(*texts) == "Summarize the text below.\n---\n{{0}}\n---\nSummary:"


def test_a_list_of_slots_keeps_its_dashes() -> None:
    texts = [f"Facts:\n- {n}x\n- {n * 7}y\n- {n * 31}z\nUse all facts." for n in range(101, 115)]
    assert shown(*texts).count("\n- ") == 3


def test_a_sentence_in_a_slot_keeps_its_full_stop() -> None:
    reviews = [
        "It rained all day. I liked it anyway.",
        "Too loud. Never again.",
        "The cook came out. He sang for us. What a day.",
        "Fine food. Small rooms, though.",
        "We waited an hour. Then we left.",
    ]
    template = learn([f"Review: {review}\nStars?" for review in reviews])
    assert template.constants == ("Review: ", "\nStars?")


def test_a_bracket_opened_in_a_slot_is_closed_in_it() -> None:
    texts = [f"Schema: CREATE TABLE {name} (id int)\nQuery?" for name in ("dogs", "birds", "cats", "cows", "rats")]
    value = learn(texts).parse(texts[0])
    assert value is not None
    assert value[-1].count("(") == value[-1].count(")")


def test_texts_with_two_documents_only_keep_the_documents_out_of_the_template() -> None:
    documents = ["The war had begun in the east of the land and the king was away.",
                 "A fox went over the hill, and the sun was low, so the king slept."]  # fmt: skip
    asked = ["Who?", "When was it then?", "Where is he gone?", "Why so?", "What did the fox do?"]
    texts = [f"Plot: {documents[n % 2]}\nQuestion: {question}" for n, question in enumerate(asked)]
    assert shown(*texts).startswith("Plot: {{0}}\nQuestion: {{1}}")


def test_a_stranger_among_the_texts_does_not_spoil_the_template() -> None:
    assert learn([*letters(12), "something else entirely"]).constants == learn(letters(12)).constants


def test_one_text_alone_is_its_own_template() -> None:
    assert learn(["same", "same"]) == Template(("same",))


@pytest.mark.parametrize("literal", ["{{name}}", "{{ name }}", "{{0}}", "{{", "}}", "{{{x}}}"])
def test_literal_braces_stay_literal(literal: str) -> None:
    texts = [f"Dear {literal}, name: {value}!" for value in ("Ann", "Bob", "Cid", "Dan", "Eve")]
    template = name_slots(learn(texts))
    for text in texts:
        values = template.parse(text)
        assert values is not None
        assert fill(template.show(), dict(zip(template.names, values, strict=True))) == text


def test_a_slot_is_never_named_like_a_literal() -> None:
    texts = [f"Replace {{{{language}}}} here. Language: {value}" for value in ("Ada", "Zig", "Lua", "Elm", "Nim")]
    assert "language" not in name_slots(learn(texts)).names


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (
            [f"Daily report - 2026-{n % 12 + 1:02}-{n + 1:02}\nTasks:" for n in range(14)],
            "Daily report - {{0}}\nTasks:",
        ),
        (
            [f"When: {n + 1:02} {MONTHS[n % 5]} 2026\nWhere: hall {n * 7}" for n in range(14)],
            "When: {{0}}\nWhere: hall {{1}}",
        ),
        ([f'Record: {{"{LETTERS[n]}": {n}}}\nStory:' for n in range(14)], "Record: {{0}}\nStory:"),
        (
            [f"Translate to {'American ' * (n % 2)}English: text {LETTERS[n]}" for n in range(14)],
            "Translate to {{0}}: text {{1}}",
        ),
    ],
    ids=["the year of a date before", "the year of a date behind", "the braces of an object", "an optional word"],
)
def test_what_all_values_share_stays_with_them_where_they_are_nothing_without_it(
    texts: list[str], expected: str
) -> None:
    assert shown(*texts) == expected


def test_a_number_in_the_wording_is_no_part_of_a_date() -> None:
    texts = [f"Page {n * 37} of 2026 pages, {LETTERS[n]}." for n in range(14)]
    assert shown(*texts).startswith("Page {{0}} of 2026")


def test_a_template_learnt_from_some_of_many_long_texts_reads_all_of_them() -> None:
    chance = dice(7)
    words = [chance.randbytes(4).hex() for _ in range(3_000)]
    texts = []
    for number in range(30):
        document, question = (" ".join(chance.choices(words, k=count)) for count in (900, 4))
        texts.append(f"Read this:\n{document}{'.' * (number % 9 > 0)}\n\nQuestion: {question}?")
    template = learn(texts)
    assert all(template.parse(text) is not None for text in texts)
    assert template.constants[0] == "Read this:\n"
    assert any("Question: " in constant for constant in template.constants)


def test_no_constant_runs_across_what_was_left_out_of_a_text() -> None:
    texts = [without_middle(f"Begin {n * 7919} " + "same words " * 900 + f"end {n * 31}", 4_000) for n in range(12)]
    template = learn(texts)
    rows = [template.parse(text) for text in texts]
    assert all(row and any("\ufdd0" in value for value in row) for row in rows), "the gap is within a slot"
    whole = f"Begin 5 {'same words ' * 900}end 7"
    assert template.parse(whole) is not None, "the whole text is read, its middle in a slot"
