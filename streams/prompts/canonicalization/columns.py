"""The values of a template's slots, laid out for the loops that compare them.

Pure. A look at the newest members asks many things of the same values. So they are written down once, for all slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from streams.compiler import Bytes, Ints


class Columns:
    """For each slot its values in earlier members, and from place `split` on in the newest ones."""

    def __init__(self, values: Sequence[Sequence[str]], split: int) -> None:
        self.values, self.split = values, split
        things = len(values[0]) if values else 0
        self.written, sizes = lay_out([*chain.from_iterable(values)])
        self.sizes = sizes.reshape(len(values), things)


def lay_out(values: Sequence[str]) -> tuple[Bytes, Ints]:
    """Return values one behind the other in UTF-8, and the size of each in bytes."""
    joined = "".join(values)
    if joined.isascii():
        written, sizes = bytearray(joined, "ascii"), map(len, values)
    else:
        encoded = [value.encode("utf-8", "surrogatepass") for value in values]
        written, sizes = bytearray().join(encoded), map(len, encoded)
    return np.frombuffer(written, dtype=np.uint8), np.fromiter(sizes, np.int64, len(values))
