"""An index from shingles to the numbers that hold them.

A hash table that grows by linear hashing (Litwin 1980): each new entry splits one bucket, so no insertion waits for a
rehash. What holds a shingle stands in its entry if it is alone, else in a run, ascending in a block of the arena.

    heads     bucket -> its first entry, or NONE
    entries   entry -> shingle, next entry of the bucket (or next free one), how many hold it, the one that does or the
              start of their run, and the size class of the run's block (0 if there is none)
    arena     all runs; a free block begins with the place of the next free one of its size
    meta      how much of the arrays is in use (names below), the first free entry, what spreads shingles over buckets,
              the first free block of each size
"""

from __future__ import annotations

import numpy as np

from streams.compiler import SPREAD_SHIFT, Bytes, Ints, kernel

NONE = -1
KEY, NEXT, HELD, FIRST, CLASS = COLUMNS = range(5)  # of an entry
BUCKETS, ENTRIES_USED, ENTRIES_FREE, KEYS, ARENA_USED, SPREAD_BY, BLOCKS_FREE = range(7)  # places in meta
META_SIZE = BLOCKS_FREE + 40  # sizes
BUCKETS_FIRST = 8
_SPREAD = 0x9E3779B1  # odd, by the golden ratio: spreads consecutive numbers over a table


@kernel()
def _bucket(shingle: int, spread: int, buckets: int, mask: int) -> int:
    place = ((shingle * spread) >> SPREAD_SHIFT) & mask
    return place if place < buckets else place & (mask >> 1)


@kernel()
def _mask(buckets: int) -> int:
    mask = 1
    while mask < buckets:
        mask <<= 1
    return mask - 1


@kernel()
def _find(heads: Ints, entries: Ints, meta: Ints, shingles: Ints) -> Ints:
    """Return the entries of these shingles, NONE for those that nobody holds.

    A large index lies in no cache. All heads are read first, then all keys, so that reads wait for the memory together.
    """
    buckets, mask = meta[BUCKETS], _mask(meta[BUCKETS])
    found, keys = np.empty(shingles.size, dtype=np.int64), np.empty(shingles.size, dtype=np.int64)
    for place in range(shingles.size):
        found[place] = heads[_bucket(shingles[place], meta[SPREAD_BY], buckets, mask)]
    for place in range(shingles.size):
        keys[place] = entries[max(found[place], 0), KEY]
    for place in range(shingles.size):
        entry, key = found[place], keys[place]
        while entry != NONE and key != shingles[place]:
            entry = entries[entry, NEXT]
            key = entries[max(entry, 0), KEY]
        found[place] = entry
    return found


@kernel()
def _held(entries: Ints, entry: int) -> int:
    return 0 if entry == NONE else entries[entry, HELD]


@kernel()
def _split_bucket(heads: Ints, entries: Ints, meta: Ints) -> None:
    """Add one bucket, and let it have its share of an earlier one's entries."""
    added = meta[BUCKETS]
    meta[BUCKETS] = added + 1
    mask = _mask(added + 1)
    origin = added & (mask >> 1)
    entry = heads[origin]
    heads[origin] = heads[added] = NONE
    while entry != NONE:
        following = entries[entry, NEXT]
        bucket = _bucket(entries[entry, KEY], meta[SPREAD_BY], added + 1, mask)
        entries[entry, NEXT] = heads[bucket]
        heads[bucket] = entry
        entry = following


@kernel()
def _take_block(arena: Ints, meta: Ints, size_class: int) -> int:
    """Return where a free block begins, or NONE if the arena is full."""
    block = meta[BLOCKS_FREE + size_class]
    if block != NONE:
        meta[BLOCKS_FREE + size_class] = arena[block]
        return block
    block = meta[ARENA_USED]
    if block + (1 << size_class) > arena.size:
        return NONE
    meta[ARENA_USED] = block + (1 << size_class)
    return block


