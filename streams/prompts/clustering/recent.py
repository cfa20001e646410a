"""The tenant's newest prompt ids, to tell duplicates.

Ids are remembered in segments of a ring: a row holds one segment, so that a unit rewrites one small row instead of one
row a prompt. Both id and text are held as hashes, 24 bytes a prompt; two ids of 128 random bits do not meet by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import xxhash

SEGMENT_IDS = 64
_ID_BYTES, _TEXT_BYTES = 16, 8
_ENTRY_BYTES = _ID_BYTES + _TEXT_BYTES


class RecentIds:
    """Ids of the newest `ids_max` prompts (rounded up to whole segments) with their texts' hashes."""

    def __init__(self, ids_max: int) -> None:
        self._segments_max = -(-ids_max // SEGMENT_IDS) + 1
        self._segments: dict[int, bytearray] = {}
        self._texts: dict[bytes, bytes] = {}
        self._changed: set[int] = set()
        self._newest = 0

    def meet(self, prompt_id: str, text: str) -> bool | None:
        """Return None for a new id, and remember it; else whether it came with this text before."""
        identity = xxhash.xxh3_128_digest(prompt_id.encode("utf-8", "surrogatepass"))
        content = xxhash.xxh3_64_digest(text.encode("utf-8", "surrogatepass"))
        known = self._texts.get(identity)
        if known is not None:
            return known == content
        segment = self._segments.setdefault(self._newest, bytearray())
        if len(segment) >= SEGMENT_IDS * _ENTRY_BYTES:
            self._newest += 1
            segment = self._segments[self._newest] = bytearray()
            self._drop(self._newest - self._segments_max)
        segment += identity + content
        self._texts[identity] = content
        self._changed.add(self._newest)
        return None

    def rows(self) -> Iterator[tuple[str, bytes | None]]:
        """Return the segments changed since the last call, None for a dropped one."""
        for number in sorted(self._changed):
            segment = self._segments.get(number)
            yield str(number), None if segment is None else bytes(segment)
        self._changed.clear()

    def restore(self, number: int, row: bytes) -> None:
        """Take a segment back from its row."""
        self._segments[number] = bytearray(row)
        self._newest = max(self._newest, number)
        for start in range(0, len(row), _ENTRY_BYTES):
            self._texts[row[start : start + _ID_BYTES]] = row[start + _ID_BYTES : start + _ENTRY_BYTES]

    def _drop(self, number: int) -> None:
        segment = self._segments.pop(number, None)
        if segment is None:
            return
        for start in range(0, len(segment), _ENTRY_BYTES):
            del self._texts[bytes(segment[start : start + _ID_BYTES])]
        self._changed.add(number)
