"""Count the records a reader can see on a topic."""

from __future__ import annotations

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.client import KafkaAccess, confluent_configuration
from schemas.errors import ServiceUnavailable

POLL_S = 0.2
RECORDS_PER_POLL = 1_000
METADATA_TIMEOUT_S = 10.0


def count_records(kafka: KafkaAccess, topic: str) -> int:
    """Return how many committed records the topic holds now.

    Offsets would not do: transaction markers and aborted records take offsets too.

    Raises:
        ServiceUnavailable: the broker does not answer.
    """
    consumer = Consumer(
        {
            **confluent_configuration(kafka),
            "group.id": "promptloom-count",  # partitions are assigned by hand, so no group is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=METADATA_TIMEOUT_S).topics[topic].partitions
        unread = set(partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        records = 0
        while unread:
            for message in consumer.consume(RECORDS_PER_POLL, POLL_S):
                error = message.error()
                if error is None:
                    records += 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the client's public name for it
                    unread.discard(message.partition())
                else:
                    raise KafkaException(error)
        return records
    except KafkaException as error:
        raise ServiceUnavailable(f"counting the records of {topic}: {error.args[0].str()}") from error
    finally:
        consumer.close()
