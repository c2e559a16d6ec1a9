/*
 * The exporter brings production into the archive, period by period (archive/export.h): a thread of the deduplicator with a
 * session of its own, beside the merger and never in its way. Only the process that merges exports.
 *
 * A period of a stream is due `lag` after its end, once production has all that each active gatherer heard up to that end;
 * a gatherer that is away holds it up for at most `wait`. What comes after a period was exported is noted by whoever stores
 * it (store/exports.h), and goes into a further part of that period when nothing more has come for a while.
 *
 * Whatever fails is logged, counted and tried again; nothing is lost by it but time. The cursor moves after the archive has
 * object and manifest.
 *
 *     export_rows_total{stream}  export_bytes_total{stream}  export_objects_total{stream}  export_duration_seconds
 *     export_errors_total{type}      production, archive, damaged
 *     export_lag_seconds{stream}     how much longer ago than the lag the end of the next period is; 0: none is due
 */
#ifndef TM_ENGINE_EXPORTER_H
#define TM_ENGINE_EXPORTER_H

#include "archive/settings.h"
#include "archive/target.h"
#include "engine/deduplicator.h"

struct tm_exporter;

int tm_exporter_start(struct tm_deduplicator *d, struct tm_exporter **out, struct tm_error *err) TM_MUST_CHECK;
void tm_exporter_stop(struct tm_exporter *x); /* NULL is fine; gives up what is under way */

/* ---- the steps, for whoever exports without a deduplicator (`tidemill archive run`) ---- */

struct tm_export_sink {
    struct tm_pg *pg;
    struct tm_target *target;
    const struct tm_archive_settings *settings;
    const char *production; /* NULL: unknown */
};

enum tm_export_fault { TM_EXPORT_PRODUCTION, TM_EXPORT_ARCHIVE, TM_EXPORT_DAMAGED, TM_EXPORT_FAULTS };

struct tm_export_step {
    struct tm_period period;
    bool late; /* a period that had been exported before */
    uint64_t rows, bytes;
    unsigned objects, damaged;
    int64_t lag_us, took_us;
    enum tm_export_fault fault; /* when it failed */
};

/* The next period of a stream that is due: 1, and it is in the archive; 0: none is. */
int tm_export_step(const struct tm_export_sink *sink, const struct tm_stream *stream, struct tm_export_step *out,
                   struct tm_error *err) TM_MUST_CHECK;

/* The deadlines of a session that exports. */
#define TM_EXPORT_STATEMENT_US (INT64_C(4) * 3600 * 1000000)

#endif
