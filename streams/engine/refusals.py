"""A service refused a batch: which of its texts are to blame, if any?

A gateway may decline a request for the content of one prompt in it (a firewall's 403), or decline every
request (a wrong key). The first must not hold a partition for good, the second must not send a
day's traffic to the dead letters. So:

- a harmless text is asked about first; a service that refuses that too is at fault, and the refusal is raised;
- otherwise the batch is halved until the refused texts stand alone, and every other text has its answer;
- a text that is refused alone is asked about once more, a harmless one before it: a key that expires while a batch
  is being halved would else send all the rest of it to the dead letters.

Intuition: the doorman who turns away a whole party is asked whether he lets in anybody, and then about each guest; the
one he turns away steps up again behind a guest he lets in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from schemas.errors import ServiceRefused

Answer = TypeVar("Answer")

PROBE = "Hello."


async def answers_or_refusals(
    ask: Callable[[Sequence[str]], Awaitable[Iterable[Answer]]], texts: Sequence[str]
) -> list[Answer | ServiceRefused]:
    """Return, for each text, the service's answer or its refusal of that very text.

    Raises:
        ServiceError: the service is at fault; ServiceRefused is raised only if it refuses a harmless text.
    """
    if not texts:
        return []
    try:
        return list(await ask(texts))
    except ServiceRefused:
        await ask([PROBE])
        return await _halved(ask, texts)


async def _halved(
    ask: Callable[[Sequence[str]], Awaitable[Iterable[Answer]]], texts: Sequence[str]
) -> list[Answer | ServiceRefused]:
    """Return the answers for texts that were refused together; for a single one, after a harmless one's answer."""
    if len(texts) == 1:
        try:
            return list(await ask(texts))
        except ServiceRefused as refusal:
            return [refusal]
    first, second = _halves(texts)
    answers = await _of_half(ask, first)
    if len(second) > 1 and not any(isinstance(answer, ServiceRefused) for answer in answers):
        return answers + await _halved(ask, second)  # that one was refused for something in this half
    return answers + await _of_half(ask, second)


async def _of_half(
    ask: Callable[[Sequence[str]], Awaitable[Iterable[Answer]]], half: Sequence[str]
) -> list[Answer | ServiceRefused]:
    try:
        return list(await ask(half))
    except ServiceRefused:
        if len(half) == 1:
            await ask([PROBE])
        return await _halved(ask, half)


def _halves(texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    middle = len(texts) // 2
    return texts[:middle], texts[middle:]
