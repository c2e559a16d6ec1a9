/*
 * Bugs on purpose, to see that the drills see them (FAILURES X28). A file asks `if (TM_PLANTED(skip_row))`; without
 * TM_PLANTED_BUG, as in everything that is installed, that is the constant false and leaves nothing in the program.
 * tests/CMakeLists.txt builds one program for each bug from the file that holds it.
 */
#ifndef TM_BASE_PLANTED_H
#define TM_BASE_PLANTED_H

enum tm_planted_bug {
    TM_PLANTED_none,
    TM_PLANTED_skip_row,     /* engine/merge.c: a row in a thousand is taken for known */
    TM_PLANTED_keep_memory,  /* engine/merge.c: what production had counts as seen although it is another one now */
    TM_PLANTED_early_cursor, /* engine/poller.c: a cursor passes a row that was not read */
    TM_PLANTED_double_row,   /* engine/intake_rows.c: what has no key is journaled twice */
    TM_PLANTED_silent_gap,   /* engine/intake.c: the gap ledger stays empty */
    TM_PLANTED_lose_market,  /* engine/batch.c: a shard takes a market in a hundred for another's, and nobody has it */
    TM_PLANTED_forget_fsync, /* journal/writer.c: called durable, but not synced */
};

#ifdef TM_PLANTED_BUG
#define TM_PLANTED_JOIN(bug) TM_PLANTED_##bug
#define TM_PLANTED_NAME(bug) TM_PLANTED_JOIN(bug)
#define TM_PLANTED(bug) (TM_PLANTED_NAME(TM_PLANTED_BUG) == TM_PLANTED_##bug)
#else
#define TM_PLANTED(bug) 0
#endif

#endif
