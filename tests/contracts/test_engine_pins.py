"""What the engine leans on inside Faust and aiokafka; an upgrade that changes it fails here."""

from __future__ import annotations

import inspect

import aiokafka
import faust
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, Subscription, SubscriptionState, TopicPartitionState
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator
from aiokafka.producer.sender import InitPIDHandler, Sender
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol import transaction
from aiokafka.protocol.api import Request
from aiokafka.record.default_records import _DefaultRecordBatchPy
from faust.tables.manager import TableManager
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
        (Subscription, "_assign"),
        (Assignment, "state_value"),
        (TopicPartitionState, "consumed_to"),
        (AIOKafkaClient, "bootstrap"),
        (AIOKafkaClient, "coordinator_lookup"),
        (AIOKafkaClient, "force_metadata_update"),
        (AIOKafkaClient, "send"),
        (aiokafka.AIOKafkaProducer, "create_batch"),
        (aiokafka.AIOKafkaProducer, "send_batch"),
        (faust_consumer.Consumer, "verify_event_path"),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
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


def test_faust_waits_a_second_for_late_tables_and_does_nothing_else_that_the_engine_leaves_out() -> None:
    steps = inspect.getsource(TableManager.on_start)
    at = [steps.index(step) for step in ("self.sleep(1.0)", "self._update_channels()", "self.recovery.start()")]
    assert at == sorted(at)
    assert steps.count("await ") == len(at)


def test_a_client_learns_of_unknown_topics_one_by_one_with_a_pause_unless_it_is_told_of_them() -> None:
    source = inspect.getsource(Fetcher._proc_offset_requests)
    assert "add_topic(partition.topic)" in source
    assert "raise Errors.StaleMetadata(partition)" in source
    assert list(inspect.signature(AIOKafkaClient.set_topics).parameters) == ["self", "topics"]
    assert "self._topics = set(topics)" in inspect.getsource(AIOKafkaClient.set_topics)


def test_positions_and_the_assignment_are_where_the_fetch_looks_for_them() -> None:
    consumer = inspect.getsource(aiokafka.AIOKafkaConsumer)
    for name in ("_fetcher", "_coordinator", "_subscription"):
        assert f"self.{name} = " in consumer
    assert "self._position = " in inspect.getsource(TopicPartitionState)
    assert {"active", "tps"} <= set(dir(Assignment))
    assert "self._records[tp]" in inspect.getsource(Fetcher.seek_to)  # what was fetched before a seek is dropped


def test_without_a_reset_policy_a_position_out_of_range_is_raised_with_its_partitions() -> None:
    source = inspect.getsource(Fetcher)
    assert "if self._default_reset_strategy != OffsetResetStrategy.NONE:" in source
    assert "Errors.OffsetOutOfRangeError({tp: fetch_offset})" in source


def test_a_client_tells_one_place_of_every_connection_that_closed_and_why() -> None:
    assert "on_close=self._on_connection_closed" in inspect.getsource(AIOKafkaClient._get_conn)
    assert list(inspect.signature(AIOKafkaClient._on_connection_closed).parameters) == ["self", "conn", "reason"]
    assert "self._on_close_cb(self, reason)" in inspect.getsource(AIOKafkaConnection.close)
    assert "self.close(CloseReason.IDLE_DROP)" in inspect.getsource(AIOKafkaConnection._idle_check)
    assert {reason.name for reason in CloseReason} == {
        "CONNECTION_BROKEN", "CONNECTION_TIMEOUT", "OUT_OF_SYNC", "IDLE_DROP", "SHUTDOWN", "AUTH_FAILURE",
    }  # fmt: skip


def test_a_producer_shows_the_id_and_epoch_that_its_fence_gave_it() -> None:
    assert isinstance(TransactionManager.producer_id, property)
    assert isinstance(TransactionManager.producer_epoch, property)
    assert "set_pid_and_epoch" in inspect.getsource(InitPIDHandler)
    assert "self._txn_manager = " in inspect.getsource(aiokafka.AIOKafkaProducer)


def test_a_sender_and_its_connections_can_be_ended_from_outside() -> None:
    assert callable(MessageAccumulator.fail_all)
    assert "create_task(self._" in inspect.getsource(Sender)  # so tasks are known by the object they work for
    assert "self._conns = " in inspect.getsource(AIOKafkaClient)
    assert "self._writer = " in inspect.getsource(AIOKafkaConnection)
    producer = inspect.getsource(aiokafka.AIOKafkaProducer)
    assert all(f"self.{name} = " in producer for name in ("_sender", "_message_accumulator"))


def test_transactions_speak_the_protocol_in_which_only_a_fence_moves_the_epoch() -> None:
    # From EndTxn 5 and InitProducerId 6 on every commit moves it too, and "one epoch further" means something else.
    spoken = [
        kind
        for kind in vars(transaction).values()
        if inspect.isclass(kind) and kind.__name__.startswith(("EndTxnRequest_v", "InitProducerIdRequest_v"))
    ]
    assert {kind.__name__ for kind in spoken} == {"EndTxnRequest_v0", "InitProducerIdRequest_v0"}


def test_requests_are_built_for_the_version_that_the_broker_offers() -> None:
    assert list(inspect.signature(Request.prepare).parameters) == ["self", "versions"]
    assert "self.build(req_class)" in inspect.getsource(Request.prepare)


def test_records_can_be_parsed_once_more_in_python_where_header_names_alone_are_decoded() -> None:
    batch = inspect.getsource(_DefaultRecordBatchPy)
    assert batch.count(".decode(") == 1
    assert 'h_key = buffer[pos : pos + h_key_len].decode("utf-8")' in batch
    assert batch.count("self._buffer = ") == 2  # what arrived, and what it was unpacked to, before the first record
    assert list(inspect.signature(PartitionRecords).parameters) == [
        "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer", "value_deserializer", "check_crcs",
        "isolation_level",
    ]  # fmt: skip
    parsing = inspect.getsource(PartitionRecords)
    assert parsing.index("next_fetch_offset = record.offset + 1") < parsing.index("yield consumer_record")


def test_a_full_batch_says_so_by_taking_nothing() -> None:
    batch = BatchBuilder(200, 0, is_transactional=False, key_serializer=None, value_serializer=None)
    assert batch.append(timestamp=None, key=None, value=b"x" * 100) is not None
    assert batch.append(timestamp=None, key=None, value=b"x" * 100) is None
