/*
 * Is production's schema still what the plan's rows are written for? Tables can be changed under us: a column given another
 * type takes our bytes for something else or refuses every row, one that is new and NOT NULL refuses every row. That is
 * the table's fault and not the rows', which the quarantine would drown in (FAILURES X22): so it is asked when a session
 * begins, and again before the first row of a transaction is put aside.
 */
#ifndef TM_STORE_DRIFT_H
#define TM_STORE_DRIFT_H

#include "record/plan.h"
#include "store/pg.h"

/* TM_EINVAL and the first difference: a column that is missing, of another type, or that our rows have no value for. A
 * table that is not there at all is no difference here: migrating makes it. */
int tm_drift_check(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err) TM_MUST_CHECK;

/* The names of the plan's tables that are missing although this schema was migrated before, joined by ", "; "": none. What
 * they held is gone. */
int tm_drift_lost_tables(struct tm_pg *pg, const struct tm_plan *plan, char *out, size_t size,
                         struct tm_error *err) TM_MUST_CHECK;

#endif
