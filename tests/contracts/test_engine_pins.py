"""What the engine leans on inside Faust and aiokafka; an upgrade that changes it fails here."""

from __future__ import annotations

import inspect

import aiokafka
import faust
import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver


def test_the_versions_are_those_the_engine_was_tried_with() -> None:
    assert (faust.__version__, aiokafka.__version__) == ("0.15.3", "0.14.0")


def test_a_fetch_takes_partitions_a_timeout_and_a_number_of_records() -> None:
    assert list(inspect.signature(Fetcher.fetched_records).parameters) == [
        "self", "partitions", "timeout", "max_records",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (GroupCoordinator, "request_rejoin"),
        (SubscriptionState, "fetch_context"),
        (TopicPartitionState, "consumed_to"),
        (driver.Consumer, "_new_consumer_thread"),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (driver.AIOKafkaConsumerThread, "call_thread"),
        (driver.Producer, "_new_producer"),
        (faust_consumer.Consumer, "_drain_messages"),
        (faust_consumer.Consumer, "perform_seek"),
        (faust.App, "_new_transport"),
        (faust.App, "_new_producer_transport"),
        (faust.App, "_create_directories"),
        (faust.Table, "_new_store"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_is_called_or_replaced_still_exists(owner: type, name: str) -> None:
    assert callable(getattr(owner, name))


def test_faust_seeks_after_every_rebalance_and_declares_it_over_afterwards() -> None:
    for step in (Recovery.on_recovery_completed, Recovery._resume_streams):
        source = inspect.getsource(step)
        assert (
            0
            < source.index("perform_seek()")
            < source.index("flow_control.resume()")
            < source.index("on_rebalance_end()")
        )


def test_faust_fetches_through_the_consumer_and_rebalances_around_a_flag() -> None:
    assert "consumer._drain_messages(self)" in inspect.getsource(faust_consumer.Fetcher)
    assert "self.rebalancing = True" in inspect.getsource(faust.App.on_rebalance_start)
    assert "self.rebalancing = False" in inspect.getsource(faust.App.on_rebalance_end)