@kernel()
def _move_run(entries: Ints, arena: Ints, meta: Ints, entry: int, size_class: int) -> bool:
    """Move the numbers of an entry to a block of another size, or to no block if only one is left."""
    held, first, left = entries[entry, HELD], entries[entry, FIRST], entries[entry, CLASS]
    if size_class == 0:
        entries[entry, FIRST] = arena[first]
    else:
        block = _take_block(arena, meta, size_class)
        if block == NONE:
            return False
        if left == 0:
            arena[block] = first
        else:
            arena[block : block + held] = arena[first : first + held]
        entries[entry, FIRST] = block
    if left > 0:
        arena[first] = meta[BLOCKS_FREE + left]
        meta[BLOCKS_FREE + left] = first
    entries[entry, CLASS] = size_class
    return True


@kernel("i8(i8[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1], i8, i8)")
def insert(heads: Ints, entries: Ints, arena: Ints, meta: Ints, shingles: Ints, number: int, start: int) -> int:
    """Let a number hold these shingles from the place `start` on; return where the arena was full, or their count.

    There must be room for as many entries and buckets more as there are shingles.
    """
    mask = _mask(meta[BUCKETS])
    found = _find(heads, entries, meta, shingles)  # what comes and goes below leaves the other entries where they are
    for place in range(start, shingles.size):
        shingle, entry = shingles[place], found[place]
        if entry == NONE:
            entry = meta[ENTRIES_FREE]
            if entry == NONE:
                entry = meta[ENTRIES_USED]
                meta[ENTRIES_USED] += 1
            else:
                meta[ENTRIES_FREE] = entries[entry, NEXT]
            bucket = _bucket(shingle, meta[SPREAD_BY], meta[BUCKETS], mask)
            entries[entry, KEY], entries[entry, NEXT] = shingle, heads[bucket]
            entries[entry, HELD], entries[entry, FIRST], entries[entry, CLASS] = 1, number, 0
            heads[bucket] = entry
            meta[KEYS] += 1
            if meta[KEYS] > meta[BUCKETS]:
                _split_bucket(heads, entries, meta)
                mask = _mask(meta[BUCKETS])
            continue
        held, size_class = entries[entry, HELD], entries[entry, CLASS]
        if held == 1 << size_class and not _move_run(entries, arena, meta, entry, size_class + 1):
            return place
        first = entries[entry, FIRST]
        at = first + held
        while at > first and arena[at - 1] > number:
            arena[at] = arena[at - 1]
            at -= 1
        arena[at] = number
        entries[entry, HELD] = held + 1
    return shingles.size


@kernel()
def _remove_entry(heads: Ints, entries: Ints, meta: Ints, bucket: int, entry: int) -> None:
    before = heads[bucket]
    if before == entry:
        heads[bucket] = entries[entry, NEXT]
    else:
        while entries[before, NEXT] != entry:
            before = entries[before, NEXT]
        entries[before, NEXT] = entries[entry, NEXT]
    entries[entry, NEXT] = meta[ENTRIES_FREE]
    meta[ENTRIES_FREE] = entry
    meta[KEYS] -= 1


@kernel("i8(i8[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1], i8)")
def remove(heads: Ints, entries: Ints, arena: Ints, meta: Ints, shingles: Ints, number: int) -> int:
    """Let a number no longer hold these shingles; return how many of them it held, from the first one on."""
    buckets, mask = meta[BUCKETS], _mask(meta[BUCKETS])
    for place, entry in enumerate(_find(heads, entries, meta, shingles)):
        if entry == NONE:
            return place
        held, first = entries[entry, HELD], entries[entry, FIRST]
        if held == 1:
            if first != number:
                return place
            _remove_entry(heads, entries, meta, _bucket(shingles[place], meta[SPREAD_BY], buckets, mask), entry)
            continue
        at = first + np.searchsorted(arena[first : first + held], number)
        if at == first + held or arena[at] != number:
            return place
        arena[at : first + held - 1] = arena[at + 1 : first + held]
        entries[entry, HELD] = held - 1
        size_class = entries[entry, CLASS]
        if held - 1 == 1:
            _move_run(entries, arena, meta, entry, 0)
        elif 4 * (held - 1) <= 1 << size_class:
            _move_run(entries, arena, meta, entry, size_class - 1)  # it may stay where it is if there is no room
    return shingles.size


