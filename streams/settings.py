"""Every setting of promptloom, in one tree.

Sources, strongest first: environment (`PROMPTLOOM_KAFKA__PARTITIONS=8`), `config.yaml`
(or the file named by `PROMPTLOOM_CONFIG`), the defaults below. `load()` reports all
problems at once. `config.example.yaml` is generated from this file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from schemas.errors import SettingsInvalid
from schemas.topics import PARTITIONS_DEFAULT
from streams.engine.settings import EngineSettings, Section


class KafkaSettings(Section):
    bootstrap_servers: str = Field("", description="host:port,...; empty = the embedded broker of `promptloom up`")
    partitions: int = Field(PARTITIONS_DEFAULT, ge=1, le=1024, description="of every stage topic and changelog")
    replication_factor: int = Field(1, ge=1, le=7)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")
    schema_registry_url: str = Field("", description="resolves Confluent schema ids of incoming prompts; empty = none")


class PostgresSettings(Section):
    dsn: SecretStr = Field(SecretStr(""), description="postgresql://...; empty = the embedded database")


class QdrantSettings(Section):
    url: str = Field("", description="http://host:6333; empty = local mode in the data folder")
    api_key: SecretStr = SecretStr("")
    enabled: bool = True


class PortkeySettings(Section):
    base_url: str = Field("", description="of the gateway; empty = the hosted one")
    api_key: SecretStr = SecretStr("")
    virtual_key: SecretStr = SecretStr("")
    timeout_s: float = Field(20.0, gt=0, le=600)


class ModerationSettings(Section):
    moderator: Literal["offline", "portkey"] = "offline"
    portkey_model: str = "text-moderation-latest"
    policy_version: str = Field("1", description="named in every decision; change it with the thresholds")
    threshold: float = Field(0.5, ge=0, le=1, description="score from which a category rejects")
    thresholds: dict[str, float] = Field({}, description="by category; overrides `threshold`")
    tenants: dict[str, dict[str, float]] = Field({}, description="by tenant, then category; 'all' sets every category")


class EmbeddingSettings(Section):
    embedder: Literal["wordllama", "portkey"] = "wordllama"
    portkey_model: str = "text-embedding-3-small"
    portkey_dimension: int = Field(1536, ge=8, le=8192)
    chunk_chars: int = Field(4_000, ge=200, description="a longer text is embedded in chunks of this size and averaged")
    chunks_max: int = Field(16, ge=1, description="chunks of one text that are embedded; the rest is left out")
    cache_entries_max: int = Field(50_000, ge=0)


class RefinementSettings(Section):
    model: str = Field("", description="behind portkey; names templates, slots, families; empty = offline names only")
    examples_allowed: bool = Field(False, description="also send it example values of slots: they are your users' data")
    answer_tokens_max: int = Field(
        1_500, ge=0, le=100_000, description="sent as max_tokens; 0 = not sent, for models that refuse it"
    )


class ClusteringSettings(Section):
    calibration: str = Field(
        "", description="file `promptloom calibrate` writes, the same for all workers; empty = one in data_dir"
    )


class MetricsSettings(Section):
    enabled: bool = True
    host: str = "127.0.0.1"
    worker_port: int = Field(0, ge=0, le=65535, description="0 = a free one, printed at the start")
    sink_port: int = Field(0, ge=0, le=65535)


class LoggingSettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "console"] = "json"
    instance: str = Field("", description="stands in every log line; `worker --processes` sets it")


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix="PROMPTLOOM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(Path("~/.local/share/promptloom"), description="embedded services, Qdrant's local files")
    cache_dir: Path = Field(Path("~/.cache/promptloom"), description="downloads of the embedded services")
    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    qdrant: QdrantSettings = QdrantSettings()
    portkey: PortkeySettings = PortkeySettings()
    moderation: ModerationSettings = ModerationSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    refinement: RefinementSettings = RefinementSettings()
    clustering: ClusteringSettings = ClusteringSettings()
    engine: EngineSettings = EngineSettings(app_id="promptloom")
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  signature of pydantic-settings
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        yaml = YamlConfigSettingsSource(settings_cls, yaml_file=os.environ.get("PROMPTLOOM_CONFIG", "config.yaml"))
        return init_settings, env_settings, yaml


def load(**overrides: object) -> Settings:
    """Return the settings from file and environment.

    Raises:
        SettingsInvalid: the message lists every problem, one a line.
    """
    named = os.environ.get("PROMPTLOOM_CONFIG")
    if named and not Path(named).is_file():
        raise SettingsInvalid(f"reading the settings: PROMPTLOOM_CONFIG names {named}, which is not a file")
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "\n".join(_problem(item["loc"], item["msg"]) for item in error.errors(include_input=False))
        raise SettingsInvalid(
            f"reading the settings found {error.error_count()} problem(s):\n{problems}",
            hint="infra/config.example.yaml lists every setting with its default",
        ) from None
    except yaml.YAMLError as error:
        raise SettingsInvalid(f"reading the settings: {named or 'config.yaml'} is not YAML: {error}") from None
    return settings.model_copy(
        update={"data_dir": settings.data_dir.expanduser(), "cache_dir": settings.cache_dir.expanduser()}
    )


def _problem(location: tuple[int | str, ...], message: str) -> str:
    dotted = ".".join(map(str, location))
    variable = "PROMPTLOOM_" + "__".join(str(part).upper() for part in location)
    return f"  {dotted} (environment {variable}): {message}"


def example_yaml() -> str:
    """Return `config.example.yaml`: every setting, its default, what it is for."""
    lines = [
        "# Every setting of promptloom with its default. Copy to config.yaml and keep only what you change.",
        "# The environment wins over this file: PROMPTLOOM_KAFKA__PARTITIONS=16 sets kafka.partitions.",
        "# Generated by `promptloom config example`; do not edit.",
    ]
    defaults = Settings.model_construct()
    for name, field in Settings.model_fields.items():
        value = getattr(defaults, name)
        if isinstance(value, Section):
            lines += ["", f"{name}:"]
            for key, inner in type(value).model_fields.items():
                lines.append("  " + _line(key, getattr(value, key), inner.description))
        else:
            lines.append(_line(name, value, field.description))
    return "\n".join(lines) + "\n"


def _line(key: str, value: object, description: str | None) -> str:
    shown = value.get_secret_value() if isinstance(value, SecretStr) else value
    plain = str(shown) if isinstance(shown, Path) else shown
    text = f"{key}: {json.dumps(plain)}"
    return f"{text}  # {description}" if description else text
