"""Engines of tenants, built from table rows when needed and let go when memory is short.

An engine is a cache of its rows: after a restore, a failed unit or a lost partition it is built anew, and a tenant
not heard of for long makes room for others. The keys of a partition are listed by tenant once per restore and kept in
step with each write, so that building one engine does not read every row of the partition.

Row keys are `tenant/rest`; a tenant's name may hold slashes, the rest of a key does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from streams.engine.ports import StateView, Table

Row = tuple[str, str, bytes]  # table, key, value


class TenantEngine(Protocol):
    """What a room keeps of one tenant."""

    def dirty(self) -> Sequence[tuple[str, str, bytes | None]]:
        """Return the rows written since the last call; None deletes."""

    @property
    def cost(self) -> int:
        """Return how much memory the engine takes, in units of the room's choice."""


Engine = TypeVar("Engine", bound=TenantEngine)


class TenantCache(Generic[Engine]):
    """The engines of one stage of a worker."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        view: StateView,
        build: Callable[..., Engine],  # (tenant, rows, *context)
        cost_max: int,
    ) -> None:
        self._tables = tables
        self._view = view
        self._build = build
        self._cost_max = cost_max
        self._generations: dict[int, int] = {}
        self._keys: dict[int, dict[str, set[tuple[str, str]]]] = {}
        self._engines: OrderedDict[tuple[int, str], Engine] = OrderedDict()

    def engine(self, partition: int, tenant: str, *context: object) -> Engine:
        """Return the engine of a tenant in the state of its rows; call only inside a unit of the partition.

        `context` is handed to `build` beside the rows, when the engine is not in memory.
        """
        self._refresh(partition)
        engine = self._engines.get((partition, tenant))
        if engine is None:
            names = sorted(self._keys[partition].get(tenant, ()))
            found = ((table, key, self._tables[table].get(key)) for table, key in names)
            rows = [(table, key, row) for table, key, row in found if row is not None]
            engine = self._build(tenant, rows, *context)
            self._engines[partition, tenant] = engine
        self._engines.move_to_end((partition, tenant))
        return engine

    def write(self, partition: int, tenant: str) -> None:
        """Write the rows that a tenant's engine changed since the last call."""
        keys = self._keys[partition].setdefault(tenant, set())
        for table, key, value in self._engines[partition, tenant].dirty():
            if value is None:
                self._tables[table].delete(key)
                keys.discard((table, key))
            else:
                self._tables[table].put(key, value)
                keys.add((table, key))

    def forget(self, partition: int) -> None:
        """Let go of everything derived from a partition's tables."""
        self._generations.pop(partition, None)
        self._keys.pop(partition, None)
        for name in [name for name in self._engines if name[0] == partition]:
            del self._engines[name]

    def shrink(self) -> None:
        """Let engines go that were not used for the longest, until the rest fits."""
        held = sum(engine.cost for engine in self._engines.values())
        while held > self._cost_max and len(self._engines) > 1:
            _, engine = self._engines.popitem(last=False)
            held -= engine.cost

    def _refresh(self, partition: int) -> None:
        generation = self._view.generation(partition)
        if self._generations.get(partition) == generation:
            return
        # Of all that changed, so that partitions which another worker has now are let go as well.
        for changed in [
            number for number, known in self._generations.items() if known != self._view.generation(number)
        ]:
            self.forget(changed)
        keys: dict[str, set[tuple[str, str]]] = {}
        for name, table in self._tables.items():
            for key, _ in table.items(partition):
                keys.setdefault(key.rpartition("/")[0], set()).add((name, key))
        self._keys[partition] = keys
        self._generations[partition] = generation
