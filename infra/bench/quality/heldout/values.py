"""Draw slot values for the held-out templates.

Long text is documentation and code that people wrote (`installed.py`), names and short foreign texts are Faker's,
questions and the like are short frames around them (`phrases.yaml`).

Rules
  1. Some documents are asked about again and again: passages are not drawn evenly.
  2. A value never begins or ends with white space, and holds no `{{`, so that it cannot look like a slot.
  3. No word is in all values of a kind: it would be a constant, and the template without it wrong.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

import yaml
from faker import Faker

from infra.bench.quality.heldout.installed import SENTENCE_CHARS, documents_and_functions, sentences

PASSAGE_CHARS_MAX = 1_800
GIST_CHARS_MAX = 90
FIRST_DAY, DAYS = date(2019, 1, 1), 2_800
NUMBERS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 40, 50, 100, 250)
ENGLISH = "en"
LOCALES = {
    "en": "en_GB",
    "de": "de_DE",
    "fr": "fr_FR",
    "es": "es_ES",
    "ja": "ja_JP",
    "zh": "zh_CN",
    "ru": "ru_RU",
    "ko": "ko_KR",
}
COMPANY_MARKS = ("有限公司", "株式会社")  # Faker's companies always bear one (rule 3)
NAME = re.compile(r"\{(\w+)\}")


class Values:
    """Draws values by kind; the same seed and calls give the same values."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._phrases: dict[str, list[str]] = yaml.safe_load(
            (Path(__file__).parent / "phrases.yaml").read_text(encoding="utf-8")
        )
        self._fakers = {language: _faker(locale, random) for language, locale in LOCALES.items()}
        documents, self._functions = documents_and_functions()
        random.shuffle(documents)
        random.shuffle(self._functions)
        # Every tenth document is kept for one-off prompts: none of them is a slot value, too.
        self._documents, self.others = documents[len(documents) // 10 :], documents[: len(documents) // 10]
        self._sentences = [line for document in self._documents for line in sentences(document)]
        self._gists = [gist for line in self._sentences if (gist := self._gist(line))]
        self._own: dict[str, Callable[[], str]] = {
            "passage": self._passage,
            "sentence": lambda: random.choice(self._sentences),
            "gist": lambda: random.choice(self._gists),
            "code": self._code,
            "diff": self._diff,
            "schema": self._schema,
            "history": self._history,
            "list": self._list,
            "record": self._record,
            "number": lambda: str(random.choice([*NUMBERS, random.randint(2, 999)])),
            "date": self._date,
            "time": lambda: f"{random.randint(7, 19):02}:{random.choice((0, 15, 30, 45)):02}",
            "business": lambda: str(self._fakers[ENGLISH].bs()),
            "job": lambda: str(self._fakers[ENGLISH].job()).lower(),
        }

    def draw(self, kind: str) -> str:
        """Return one value of a kind that a template names: own, a phrase, or a Faker method with a language."""
        if kind in self._own:
            value = self._own[kind]()
        elif kind in self._phrases:
            value = NAME.sub(lambda match: self.draw(match[1]), self._phrase(kind))
        else:
            value = self._fake(kind)
        return value.strip().replace("{{", "{ {").replace("}}", "} }")

    def _phrase(self, kind: str) -> str:
        return self._random.choice(self._phrases[kind])

    def _fake(self, kind: str) -> str:
        method, _, language = kind.rpartition("_")
        if language not in self._fakers:
            method, language = kind, ENGLISH
        faker = self._fakers[language]
        value = faker.text(self._random.randint(60, 300)) if method == "text" else getattr(faker, method)()
        for mark in COMPANY_MARKS:
            if self._random.random() < 0.5:
                value = value.replace(mark, "")
        return ", ".join(str(value).splitlines()) if method == "address" else str(value)

    def _date(self) -> str:
        day = FIRST_DAY + timedelta(days=self._random.randrange(DAYS))
        return day.strftime(self._phrase("date_format"))

    def _passage(self) -> str:
        paragraphs = self._popular(self._documents).split("\n\n")
        start = self._random.randrange(max(1, len(paragraphs) - 2))
        taken = paragraphs[start : start + self._random.randint(1, 4)]
        if sum(map(len, taken)) < SENTENCE_CHARS[1]:
            taken += self._random.sample(self._sentences, 3)
        return "\n\n".join(taken)[:PASSAGE_CHARS_MAX]

    def _code(self) -> str:
        function = self._popular(self._functions)
        way = self._random.randrange(4)
        if way == 1:
            return textwrap.dedent("\n".join(function.splitlines()[1:]))  # its body
        if way == 2:
            return f"import {self._phrase('module')}\n\n\n{function}"
        if way == 3:
            return f"class {self._phrase('table').title()}:\n" + textwrap.indent(function, "    ")
        return function

    def _diff(self) -> str:
        lines = self._code().splitlines()
        at = self._random.randrange(len(lines))
        marked = [("-" if number == at else " ") + line for number, line in enumerate(lines)]
        marked.insert(at + 1, f"+{lines[at]}  # {self.draw('gist')}")
        return "\n".join(marked[max(0, at - 4) : at + 6])

    def _schema(self) -> str:
        columns = self._random.sample(self._phrases["column"], self._random.randint(2, 6))
        if self._random.random() < 0.5:
            body = ", ".join(f"{name} {self._phrase('column_type')}" for name in columns)
            return f"CREATE TABLE {self._phrase('table')} ({body})"
        fields = {name: {"type": self._phrase("json_type")} for name in columns}
        return json.dumps({"title": self._phrase("table").title(), "properties": fields, "required": columns[:1]})

    def _history(self) -> str:
        asking, answering = self._phrase("speakers").split("/")
        turns = range(self._random.randint(1, 4))
        return "\n".join(f"{asking}: {self.draw('question')}\n{answering}: {self.draw('answer')}" for _ in turns)

    def _list(self) -> str:
        lines = self._random.sample(self._sentences, self._random.randint(2, 7))
        mark = self._random.choice(("- ", "{}. ", "({}) "))
        return "\n".join(mark.format(number) + line for number, line in enumerate(lines, 1))

    def _record(self) -> str:
        kinds = self._random.sample(["name", "company", "city", "date", "number"], self._random.randint(3, 5))
        return json.dumps({kind: self.draw(kind) for kind in kinds})

    def _gist(self, sentence: str) -> str | None:
        """Return a sentence such as "Compute the mean." as what one may want to do."""
        verb, _, rest = sentence.partition(" ")
        fits = verb in self._phrases["imperative"] and len(sentence) <= GIST_CHARS_MAX
        return f"{verb.lower()} {rest.rstrip('.')}" if fits else None

    def _popular(self, values: Sequence[str]) -> str:
        """Draw with a preference for the first ones: the first hundredth is drawn a tenth of the times."""
        return values[int(len(values) * self._random.random() ** 2)]


def _faker(locale: str, random: Random) -> Faker:
    faker = Faker(locale)
    faker.seed_instance(random.getrandbits(32))
    return faker
