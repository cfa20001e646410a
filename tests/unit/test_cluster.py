"""What the cluster says of the topics, and what it leaves open."""

from __future__ import annotations

import pytest
from aiokafka.errors import LeaderNotAvailableError, NoError, UnknownTopicOrPartitionError

from schemas.errors import ServiceUnavailable
from streams.engine.cluster import existing

THERE = (NoError.errno, "there")
MISSING = (UnknownTopicOrPartitionError.errno, "missing")
PASSING = (LeaderNotAvailableError.errno, "passing")


def test_a_topic_that_does_not_exist_is_left_out() -> None:
    assert existing([THERE, MISSING], "looking") == [THERE]


def test_a_topic_the_broker_cannot_tell_of_now_does_not_count_as_missing() -> None:
    with pytest.raises(ServiceUnavailable, match="looking: the broker does not tell of passing: LeaderNotAvailable"):
        existing([THERE, PASSING], "looking")
