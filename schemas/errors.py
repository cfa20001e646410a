"""The error tree.

    PromptloomError
      x InputError                 the record is at fault: dead-lettered, never retried
        + UndecodableRecord        no known encoding, or a broken one
        + InvalidPrompt            decoded, but not a prompt (missing text, wrong type, too large, ...)
        + ConflictingDuplicate     an id seen before with another text
        + UnwritableRow            a sink's database does not take what the record holds
      x RecordTooLarge             a result that no topic would take: its record is dead-lettered
      x SchemaUnavailable          a schema id or fingerprint that cannot be resolved (yet)
      x ServiceError               something outside is at fault: the partition is held
        + ServiceUnavailable       no answer, time-out, 5xx: retry with backoff
        + ServiceRateLimited       429: retry after `retry_after_s`
        + ServiceRefused           401/403/400: retrying will not help
        + ServiceMalformed         an answer that cannot be read or has the wrong shape
      x SettingsInvalid            all problems of a configuration at once
      x StateIncompatible          a state row written by another version or embedder
      x EmbeddedServiceFailed      the embedded broker or database would not start

Every message says what was being done; `hint` says what a person can do about it.
"""

from __future__ import annotations


class PromptloomError(Exception):
    """Root of the tree. Never raised itself."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(PromptloomError):
    """The record is at fault; the same record will always fail."""


class UndecodableRecord(InputError):
    """The bytes fit none of the accepted encodings."""


class InvalidPrompt(InputError):
    """The record decoded, but is not an acceptable prompt."""


class ConflictingDuplicate(InputError):
    """A prompt id was used before in this tenant, for another text."""


class UnwritableRow(InputError):
    """A sink's database refuses a row of the record, whatever is tried."""


class RecordTooLarge(PromptloomError):
    """What a record led to is larger than any topic takes; the same record will always fail."""


class SchemaUnavailable(PromptloomError):
    """No schema is known (yet) under `reference`: `fingerprint:<hex>` or `registry:<id>`."""

    def __init__(self, message: str, *, reference: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reference = reference


class ServiceError(PromptloomError):
    """Something outside the process failed; the input is not to blame."""


class ServiceUnavailable(ServiceError):
    """No usable answer in time."""


class ServiceRateLimited(ServiceUnavailable):
    """The service asked for fewer requests."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ServiceRefused(ServiceError):
    """The service understood and declined; retrying will not help."""


class ServiceMalformed(ServiceError):
    """The service answered with something that cannot be read."""


class SettingsInvalid(PromptloomError):
    """The configuration has problems; the message lists all of them."""


class StateIncompatible(PromptloomError):
    """A state row belongs to another state format, algorithm or embedder."""


class EmbeddedServiceFailed(PromptloomError):
    """The embedded Kafka broker or PostgreSQL would not start or stop."""
