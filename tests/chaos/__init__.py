"""The guarantee, put to the test: real services and real processes, disturbed by a plan that a seed decides.

    make chaos SEED=7        every scenario, a table of the faults, exit code 1 on any difference

Intuition. A bank proves its books not by promising that nobody trips, but by tripping the clerks on purpose
and adding everything up again from the vouchers. Here the vouchers are the records of the topics: whatever was
killed, frozen or cut off on the way, they must say what an undisturbed run says.

Modules, in the order of a run:

    scenarios.py  which faults disturb one replay, and under which settings
    rig.py        a folder of its own: broker, database, workers and sinks as processes
    fleet.py      those processes: start, signal, restart what ends unasked
    load.py       prompts of the dataset, sent by an idempotent producer while faults happen
    faults/       one class a fault
    lane.py       strikes faults one after the other, and waits for the recovery of most
    watch.py      when did which partition go on? what is still on its way?
    harvest.py    everything a reader of committed records finds when all is quiet
    oracle.py     what the rooms themselves make of the recorded prompts, in this process, undisturbed
    checks.py     the difference between the two: lost, doubled, different
    catalogue.py  the same for the tables of Postgres
    evidence.py   did the faults bite? what the logs say about it
    report.py     the table, the log of runs, what a repeated run may skip
"""
