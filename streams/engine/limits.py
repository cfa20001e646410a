"""Every limit of the engine, with its reason. What is on the wire has its limits in `schemas/limits.py`."""

from __future__ import annotations

from schemas.limits import KIB, MIB, RECORD_BYTES_MAX

# One unit of work. Its outputs and rows wait in memory until it is whole, and a unit that fails is run
# again in halves, so it stays small; a single larger record makes a unit of its own.
UNIT_BYTES_MAX = MIB

# What may wait for a stage, per partition: enough to keep it busy through one commit, little enough
# that a held partition costs no memory worth mentioning. Fetching pauses above it.
INBOX_UNITS_MAX = 4
INBOX_BYTES_MAX = INBOX_UNITS_MAX * UNIT_BYTES_MAX

# Fetching. The broker answers at once when there is something; the wait only bounds how long a
# position change goes unnoticed, and how long a rebalance waits for the fetch under way.
FETCH_WAIT_MS_MAX = 100
FETCH_RECORDS_MAX = 2_000
FETCH_BYTES_MAX = 16 * MIB
CAREFUL_BYTES_MAX = MIB  # of records that the client failed on, read again by a slower parser

# A record with its key and headers, and the header of the batch it travels in.
RECORD_OVERHEAD_BYTES = 64  # offsets, lengths, timestamp of one record
BATCH_BYTES_MAX = RECORD_BYTES_MAX + 64 * KIB
SEND_BATCH_BYTES = MIB  # records of one partition are sent together up to this size

# A dead letter carries the original bytes and these headers; the message is cut to keep them small.
ERROR_MESSAGE_CHARS_MAX = 300
DEAD_LETTER_HEADERS_BYTES = 8 * KIB

# Transactions. The broker gives up a transaction that is open longer; ours last a commit interval.
TRANSACTION_TIMEOUT_MS = 60_000
COMMIT_TIMEOUT_S = 30.0
# A commit costs several round trips. When traffic is light it follows each unit; the pause after it
# grows with what the last one took, so that committing never eats more than about a sixth of the time.
COMMIT_PAUSE_FACTOR = 5.0

# A held partition is tried again after these pauses (doubled each time, jittered by half).
HOLD_SECONDS_MIN = 0.25
HOLD_SECONDS_MAX = 30.0
SILENT_FETCH_S = 3.0  # nothing comes, though there are records: looked at by itself
UNREADABLE_RETRY_S = 5.0  # between looks at a record that is broken: another replica may have it whole
RETRY_AFTER_SECONDS_MAX = 300.0  # of what a service may ask for: a slip of its clock must not stop work for a day

# A session in doubt starts over at once the first time, and after these pauses (doubled) when it fails again.
REJOIN_SECONDS_MIN = 0.5
REJOIN_SECONDS_MAX = 30.0
FAILURES_FORGOTTEN_S = 120.0

# Opening and closing sessions.
OPEN_CONCURRENCY = 16  # producers that connect at the same time
OPEN_RETRY_SECONDS_MIN = 0.2
OPEN_RETRY_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 10.0  # for the unit and the commit under way
PRODUCER_STOP_SECONDS_MAX = 5.0
RESTORE_WAIT_MS_MAX = 200
SETTLE_SECONDS_MAX = 10.0  # between the first and the last marker of somebody else's commit
SETTLE_PAUSE_S = 0.5

# State on disk. What waits to be written is held in memory; a disk that is further behind is given up.
STORE_QUEUE_BYTES_MAX = 128 * MIB
STORE_BATCH_BYTES = MIB
STORE_WRITE_BUFFER_BYTES = 16 * MIB
STORE_OPEN_FILES_MAX = 128
STORE_FOLDERS_MAX = 64  # workers of one machine that share a data folder
STORE_CLOSE_SECONDS_MAX = 5.0
# How old a store may be to be caught up from a changelog: compaction keeps tombstones for at least a day
# (delete.retention.ms, by default and in the topics made here), and half of it leaves room for clocks that differ.
STORE_AGE_SECONDS_MAX = 12 * 3600.0

# A worker that hangs is worse than one that dies: its supervisor restarts it, and a crash is always safe.
STUCK_SECONDS_MAX = 120.0  # partitions assigned, but no session and no progress
STOP_SECONDS_MAX = 20.0
EXIT_CODE_STUCK = 70  # EX_SOFTWARE
EXIT_CODE_SETTINGS = 78  # EX_CONFIG: starting again cannot help

WATCH_INTERVAL_S = 1.0
STALLED_SECONDS_MAX = 30.0  # records wait and none is processed: not ready
