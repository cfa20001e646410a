"""A tenant's partition is the one Kafka's own default partitioner would choose."""

from __future__ import annotations

import pytest

from streams.engine.partitioning import murmur2, partition_of

# The vectors of Kafka's own test of the hash (org.apache.kafka.common.utils.UtilsTest), signed as Java shows them.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), VECTORS.items())
def test_the_hash_is_that_of_kafkas_java_clients(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % 2**32


def test_a_negative_hash_gives_a_partition_all_the_same() -> None:
    # Kafka's toPositive clears the sign bit; it does not take the absolute value.
    assert partition_of("foobar", 8) == (-790332482 & 0x7FFFFFFF) % 8


def test_tenants_spread_over_all_partitions() -> None:
    counts = [0] * 8
    for number in range(10_000):
        counts[partition_of(f"tenant-{number}", 8)] += 1
    assert min(counts) > 1_000


def test_any_tenant_a_prompt_may_carry_has_a_partition() -> None:
    assert all(0 <= partition_of(tenant, 3) < 3 for tenant in ("", "ü", "租户", "\ud800", "x" * 100))
