"""The cache of tenants' engines: built from rows, thrown away when the rows changed, bounded."""

from __future__ import annotations

import pytest

from streams.engine.tenant_cache import Row, TenantCache
from tests.fakes import FakeEngine, a_record


class Counter:
    """An engine that counts; its one row is the count."""

    cost = 10

    def __init__(self, tenant: str, rows: list[Row]) -> None:
        self.tenant = tenant
        self.count = int(rows[0][2]) if rows else 0

    def dirty(self) -> list[tuple[str, str, bytes | None]]:
        return [("counts", f"{self.tenant}/n", str(self.count).encode() if self.count else None)]


class Bench:
    """One stage that counts the tenants named in its records."""

    def __init__(self, cost_max: int = 1_000) -> None:
        self.engine = FakeEngine()
        self.built: list[str] = []
        tables = {"counts": self.engine.table("counts", owner="source")}
        cache: TenantCache[Counter] = TenantCache(tables, self.engine.views("source"), self.build, cost_max)
        self.cache = cache

        async def handle(unit) -> None:  # type: ignore[no-untyped-def]
            try:
                for record in unit.records:
                    tenant, step = record.value.decode().split("=")
                    cache.engine(unit.partition, tenant).count += int(step)
                    cache.write(unit.partition, tenant)
                    cache.shrink()
                    if step == "13":
                        raise RuntimeError("a unit that fails")
            except BaseException:
                cache.forget(unit.partition)
                raise

        self.engine.stage("count", "source", handle)

    def build(self, tenant: str, rows: list[Row]) -> Counter:
        self.built.append(tenant)
        return Counter(tenant, rows)

    async def run(self, *steps: str, partition: int = 0) -> dict[str, bytes]:
        await self.engine.run("count", [a_record(step.encode()) for step in steps], partition=partition)
        return self.engine.tables["counts"].rows[partition]


async def test_an_engine_is_built_once_and_kept() -> None:
    bench = Bench()
    await bench.run("a=1", "a=1")
    assert await bench.run("a=1") == {"a/n": b"3"}
    assert bench.built == ["a"]


async def test_a_restore_makes_it_build_anew_from_rows() -> None:
    bench = Bench()
    await bench.run("a=5")
    bench.engine.restore()
    assert await bench.run("a=1") == {"a/n": b"6"}
    assert bench.built == ["a", "a"]


async def test_a_failed_unit_leaves_no_engine_that_knows_too_much() -> None:
    bench = Bench()
    await bench.run("a=1")
    with pytest.raises(RuntimeError, match="a unit that fails"):
        await bench.run("a=2", "a=13")
    assert await bench.run("a=1") == {"a/n": b"2"}


async def test_the_tenant_unheard_of_for_longest_makes_room_and_loses_nothing() -> None:
    bench = Bench(cost_max=25)
    await bench.run("a=1", "b=1", "a=1", "c=1")
    assert await bench.run("b=1") == {"a/n": b"2", "b/n": b"2", "c/n": b"1"}
    assert bench.built == ["a", "b", "c", "b"]


async def test_a_deleted_row_is_gone_for_good() -> None:
    bench = Bench()
    await bench.run("a/b=1", "a=1")
    assert await bench.run("a/b=-1") == {"a/n": b"1"}
    bench.engine.restore()
    assert await bench.run("a/b=2") == {"a/n": b"1", "a/b/n": b"2"}


async def test_work_on_one_partition_lets_go_of_others_that_were_lost() -> None:
    bench = Bench()
    await bench.run("a=1", partition=0)
    await bench.run("b=1", partition=1)
    bench.engine.restore()
    await bench.run("b=1", partition=1)
    assert set(bench.cache._keys) == {1}
    assert await bench.run("a=1", partition=0) == {"a/n": b"2"}