@kernel()
def _seat(table: Ints, numbers: Ints, number: int) -> int:
    """Return where a number's place stands in a table, or may be written."""
    slot = (number * _SPREAD) & (table.size - 1)
    while table[slot] != NONE and numbers[table[slot]] != number:
        slot = (slot + 1) & (table.size - 1)
    return slot


@kernel()
def _counted(entries: Ints, arena: Ints, among: Ints, newest: int, held_min: int) -> tuple[Ints, Ints]:
    """Return the `newest` numbers of each of these entries, each once, and in how many they stand.

    Entries that fewer than `held_min` numbers hold are passed over.
    """
    total = 0
    for entry in among:
        total += min(newest, entries[entry, HELD])
    table = np.full(_mask(2 * total) + 1, NONE, dtype=np.int64)
    numbers, counts = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    distinct = 0
    for entry in among:
        held, first = entries[entry, HELD], entries[entry, FIRST]
        begin = held - min(newest, held) if held >= held_min else held
        for place in range(begin, held):
            number = first if held == 1 else arena[first + place]
            slot = _seat(table, numbers, number)
            if table[slot] == NONE:
                table[slot] = distinct
                numbers[distinct], counts[distinct] = number, 0
                distinct += 1
            counts[table[slot]] += 1
    return numbers[:distinct].copy(), counts[:distinct].copy()


@kernel("Tuple((i8[::1], i8[::1]))(i8[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1], i8)")
def votes(heads: Ints, entries: Ints, arena: Ints, meta: Ints, shingles: Ints, votes_min: int) -> tuple[Ints, Ints]:
    """Return the numbers that hold at least so many of these shingles, and how many each holds."""
    found = _find(heads, entries, meta, shingles)
    numbers, counts = _counted(entries, arena, found[found != NONE], arena.size + 1, 1)
    return numbers[counts >= votes_min], counts[counts >= votes_min]


@kernel()
def _ranked(numbers: Ints, counts: Ints, most: int, sign: int) -> Ints:
    """Return the places of the highest counts, highest first; of equals the smaller number, or the larger one (-1)."""
    places = np.empty(most + 1, dtype=np.int64)  # the last one is for whom there is no room
    taken = 0
    for place in range(numbers.size):
        at = taken
        while at > 0:
            other = places[at - 1]
            ahead = counts[other] - counts[place]
            if ahead > 0 or (ahead == 0 and sign * numbers[other] < sign * numbers[place]):
                break
            places[at] = other
            at -= 1
        places[at] = place
        taken = min(taken + 1, most)
    return places[:taken]


@kernel("Tuple((i8[:, ::1], i8))(i8[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1], i8, i8)")
def foremost(
    heads: Ints, entries: Ints, arena: Ints, meta: Ints, shingles: Ints, held_max: int, most: int
) -> tuple[Ints, int]:
    """Return rows of a number and its votes, the most votes first, of equals the smaller number.

    What more than `held_max` numbers hold does not count; return also how many shingles that are.
    """
    found = _find(heads, entries, meta, shingles)
    found = found[found != NONE]
    count = 0
    for entry in found:
        found[count] = entry
        count += entries[entry, HELD] <= held_max
    numbers, counts = _counted(entries, arena, found[:count], held_max, 1)
    first = _ranked(numbers, counts, most, 1)
    ranking = np.empty((first.size, 2), dtype=np.int64)
    for row in range(first.size):
        ranking[row, 0], ranking[row, 1] = numbers[first[row]], counts[first[row]]
    return ranking, found.size - count


