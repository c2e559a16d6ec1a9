/*
 * What a full store of a gatherer has to let go before production has it goes into the archive first (archive/unsynced.h),
 * on a thread of its own with a session of its own: neither the journal nor the store writer waits for an archive.
 *
 *     store writer (engine/retain.c):   offer a partition -> ask until it is done or has failed -> ledger -> drop
 *
 * One partition at a time, which nobody writes to any more.
 *
 *     export_rows_total{stream}  export_bytes_total{stream}  export_errors_total{type="archive"}
 */
#ifndef TM_ENGINE_OVERFLOW_H
#define TM_ENGINE_OVERFLOW_H

#include "archive/settings.h"
#include "archive/unsynced.h"
#include "engine/metrics.h"

struct tm_overflow;

enum tm_overflow_state {
    TM_OVERFLOW_IDLE, /* it was given nothing, or something else */
    TM_OVERFLOW_BUSY,
    TM_OVERFLOW_DONE,
    TM_OVERFLOW_FAILED, /* logged; may be offered again */
};

int tm_overflow_start(struct tm_metrics *metrics, const char *gatherer, struct tm_overflow **out,
                      struct tm_error *err) TM_MUST_CHECK;
void tm_overflow_stop(struct tm_overflow *o); /* NULL is fine; gives up what is under way */

/* From one thread, the store writer's. Offer: while it is not busy. `conninfo` and settings are copied, the plan is held. */
void tm_overflow_offer(struct tm_overflow *o, const char *conninfo, const struct tm_archive_settings *settings,
                       const struct tm_stream *stream, const struct tm_retention_part *part);
/* Of this partition; `out` is filled when it is done. */
enum tm_overflow_state tm_overflow_look(struct tm_overflow *o, const struct tm_retention_part *part,
                                        struct tm_unsynced_done *out);

#endif
