"""Learn a template from texts that were filled from it.

Pure. What all texts share (`alignment.py`) becomes constants; where only some of the texts could be compared, what the
others lack is cut from them again; what stands beside a slot is given to the side it belongs to (`tidying.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streams.prompts.canonicalization.alignment import Alignment, align
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tidying import tidy
from streams.prompts.canonicalization.tokens import Numbered, Tokens, affordable, tokenize, without_strangers

ANYTHING = Template(("", ""))
NOTHING_SHARED = Alignment((), starts_with_run=False, ends_with_run=False)
LACKED_SHARE_MAX = 0.1  # of the constants that a text of the template may lack; with more it is a stranger
EDGE_TOKENS_MAX = 3  # of a constant that were taken for its own because the texts compared all had them


def learn(texts: Sequence[str], known: Template | None = None) -> Template:
    """Return the template of texts filled from one, its slots not named yet.

    Where a known template reads all the texts, its constants stand, and only what is in its slots is compared.
    """
    different = sorted(set(texts), key=lambda text: (len(text), text))
    if len(different) == 1:
        return Template((different[0],))
    columns = known.columns(different) if known is not None else []
    if known is not None and _are_of_all(columns, different):
        template = _with_shared(known, [_shared(values) for values in columns])
        if template.constants == known.constants:
            return tidy(template, columns, different)
    else:
        template = _with_shared(ANYTHING, [_shared_by_most(different)])
    columns = template.columns(different)
    if template.slots and not _are_of_all(columns, different):
        template = _held_by_all(template, different)
        columns = template.columns(different)
    return tidy(template, columns, different)


def _are_of_all(columns: Sequence[Sequence[str]], texts: Sequence[str]) -> bool:
    """Tell whether a template reads all texts, given what it read."""
    return bool(columns) and len(columns[0]) == len(texts)


def _shared(values: Sequence[str]) -> Alignment | None:
    """Return what all values of a slot share, or None if it was no slot at all."""
    if not any(values):
        return None
    return align(Numbered(affordable(Tokens(values)))) if all(values) else NOTHING_SHARED


def _shared_by_most(texts: Sequence[str]) -> Alignment:
    """Return what all texts but strangers share."""
    chosen = affordable(Tokens(texts))
    numbered = Numbered(chosen)
    kept = without_strangers(numbered)
    compared = chosen if len(kept) == len(chosen.texts) else Tokens([chosen.texts[index] for index in kept])
    if not all(compared.texts):
        return NOTHING_SHARED
    fewer = affordable(compared)
    return align(numbered if fewer is chosen else Numbered(fewer))


def _held_by_all(template: Template, texts: Sequence[str]) -> Template:
    """Cut from the inner constants what some text of the template lacks: not all texts were compared."""
    first, *inner, last = template.constants
    most = (1 - LACKED_SHARE_MAX) * sum(map(len, inner))
    for text in texts:
        if template.parse(text) is not None:
            continue
        held, at = [], len(first)
        for constant in inner:
            part = next((part for part in _parts(constant) if text.find(part, at, len(text) - len(last)) >= 0), "")
            if part:
                held.append(part)
                at = text.find(part, at) + len(part)
        if sum(map(len, held)) >= most:
            inner = held
            template = Template((first, *inner, last))
    return template


def _parts(constant: str) -> Iterator[str]:
    """Yield a constant, then what is left of it without a few tokens at its edges."""
    tokens = tokenize(constant)
    for cut in range(min(EDGE_TOKENS_MAX, len(tokens) - 1) + 1):
        for before in range(cut + 1):
            yield "".join(tokens[before : len(tokens) - cut + before])


def _with_shared(template: Template, columns: Sequence[Alignment | None]) -> Template:
    """Make constants of what all values of a slot share; None stands for no slot at all."""
    constants = [template.constants[0]]
    for shared, behind in zip(columns, template.constants[1:], strict=True):
        if shared is None:
            constants[-1] += behind
            continue
        runs = list(shared.runs)
        if len(runs) == 1 and shared.starts_with_run and shared.ends_with_run:
            constants[-1] += runs[0] + behind
            continue
        if shared.starts_with_run:
            constants[-1] += runs.pop(0)
        tail = runs.pop() if shared.ends_with_run else ""
        constants += [*runs, tail + behind]
    return Template(tuple(constants))
