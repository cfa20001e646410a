"""Write one slot value from the phrase grammar in `phrases.yaml`.

A rule is a set of productions; `@{rule}` inside one expands another rule, drawn at random.
Values must look like traffic, not like a template of their own: a production that is long
and rarely varied would be taken for constant text by any template miner, and rightly so.

Built-in expansions:
    @{int LOW HIGH}            a number
    @{date FORMAT}             a day of the year the data set plays in
    @{faker METHOD [LOCALE]}   a value of Faker (MIT), en_US unless a locale is named
    @{many LOW HIGH RULE}      that many different expansions of RULE, with a space between
    @{list LOW HIGH RULE}      the same with a comma
    @{lines LOW HIGH RULE}     the same with a line break
    @{Cap RULE}                the first letter raised
    @{NAME:=RULE}              expands RULE and remembers it as @{NAME} for the rest of the prompt
    @{by NAME RULE}            the rule RULE_<value of NAME>, e.g. code_python

Intuition: mad libs with a dictionary big enough that no two come out alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from random import Random

import yaml
from faker import Faker

EXPANSION = re.compile(r"@\{([^{}]*)\}")
FIRST_DAY = date(2026, 1, 5)
DAYS = 330
EN = "en_US"
JOINERS = {"many": " ", "list": ", ", "lines": "\n"}
# Draws of one list before it is left shorter: a rule may have fewer expansions than asked for.
DRAWS_MAX = 40


def read_rules(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the productions of each rule: the lines of a block, or the parts between ` | `."""
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: tuple(part for part in (text.splitlines() if "\n" in text else text.split(" | ")) if part)
        for name, text in rules.items()
    }


class Grammar:
    """Expands rules; the same seed and the same calls give the same values."""

    def __init__(self, rules: Mapping[str, tuple[str, ...]], random: Random) -> None:
        self._rules = rules
        self._random = random
        self._fakers: dict[str, Faker] = {}
        self._builtins: dict[str, Callable[[str, dict[str, str]], str]] = {
            "int": self._int,
            "date": self._date,
            "faker": self._faker,
            "Cap": self._capitalised,
            "by": self._by,
            **{name: self._several(joiner) for name, joiner in JOINERS.items()},
        }

    def expand(self, text: str, remembered: dict[str, str]) -> str:
        """Return `text` with every expansion replaced; names remembered are added to `remembered`."""
        return EXPANSION.sub(lambda match: self._one(match[1], remembered), text)

    def _one(self, expression: str, remembered: dict[str, str]) -> str:
        name, bound, rule = expression.partition(":=")
        if bound:
            remembered[name] = self._one(rule, remembered)
            return remembered[name]
        if expression in remembered:
            return remembered[expression]
        word, _, rest = expression.partition(" ")
        if word in self._builtins:
            return self._builtins[word](rest, remembered)
        production = self._random.choice(self._rules[expression])
        return self.expand(production.replace("\\n", "\n").replace("\\t", "\t"), remembered)

    def _int(self, bounds: str, _remembered: dict[str, str]) -> str:
        low, high = bounds.split()
        return str(self._random.randint(int(low), int(high)))

    def _date(self, form: str, _remembered: dict[str, str]) -> str:
        return (FIRST_DAY + timedelta(days=self._random.randrange(DAYS))).strftime(form)

    def _faker(self, call: str, _remembered: dict[str, str]) -> str:
        method, *rest = call.split()
        locale = rest[0] if rest else EN
        if locale not in self._fakers:
            self._fakers[locale] = Faker(locale)
            self._fakers[locale].seed_instance(self._random.getrandbits(32))
        return str(getattr(self._fakers[locale], method)()).replace("\n", ", ")

    def _capitalised(self, rule: str, remembered: dict[str, str]) -> str:
        value = self._one(rule, remembered)
        return value[:1].upper() + value[1:]

    def _by(self, arguments: str, remembered: dict[str, str]) -> str:
        name, rule = arguments.split()
        return self._one(f"{rule}_{remembered[name].lower()}", remembered)

    def _several(self, joiner: str) -> Callable[[str, dict[str, str]], str]:
        def draw(arguments: str, remembered: dict[str, str]) -> str:
            low, high, rule = arguments.split(maxsplit=2)
            wanted = self._random.randint(int(low), int(high))
            drawn: dict[str, None] = {}  # keeps the order of the draws
            for _ in range(DRAWS_MAX):
                if len(drawn) == wanted:
                    break
                drawn[self._one(rule, remembered)] = None
            return joiner.join(drawn)

        return draw
