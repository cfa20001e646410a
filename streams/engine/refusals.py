"""A service refused a batch: which of its texts are to blame, if any?

A gateway may decline a request for the content of one prompt in it (a firewall's 403), or decline every
request (a wrong key). The first must not hold a partition for good, the second must not send a
day's traffic to the dead letters. So:

- a harmless text is asked about first; a service that refuses that too is at fault, and the refusal is raised;
- otherwise the batch is halved until the refused texts stand alone, and every other text has its answer.

Intuition: the doorman who turns away a whole party is asked once whether he lets in anybody.
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
    except ServiceRefused as refusal:
        await ask([PROBE])
        if len(texts) == 1:
            return [refusal]
        return [answer for half in _halves(texts) for answer in await _asked(ask, half)]


async def _asked(
    ask: Callable[[Sequence[str]], Awaitable[Iterable[Answer]]], texts: Sequence[str]
) -> list[Answer | ServiceRefused]:
    try:
        return list(await ask(texts))
    except ServiceRefused as refusal:
        if len(texts) == 1:
            return [refusal]
        return [answer for half in _halves(texts) for answer in await _asked(ask, half)]


def _halves(texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    middle = len(texts) // 2
    return texts[:middle], texts[middle:]
