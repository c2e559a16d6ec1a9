/*
 * The databases of a script (tm.sql), without Lua: a few connections to each, and what waits for them.
 *
 *     run, begin, end --> waits for a connection --> runs --> outcome
 *                             \-- its deadline passes, nobody can connect --^
 *
 * Databases are counted: 0 is the role's own (the store of a gatherer, production of a deduplicator), the declared ones
 * follow from 1. Connections are opened when they are needed; a request takes a free one or waits for it, the oldest first,
 * within the deadline of its database. A transaction keeps its connection and runs one statement at a time; when its waiter
 * is not live any more the connection is closed, which rolls back.
 *
 * A request belongs to a waiter, a number that means something to the owner alone. What was accepted has one outcome, told
 * from the loop and never inside of the call; what is destroyed before is told nothing. At most 64 MiB of statements and
 * parameters wait. One thread (policy).
 */
#ifndef TM_SCRIPT_SQL_H
#define TM_SCRIPT_SQL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tm_config;
struct tm_loop;
struct tm_pg_answer;

struct tm_sql;

/* What became of a request; valid inside of the call. `error` says why it failed; NULL: it did not. */
struct tm_sql_outcome {
    const char *error, *sqlstate;      /* sqlstate: NULL or "" where there is none */
    const struct tm_pg_answer *answer; /* of a statement */
    double transaction;                /* that was begun, from 1; 0: none was */
    bool ended;                        /* a transaction */
};

struct tm_sql_owner {
    void *arg;
    /* Calls nothing of this header. */
    void (*on_outcome)(void *arg, uint64_t waiter, struct tm_sql_outcome *outcome);
    /* Whether who began a transaction is still there. */
    bool (*is_live)(void *arg, uint64_t waiter);
};

/* The databases that `config` declares, which outlives them; nothing is connected yet. An error: a conninfo. */
int tm_sql_create(struct tm_loop *loop, const struct tm_config *config, const struct tm_sql_owner *owner,
                  struct tm_sql **out, struct tm_error *err) TM_MUST_CHECK;
void tm_sql_destroy(struct tm_sql *sql); /* cancels what runs, untold; NULL is fine */

size_t tm_sql_count(const struct tm_sql *sql); /* the role's own included */

/* Text is copied, and wiped after use where it is hidden. */
struct tm_sql_statement {
    size_t database;
    const char *text;
    const char *const *values; /* NULL in it is SQL NULL */
    int count;                 /* at most TM_PG_PARAMETERS_MAX */
    bool hidden;               /* a value is a secret: errors repeat nothing of the statement */
    bool in_transaction;       /* in that one, which may be over */
    double transaction;
};

/* TM_ENOENT: the transaction is over, or another database's. TM_ESTATE: a statement of it runs or waits. TM_EFULL. */
int tm_sql_run(struct tm_sql *sql, uint64_t waiter, const struct tm_sql_statement *statement,
               struct tm_error *err) TM_MUST_CHECK;

/* Begin a transaction, which is the waiter's. */
void tm_sql_begin(struct tm_sql *sql, uint64_t waiter, size_t database);

/* Commit it, or roll it back. TM_ENOENT, TM_ESTATE: as above. */
int tm_sql_end(struct tm_sql *sql, uint64_t waiter, double transaction, bool commit,
               struct tm_error *err) TM_MUST_CHECK;

#endif
