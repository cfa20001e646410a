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
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

Shingles = NDArray[np.uint64]

# A longer text is sketched by its two ends: templates put their constants around a long slot, and tokenising
# 256 KiB would take 20 ms of a partition's time.
SKETCHED_CHARS_MAX = 16_384
# Dense scripts give a token per character; 2,048 shingles are 16 KiB.
SHINGLES_MAX = 2_048
TOKEN_IDS_MAX = 200_000  # cached token hashes of a process, about 20 MB
# Repairs read the same few texts again and again. Their places are kept unless a text is long: 60 MB at the very most.
LOCATED_TEXTS_MAX = 256
LOCATED_CHARS_MAX = 2_048

STARTS = 1  # bit of the shingle that opens a prompt
ENDS = 2  # bit of the shingle that closes it
_HASH_BITS = np.uint64((1 << 60) - 4)  # 60 bits keep Python's integers small; the two lowest are the marks

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # Thai, kana, Han, Hangul
_SPACED_TOKENS = re.compile(r"\w+|[^\w\s]|\n+")
# The same for ASCII, a third faster: only there does \x1c to \x1f count as no white space.
_ASCII_TOKENS = re.compile(r"\w+|[^\w\s\x1c-\x1f]|\n+", re.ASCII)
_MIXED_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]|\n+")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")

# Odd 64-bit constants (fractional parts of square roots): tokens' hashes are well mixed, so that a sum of them, each
# times a constant of its place, is one too.
_FIRST, _SECOND = np.uint64(0x6A09E667F3BCC909), np.uint64(0xBB67AE8584CAA73B)
_SHIFT = np.uint64(3)
_WORD, _MARK, _NUMBER = 0, 1, 2  # the two lowest bits of a token's identity tell what it is
_KINDS = bytes(identity & 3 for identity in range(256))  # by an identity's lowest byte
_ANY_NUMBER = np.uint64(4 | _NUMBER)  # the identity of every number beside a word
_IDENTITY_BYTES = 8
_EDGE_IDENTITY = (8 | _WORD).to_bytes(_IDENTITY_BYTES, "little")  # of what lies outside a prompt: as sure as a word
_GAP = "\0"  # stands for the middle left out of a long prompt; no pattern above gives it as a token


class Sketch(NamedTuple):
    """The shingles of a prompt, in text order and as a set."""

    order: list[int]
    shingles: frozenset[int]


class Places(NamedTuple):
    """The tokens of a text, and of each the shingle it is the middle of."""

    tokens: tuple[str, ...]
    shingles: tuple[int, ...]


class _TokenIdentities(dict[str, bytes]):
    """Hashes of tokens with their kind, computed once, as the bytes of a little-endian integer."""

    def __missing__(self, token: str) -> bytes:
        if len(self) >= TOKEN_IDS_MAX:
            self.clear()
        digest = xxhash.xxh3_64_intdigest(token.encode("utf-8", "surrogatepass"))
        kind = _NUMBER if token.isdecimal() else _WORD if token[0].isalnum() or token[0] == "_" else _MARK
        identity = self[token] = (digest & ~3 | kind).to_bytes(_IDENTITY_BYTES, "little")
        return identity


_token_identities = _TokenIdentities()


def sketch(text: str) -> Sketch:
    """Return the sketch of a prompt's text."""
    mixed = _mix(_identities(_parts(text)))
    if mixed.size > SHINGLES_MAX:
        half = SHINGLES_MAX // 2
        mixed = np.concatenate((mixed[:half], mixed[-half:]))
    order = _marked(mixed)
    distinct = frozenset(order)
    if len(distinct) < len(order):
        inner = mixed[1:-1]  # with their marks, the ends occur but once
        inner.sort()
        distinct = distinct.difference(inner[1:][inner[1:] == inner[:-1]].tolist())
        order = list(filter(distinct.__contains__, order))
    return Sketch(order, distinct)


def pack(whole: Sketch) -> bytes:
    """Return a sketch as bytes."""
    return array("q", whole.order).tobytes()


def unpack(packed: bytes) -> Sketch:
    """Return the sketch that these bytes were packed from."""
    order = array("q", packed).tolist()
    return Sketch(order, frozenset(order))


def located(text: str) -> Places:
    """Return the tokens of a text, each with the shingle it is the middle of."""
    return _locate(text) if len(text) > LOCATED_CHARS_MAX else _located(text)


def _locate(text: str) -> Places:
    parts = _parts(text)
    return Places(tuple(parts), tuple(_marked(_mix(_identities(parts)))))


_located = lru_cache(LOCATED_TEXTS_MAX)(_locate)


def anchors(shingles: frozenset[int] | set[int]) -> int:
    """Return how many ends of a prompt (0, 1, 2) are among these shingles."""
    marks = 0
    for shingle in shingles:
        marks |= shingle & 3
    return (marks & STARTS) + (marks >> 1)


def tokens(text: str) -> list[str]:
    """Return the words, marks and line breaks of a text, in lower case."""
    lowered = text.lower()
    if lowered.isascii():
        return _ASCII_TOKENS.findall(lowered)
    return (_MIXED_TOKENS if _HAS_UNSPACED.search(lowered) else _SPACED_TOKENS).findall(lowered)


def _parts(text: str) -> list[str]:
    """Return the tokens of a text, or of the two ends of a long one."""
    if len(text) <= SKETCHED_CHARS_MAX:
        return tokens(text)
    half = SKETCHED_CHARS_MAX // 2
    return [*tokens(text[:half]), _GAP, *tokens(text[-half:])]


def _identities(parts: list[str]) -> bytes:
    """Return the identities of tokens and of both edges, as bytes: numpy takes ten times as long over integers."""
    return b"".join((_EDGE_IDENTITY, *map(_token_identities.__getitem__, parts), _EDGE_IDENTITY))


def _mix(packed: bytes) -> Shingles:
    """Return a shingle for each token but the edges, without marks."""
    identities: Shingles = np.frombuffer(packed, dtype="<u8")
    if identities.size < 3:
        return np.empty(0, dtype=np.uint64)
    mixed = _sum(identities)
    kinds = packed[::_IDENTITY_BYTES].translate(_KINDS)
    if _NUMBER in kinds:
        kind = np.frombuffer(kinds, dtype=np.uint8)
        words = kind == _WORD
        beside_word = words[:-2] | words[1:-1] | words[2:]
        mixed = np.where(beside_word, _sum(np.where(kind == _NUMBER, _ANY_NUMBER, identities)), mixed)
    mixed >>= _SHIFT
    mixed &= _HASH_BITS
    return mixed


def _marked(mixed: Shingles) -> list[int]:
    """Return the shingles of a text with the marks of its ends."""
    shingles: list[int] = mixed.tolist()
    if shingles:
        shingles[0] |= STARTS
        shingles[-1] |= ENDS
    return shingles


def _sum(identities: Shingles) -> Shingles:
    """Return a sum over each token and its two followers, each times a constant of its place."""
    sums: Shingles = identities[:-2] * _FIRST
    sums += identities[1:-1] * _SECOND
    sums += identities[2:]
    return sums
