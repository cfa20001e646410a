"""Fill the addresses a configuration leaves empty from the embedded services that run in its data folder."""

from __future__ import annotations

from pydantic import SecretStr

from infra.embedded.services import Addresses, remembered
from schemas.errors import EmbeddedServiceFailed
from streams.settings import Settings


def resolve(settings: Settings, *, kafka: bool = True, postgres: bool = True) -> Settings:
    """Return settings with an address for each service asked for.

    Raises:
        EmbeddedServiceFailed: an address is empty and no embedded service runs.
    """
    needs_kafka = kafka and not settings.kafka.bootstrap_servers
    needs_postgres = postgres and not settings.postgres.dsn.get_secret_value()
    if not (needs_kafka or needs_postgres):
        return settings
    found = remembered(settings.data_dir) or Addresses("", "")
    if needs_kafka:
        _require(found.bootstrap_servers, "Kafka broker", "PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS")
        broker = settings.kafka.model_copy(update={"bootstrap_servers": found.bootstrap_servers})
        settings = settings.model_copy(update={"kafka": broker})
    if needs_postgres:
        _require(found.postgres_dsn, "PostgreSQL", "PROMPTLOOM_POSTGRES__DSN")
        database = settings.postgres.model_copy(update={"dsn": SecretStr(found.postgres_dsn)})
        settings = settings.model_copy(update={"postgres": database})
    return settings


def _require(address: str, what: str, variable: str) -> None:
    if not address:
        raise EmbeddedServiceFailed(
            f"no address of a {what}: {variable} is not set and the embedded one does not run",
            hint=f"run `promptloom up`, or set {variable}",
        )
