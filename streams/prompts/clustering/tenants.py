"""Engines of tenants, built from table rows when needed and let go when memory is short.

An engine is a cache of its rows: after a restore, a failed unit or a lost partition it is built anew, and a tenant that
was not heard of for long gives its memory to others. To build one engine without reading a partition's every row, the
keys are listed by tenant once per restore and kept in step with each write.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from streams.engine.ports import StateView, Table
from streams.prompts.clustering.logic import Clustering
from streams.prompts.clustering.policy import Policy
from streams.prompts.clustering.rows import TABLES, tenant_of

# Kept prompts held by all engines of a worker, at up to 10 KB each with sketch and indexes: about 1 GB.
KEPT_PROMPTS_MAX = 100_000
ENGINE_COSTS_PROMPTS = 20  # what an empty engine takes, in kept prompts

Keys = dict[str, set[tuple[str, str]]]  # (table, key) by tenant


class Tenants:
    """The engines of one worker."""

    def __init__(self, tables: Mapping[str, Table], view: StateView, policy: Policy) -> None:
        self._tables = tables
        self._view = view
        self._policy = policy
        self._generations: dict[int, int] = {}
        self._keys: dict[int, Keys] = {}
        self._engines: OrderedDict[tuple[int, str], Clustering] = OrderedDict()

    def engine(self, partition: int, tenant: str, embedder: str, dimension: int) -> Clustering:
        """Return the engine of a tenant in the state of its rows; call only inside a unit of the partition."""
        self._refresh(partition)
        engine = self._engines.get((partition, tenant))
        if engine is None:
            names = sorted(self._keys[partition].get(tenant, ()))
            found = ((table, key, self._tables[table].get(key)) for table, key in names)
            rows = [(table, key, row) for table, key, row in found if row is not None]
            engine = Clustering(tenant, self._policy, embedder, dimension, rows)
            self._engines[partition, tenant] = engine
        engine.check_embedder(embedder)
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
        held = sum(ENGINE_COSTS_PROMPTS + engine.kept_prompts for engine in self._engines.values())
        while held > KEPT_PROMPTS_MAX and len(self._engines) > 1:
            _, engine = self._engines.popitem(last=False)
            held -= ENGINE_COSTS_PROMPTS + engine.kept_prompts

    def _refresh(self, partition: int) -> None:
        generation = self._view.generation(partition)
        if self._generations.get(partition) == generation:
            return
        self.forget(partition)
        keys: Keys = {}
        for table in TABLES:
            for key, _ in self._tables[table].items(partition):
                keys.setdefault(tenant_of(key), set()).add((table, key))
        self._keys[partition] = keys
        self._generations[partition] = generation
