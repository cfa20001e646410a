"""Every limit of what is on the wire, with its derivation.

A limit lives here when a producer can run into it. Limits of the processing
(batches, caches, clusters) live in `streams/engine/limits.py`.
"""

KIB = 1024
MIB = 1024 * KIB

# One prompt. 256 KiB holds a 60,000-token prompt; what is longer is dead-lettered, never cut.
TEXT_BYTES_MAX = 256 * KIB
MESSAGES_MAX = 1_000  # chat turns in one prompt
ID_CHARS_MAX = 200
TENANT_CHARS_MAX = 100
SOURCE_CHARS_MAX = 200
METADATA_BYTES_MAX = 16 * KIB  # encoded as JSON

# One internal record (a frame of prompts). A single larger prompt travels alone.
FRAME_PROMPTS_MAX = 256
FRAME_BYTES_MAX = 512 * KIB

# One record on any topic, changelogs included. A prompt's text may stand in a
# record twice (the text itself and its slot values), each JSON-escaped at up to
# six bytes a character in the public topics: 256 KiB x 2 x 6 = 3 MiB.
RECORD_BYTES_MAX = 4 * MIB
assert 2 * 6 * TEXT_BYTES_MAX < RECORD_BYTES_MAX

# Timestamps outside are replaced by the record's own (Postgres and charts choke on the far past and future).
CREATED_AT_MS_MIN = 946_684_800_000  # 2000-01-01
RECEIVED_AT_MS_MAX = 4_102_444_800_000  # 2100-01-01; a record's own timestamp is only as good as its producer's clock
CREATED_AT_AHEAD_MS_MAX = 24 * 3600 * 1000  # a producer's clock may run a day ahead of the broker's
