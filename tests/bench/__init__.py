"""scripts/bench: what the parts and the whole cost, beside floors and peers of the same run. README.md says how.

    catalogue   which benchmarks there are, and their limits
    results     one shape of result, tables for people and for RESULTS.md
    machine     what it ran on
    compare     two builds, in turns
    report      how a benchmark in Python prints its results (report.h in C)
    feed        how late a feed is, in phases of a run
    servers     PostgreSQL, exchange and gatherer for one run
    peers/      what a user would write instead
"""
