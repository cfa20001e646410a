"""Exactly once inside Kafka: outputs, table rows and source offsets land together, or not at all.

Intuition. A clerk copies entries from one ledger to others and ticks them off. Should the clerk
faint, the next one must know which entries were copied; so copy and tick happen in one stroke of
the stamp (a Kafka transaction), and each ledger page has one stamp. A new clerk first takes the
stamp away from the old one (fencing: from now on the old stamp marks nothing), only then looks at
the last tick, and goes on from exactly there. Who is *supposed* to work on a page (the consumer
group) does not matter for correctness; only who holds the stamp does.

The rule, for each source partition by itself:

1. `InitProducerId("{app}-{topic}-{partition}")` fences every earlier owner, and waits until its
   open transaction is decided. What the brokers then still hold open under this id was decided, but
   lost its markers in a crash; it is ended as it was decided (hanging.py). The fence erases the decision, so it is
   written down before (notes.py).
2. Only then the committed offset is read, and the changelogs of the tables that this topic owns, up
   to the last stable offset. That is the truth, also after a commit whose answer was lost. Rows name
   the position they were reached by: offsets that do not belong to them are refused.
3. Processing goes on from exactly that offset. A unit (some records of the partition) is applied
   whole: its rows to the tables, its records to the producer; or it is dropped.
4. Sends, changelog rows and the offset go through that producer's transaction only. One task does
   everything a partition needs, in order, so no commit can fall inside a publish.
5. Any doubt (an error, a fence, a gap in the positions, a rebalance, a lost connection to a broker)
   drops the session: the worker asks for a new assignment and starts again at 1.

Modules, in the order of the flow:

    transport.py  what Faust and aiokafka do differently here: fetch, seek, rebalance
    careful.py    records that aiokafka fails on, read by its slower parser, or told apart as broken
    inbox.py      records of one partition that wait, and how many make a unit
    unit.py       a unit of work: overlay of rows, queue of sends
    session.py    one source partition between fence and doubt
    processing.py its records applied: the handler run, what is at fault found, services waited for
    ledger.py     what a partition has done and not committed yet
    producer.py   the transaction
    hanging.py    what a broker's crash left of earlier transactions, ended; wire.py has its requests
    notes.py      what the next worker must know, should this one die in between
    truth.py      committed offsets and changelogs, read after the fence; restore.py makes rows of them
    sessions.py   all sessions of a worker: open after each assignment, close before the next

What it cannot give. Side effects outside Kafka happen at least once. Where a commit lost markers and the next
transaction was begun before the lost connection was noticed, but could not be committed either, the fence aborts it
together with what those markers were for. That needs a partition that was without leader for a moment, as one with a
single replica is.

Offsets that are gone are noticed by rows they have left behind, of any stage of the group. An app without tables
commits where it begins at its first opening, and notes that it did; so a missing offset is a lost one there, too. Where
only offsets of a stage without tables are gone in an app that has tables, that stage begins anew as on a first start.

In topics that a worker may not read, `__consumer_offsets` among them, hanging transactions are not seen: a
warning names those of its own.
"""
