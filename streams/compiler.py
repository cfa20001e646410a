"""How inner loops become machine code.

Numba compiles them when they are first imported, for the types named with each, which takes a quarter of a minute, and
keeps the code beside the source; later processes load it in a moment. It tells stale code by the one source file alone:
a loop that called a loop of another file would go on with an old one. So none does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Loop = TypeVar("Loop", bound=Callable[..., Any])


def kernel(*signatures: object) -> Callable[[Loop], Loop]:
    """Compile a loop for these signatures; without any, for the loops of its file that call it."""

    def compiled(loop: Loop) -> Loop:
        try:
            machine_code = njit(list(signatures) or None, cache=True)(loop)
        except RuntimeError:  # there is no folder that compiled code could be kept in
            machine_code = njit(list(signatures) or None)(loop)
        return cast(Loop, machine_code)  # called like the loop

    return compiled
