"""Which partition a tenant lives in: murmur2 of its name, modulo the number of partitions.

The hash is the one Kafka's Java clients use for keys, so a Java producer that keys by tenant agrees.
It is computed here and the partition written explicitly, because other clients hash otherwise
(librdkafka takes CRC32 by default) and Python's own `hash` differs from process to process.
"""

from __future__ import annotations

from functools import lru_cache

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
SHIFT = 24
WORD = 0xFFFFFFFF
POSITIVE = 0x7FFFFFFF

TENANTS_REMEMBERED_MAX = 100_000  # a tenant and its partition take about 200 bytes


@lru_cache(maxsize=TENANTS_REMEMBERED_MAX)
def partition_of(tenant: str, partitions: int) -> int:
    """Return the partition that holds everything about a tenant."""
    return (murmur2(tenant.encode("utf-8", "surrogatepass")) & POSITIVE) % partitions


def murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit murmur2 of the bytes, unsigned."""
    length = len(data)
    digest = (SEED ^ length) & WORD
    whole = length - length % 4
    for start in range(0, whole, 4):
        mixed = int.from_bytes(data[start : start + 4], "little") * MULTIPLIER & WORD
        mixed = (mixed ^ mixed >> SHIFT) * MULTIPLIER & WORD
        digest = digest * MULTIPLIER & WORD ^ mixed
    if whole < length:
        digest = (digest ^ int.from_bytes(data[whole:], "little")) * MULTIPLIER & WORD
    digest = (digest ^ digest >> 13) * MULTIPLIER & WORD
    return digest ^ digest >> 15
