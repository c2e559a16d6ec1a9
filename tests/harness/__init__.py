"""Real daemons and real PostgreSQL under the control of a test.

Every process is an object that is started, waited for, paused, killed and read; nothing here sleeps and hopes. The
demo, the process tests and the drills are all written against these classes.

    waiting     wait_until
    process     Process: one program, its own group, its log, a life no longer than ours
    postgres    PostgresCluster: a private PostgreSQL
    replica     Replica, Backup: standbys, snapshots, points in time
    disk        SmallDisk: one that can be full
    daemons     Exchange, Gatherer, Deduplicator
    ledger      what the exchange says it sent
    verifier    production against the ledger, row by row, in SQL
    lab         Lab: all of the above, wired, watched and swept away
"""
from __future__ import annotations

from .daemons import Deduplicator, Exchange, Gatherer
from .lab import Lab, LabOptions
from .postgres import PostgresCluster, Templates
from .process import Process
from .verifier import Verdict, Verifier
from .waiting import Timeout, wait_until

__all__ = ["Deduplicator", "Exchange", "Gatherer", "Lab", "LabOptions", "PostgresCluster", "Templates", "Process", "Timeout",
           "Verdict", "Verifier", "wait_until"]
