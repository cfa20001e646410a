"""Topics where a worker may not look for hanging transactions: said once, where they are its own."""

from __future__ import annotations

from typing import Any

import pytest

from streams.engine.exactly_once.hanging import OFFSETS_TOPIC, TOPIC_FORBIDDEN, HangingTransactions
from streams.engine.exactly_once.wire import DescribeProducers, DescribeProducersResponse


class Client:
    """Answers that nothing may be seen of any topic."""

    def __init__(self, topics: list[str]) -> None:
        self.partitions = {topic: [0] for topic in topics}

    async def send(self, _leader: int, _request: DescribeProducers) -> DescribeProducersResponse:
        described: list[Any] = [(topic, [(0, TOPIC_FORBIDDEN, None, [], {})], {}) for topic in self.partitions]
        return DescribeProducersResponse(0, described, {})


async def test_own_topics_that_may_not_be_looked_at_are_named_once_with_the_right_that_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging = HangingTransactions("app", {}, ["words"])
    client = Client(["words", "of-others", OFFSETS_TOPIC])
    for _ in range(2):
        assert await hanging._open(client, {1: client.partitions}) == []
    (warning,) = caplog.records
    assert "grant READ" in warning.getMessage()
    assert vars(warning)["topics"] == [OFFSETS_TOPIC, "words"]


async def test_topics_of_others_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(["of-others"])
    assert await HangingTransactions("app", {}, ["words"])._open(client, {1: client.partitions}) == []
    assert not caplog.records
