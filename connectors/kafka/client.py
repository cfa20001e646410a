"""How the two Kafka clients are told where the broker is and who is asking.

confluent-kafka (admin, replay, command line) and aiokafka (under Faust, sinks) name the same things
differently. The secret is read only here, and only into the argument that needs it.
"""

from __future__ import annotations

import ssl
from typing import Any, Protocol

from pydantic import SecretStr

from schemas.limits import RECORD_BYTES_MAX

# A record's own bytes and the header of the batch it travels in.
REQUEST_BYTES_MAX = RECORD_BYTES_MAX + 64 * 1024


class KafkaAccess(Protocol):
    """Where the broker is; the section `kafka` of the settings fits."""

    @property
    def bootstrap_servers(self) -> str: ...
    @property
    def security_protocol(self) -> str: ...
    @property
    def sasl_mechanism(self) -> str: ...
    @property
    def sasl_username(self) -> str: ...
    @property
    def sasl_password(self) -> SecretStr: ...


def confluent_configuration(kafka: KafkaAccess) -> dict[str, Any]:
    """Return what every confluent-kafka client needs; its role (group, acks, ...) is added by the caller."""
    configuration: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
        "message.max.bytes": REQUEST_BYTES_MAX,
        # librdkafka prints to stderr by itself; what matters comes back as an error of the call.
        "log_level": 2,
    }
    if _authenticates(kafka):
        configuration["sasl.mechanism"] = kafka.sasl_mechanism
        configuration["sasl.username"] = kafka.sasl_username
        configuration["sasl.password"] = kafka.sasl_password.get_secret_value()
    return configuration


def aiokafka_configuration(kafka: KafkaAccess) -> dict[str, Any]:
    """Return what every aiokafka client needs."""
    configuration: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        configuration["ssl_context"] = ssl.create_default_context()
    if _authenticates(kafka):
        configuration["sasl_mechanism"] = kafka.sasl_mechanism
        configuration["sasl_plain_username"] = kafka.sasl_username
        configuration["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return configuration


def _authenticates(kafka: KafkaAccess) -> bool:
    return kafka.security_protocol.startswith("SASL")
