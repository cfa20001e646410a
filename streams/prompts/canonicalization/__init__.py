"""Which template a cluster has, and how it changes (`logic`). Runs as machine code where it was compiled."""

from streams.native import path_of_room

__path__ = path_of_room(__path__)
