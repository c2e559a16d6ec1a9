/*
 * Up to when the process before this one heard the exchange: the newest heartbeat in the journal (record/builtin.h). So no
 * file or record of its own is needed: what says that the rows are durable says how far they reach.
 */
#ifndef TM_ENGINE_HEARD_H
#define TM_ENGINE_HEARD_H

#include "journal/journal.h"
#include "record/plan.h"

/* After open, before anything is appended or declared. Unix microseconds; 0: the journal is new; TM_HEARD_UNKNOWN: it is
 * not, but no heartbeat can be read in its newest segments: nothing is known since its beginning. Reads files. */
#define TM_HEARD_UNKNOWN 1
int64_t tm_heard_until_us(struct tm_journal *journal, const struct tm_plan *plan);

#endif
