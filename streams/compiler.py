"""How inner loops become machine code.

Numba compiles them when they are first imported, for the types named with each, which takes a quarter of a minute, and
keeps the code beside the source, or in the user's cache where that folder is read-only; later processes load it in a
moment. It tells stale code by the one source file alone: a loop that called a loop of another file would go on with an
old one. So none does.

What is other than in Python: nothing checks bounds, an `int` has 64 bits and wraps, and only arrays of just the types
named are taken (`i8[:, ::1]`: whole numbers of 8 bytes in two dimensions, rows one behind the other). To look for a
read beyond an end, run the tests with NUMBA_BOUNDSCHECK=1 and an empty folder as NUMBA_CACHE_DIR: kept code has no
checks, and is taken as it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Loop = TypeVar("Loop", bound=Callable[..., Any])

# Odd, and another in each process: a number that a text may choose, times it, spreads over a hash table by its upper
# bits whatever was chosen (Dietzfelbinger et al. 1997). It decides where something lies, never what is answered.
SPREAD = secrets.randbits(62) | 1
SPREAD_SHIFT = 31  # to the upper bits


def kernel(*signatures: object) -> Callable[[Loop], Loop]:
    """Compile a loop for these signatures; without any, for the loops of its file that call it.

    The latter become part of the code of those and are not kept by themselves.
    """

    def compiled(loop: Loop) -> Loop:
        if not signatures:
            return cast(Loop, njit(loop))
        try:
            machine_code = njit(list(signatures), cache=True)(loop)
        except Exception:  # noqa: BLE001  there is no folder for the code, no room, or a crash cut short what was kept
            machine_code = njit(list(signatures))(loop)
        return cast(Loop, machine_code)  # called like the loop

    return compiled