@kernel("i8[::1](i8[::1], i8[:,::1], i8[::1], i8[::1], i8[:,::1], i8[::1], i8, i8[::1], i8, i8[::1])")
def weights(
    heads: Ints, entries: Ints, meta: Ints, other_heads: Ints, other_entries: Ints, other_meta: Ints,
    times: int, logs: Ints, most: int, shingles: Ints,
) -> Ints:  # fmt: skip
    """Return `most - logs[times * a + b]` for each shingle, where a and b are how many hold it in the two indexes."""
    found, others = _find(heads, entries, meta, shingles), _find(other_heads, other_entries, other_meta, shingles)
    for place in range(shingles.size):
        found[place] = most - logs[times * _held(entries, found[place]) + _held(other_entries, others[place])]
    return found


@kernel("UniTuple(i8, 2)(i8[::1], i8[:,::1], i8[::1], i8[::1], i8[:,::1], i8[::1], i8, i8[::1], i8, i8[::1], i8[::1])")
def weigh_both(
    heads: Ints, entries: Ints, meta: Ints, other_heads: Ints, other_entries: Ints, other_meta: Ints,
    times: int, logs: Ints, most: int, shingles: Ints, among: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Return the sums of `weights`: of those of these shingles that are among others, and of all."""
    bits = weights(heads, entries, meta, other_heads, other_entries, other_meta, times, logs, most, shingles)
    shared = place = 0
    for shingle, weight in zip(shingles, bits):  # noqa: B905  Numba knows no `strict`
        while place < among.size and among[place] < shingle:
            place += 1
        if place < among.size and among[place] == shingle:
            shared += weight
    return shared, bits.sum()


@kernel("Tuple((i8[::1], u1[:,::1], i8[::1], i8[::1]))(i8[::1], i8[:,::1], i8[::1], i8[::1], i8[::1], i8, i8, i8, i8)")
def neighbours(
    heads: Ints, entries: Ints, arena: Ints, meta: Ints,
    shingles: Ints, newcomer: int, newest: int, votes_min: int, most: int,
) -> tuple[Ints, Bytes, Ints, Ints]:  # fmt: skip
    """Return the numbers that hold the most of these shingles, nearest first, and what they hold.

    Numbers are compared by how many shingles they share with others beside the newcomer, among the `newest` of each;
    of equals the newer one comes first. Places are those of the shingles that anybody else holds.

    Returns: the numbers; for each and each place, whether it holds the shingle there; the places; the holders of each.
    """
    found = _find(heads, entries, meta, shingles)
    places = np.empty(shingles.size, dtype=np.int64)
    count = 0
    for place in range(shingles.size):
        entry = found[place]
        if entry != NONE and (entries[entry, HELD] > 1 or entries[entry, FIRST] != newcomer):
            places[count], found[count] = place, entry
            count += 1
    numbers, votes = _counted(entries, arena, found[:count], newest, 2)
    close = np.flatnonzero((votes >= votes_min) & (numbers != newcomer))
    known = numbers[close[_ranked(numbers[close], votes[close], most, -1)]]
    rows = np.argsort(known)
    amounts, shared = np.empty(count, dtype=np.int64), np.zeros((known.size, count), dtype=np.uint8)
    for column in range(count):
        held, first = entries[found[column], HELD], entries[found[column], FIRST]
        amounts[column] = min(newest, held)
        run = arena[first : first + held] if held > 1 else entries[found[column], FIRST : FIRST + 1]
        at = 0
        for row in rows:
            if held > 4 * most:  # too many to be read one by one
                at += np.searchsorted(run[at:], known[row])
            while at < held and run[at] < known[row]:
                at += 1
            if at == held:
                break
            shared[row, column] = run[at] == known[row]
    return known, shared, places[:count].copy(), amounts
