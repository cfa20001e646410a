"""What a prompt looks like to the structural gate: the set of its word shingles.

A shingle is a hash of three neighbouring tokens; the first and the last of a prompt carry a mark, because a
template's ends are its most reliable constants. Shingles that occur twice in a prompt are left out: `<br />` in a
review or `self.` in code would otherwise pass for constants. Scripts written without spaces give a token per
character. Hashes are stable (xxhash of the token, integer mixing), so they may be stored.

Beside a word, every number is the same token: order 17 and order 18 are one wording. Among mere numbers and marks a
number keeps its digits: dates, tables and the heads of a diff are values, and that they are written alike says nothing
about the template around them.

Intuition: fill one template twice and lay the two shingle sets over each other. What both hold is the template; what
one holds alone is a slot value.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

Shingles = NDArray[np.int64]

# A longer text is sketched by its two ends: templates put their constants around a long slot, and tokenising
# 256 KiB would take 20 ms of a partition's time.
SKETCHED_CHARS_MAX = 16_384
# Dense scripts give a token per character; 2,048 shingles are 16 KiB.
SHINGLES_MAX = 2_048
TOKEN_IDS_MAX = 200_000  # cached token hashes of a process, about 20 MB

STARTS = 1  # bit of the shingle that opens a prompt
ENDS = 2  # bit of the shingle that closes it
_HASH_BITS = np.uint64((1 << 60) - 4)  # 60 bits keep Python's integers small; the two lowest are the marks

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # Thai, kana, Han, Hangul
_SPACED_TOKENS = re.compile(r"\w+|[^\w\s]|\n+")
_MIXED_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]|\n+")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")

# Odd 64-bit constants (fractional parts of square roots): tokens' hashes are well mixed, so that a sum of them, each
# times a constant of its place, is one too.
_FIRST, _SECOND = np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B)
_SHIFT = np.uint64(3)
_KIND = np.uint64(3)  # the two lowest bits of a token's identity tell what it is
_WORD, _MARK, _NUMBER = 0, 1, 2
_ANY_NUMBER = 4 | _NUMBER  # the identity of every number beside a word
_EDGE_IDENTITY = 8 | _WORD  # of what lies outside a prompt: a place as sure as a word
_GAP = "\0"  # stands for the middle left out of a long prompt; no pattern above gives it as a token


@dataclass(frozen=True, slots=True)
class Sketch:
    """The shingles of a prompt, in text order and as a set."""

    order: list[int]
    shingles: frozenset[int]


class _TokenIdentities(dict[str, int]):
    """Hashes of tokens with their kind, computed once."""

    def __missing__(self, token: str) -> int:
        if len(self) >= TOKEN_IDS_MAX:
            self.clear()
        digest = xxhash.xxh3_64_intdigest(token.encode("utf-8", "surrogatepass"))
        kind = _NUMBER if token.isdecimal() else _WORD if token[0].isalnum() or token[0] == "_" else _MARK
        identity = self[token] = digest & ~3 | kind
        return identity


_token_identities = _TokenIdentities()


def sketch(text: str) -> Sketch:
    """Return the sketch of a prompt's text."""
    mixed = _mix(_tokens_and_identities(text)[1])
    if mixed.size > SHINGLES_MAX:
        half = SHINGLES_MAX // 2
        mixed = np.concatenate((mixed[:half], mixed[-half:]))
    order: list[int] = mixed.tolist()
    distinct = frozenset(order)
    if len(distinct) < len(order):
        mixed.sort()
        twice = set(mixed[1:][mixed[1:] == mixed[:-1]].tolist())
        order = [shingle for shingle in order if shingle not in twice]
        distinct = frozenset(order)
    return Sketch(order, distinct)


def located(text: str) -> list[tuple[str, int]]:
    """Return the tokens of a text, each with the shingle it is the middle of."""
    parts, identities = _tokens_and_identities(text)
    return list(zip(parts, _mix(identities).tolist(), strict=True))


def anchors(shingles: frozenset[int] | set[int]) -> int:
    """Return how many ends of a prompt (0, 1, 2) are among these shingles."""
    marks = 0
    for shingle in shingles:
        marks |= shingle & 3
    return (marks & STARTS) + (marks >> 1)


def tokens(text: str) -> list[str]:
    """Return the words, marks and line breaks of a text, in lower case."""
    lowered = text.lower()
    unspaced = not lowered.isascii() and _HAS_UNSPACED.search(lowered)
    return (_MIXED_TOKENS if unspaced else _SPACED_TOKENS).findall(lowered)


def _tokens_and_identities(text: str) -> tuple[list[str], NDArray[np.uint64]]:
    if len(text) <= SKETCHED_CHARS_MAX:
        parts = tokens(text)
    else:
        half = SKETCHED_CHARS_MAX // 2
        parts = [*tokens(text[:half]), _GAP, *tokens(text[-half:])]
    # By way of `array`: numpy takes six times as long over integers beyond 63 bits.
    identities = array("Q", (_EDGE_IDENTITY, *map(_token_identities.__getitem__, parts), _EDGE_IDENTITY))
    return parts, np.frombuffer(identities, dtype=np.uint64)


def _mix(identities: NDArray[np.uint64]) -> Shingles:
    if identities.size < 3:
        return np.empty(0, dtype=np.int64)
    mixed = _sum(identities)
    kinds = identities & _KIND
    numbers = kinds == _NUMBER
    if numbers.any():
        words = kinds == _WORD
        beside_word = words[:-2] | words[1:-1] | words[2:]
        mixed = np.where(beside_word, _sum(np.where(numbers, np.uint64(_ANY_NUMBER), identities)), mixed)
    mixed >>= _SHIFT
    mixed &= _HASH_BITS
    shingles = mixed.view(np.int64)
    shingles[0] |= STARTS
    shingles[-1] |= ENDS
    return shingles


def _sum(identities: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a sum over each token and its two followers, each times a constant of its place."""
    sums: NDArray[np.uint64] = identities[:-2] * _FIRST
    sums += identities[1:-1] * _SECOND
    sums += identities[2:]
    return sums
