/*
 * Metrics: counters, gauges and histograms, written from any thread without locks, rendered as Prometheus
 * text.
 *
 * A series is made once (mutex) and then only touched by relaxed atomics; its handle lives as long as the
 * registry. Label sets are fixed text chosen by the program, never feed bytes; at most 1,000 series, after
 * which a shared "overflow" series is handed out and tidemill_metrics_dropped_series_total counts (FAILURES
 * c5). Names follow Prometheus conventions; the names users rely on stand in DESIGN 8.
 */
#ifndef TM_ENGINE_METRICS_H
#define TM_ENGINE_METRICS_H

#include "base/buf.h"

#include <stdbool.h>

struct tm_metrics;
struct tm_metric;

enum tm_metric_kind { TM_METRIC_COUNTER, TM_METRIC_GAUGE, TM_METRIC_HISTOGRAM };

struct tm_metrics *tm_metrics_create(void);
void tm_metrics_destroy(struct tm_metrics *m);

/* `labels` is NULL or `name="value",name="value"` already escaped; the same name and labels give the same
 * series. `help` is taken from the first call. */
struct tm_metric *tm_metrics_counter(struct tm_metrics *m, const char *name, const char *help, const char *labels);
struct tm_metric *tm_metrics_gauge(struct tm_metrics *m, const char *name, const char *help, const char *labels);
/* Latency histogram in seconds, buckets 1 ms to 300 s, fixed. */
struct tm_metric *tm_metrics_histogram(struct tm_metrics *m, const char *name, const char *help, const char *labels);

/*
 * For names and labels that are not the program's own, such as a script's. NULL when the name belongs to another kind.
 * With `max` > 0 the family has at most that many series beside `other`, which is given out for all further labels
 * (tidemill_metrics_dropped_series_total counts them); *is_other, which may be NULL, says whether it was.
 */
struct tm_metric *tm_metrics_bounded(struct tm_metrics *m, enum tm_metric_kind kind, const char *name, const char *help,
                                     const char *labels, const char *other, size_t max, bool *is_other);

/* What Prometheus allows: a metric's name, a label's name, and labels as text, like `a="b",c="d"`. */
bool tm_metric_is_name(const char *name);
bool tm_metric_is_label_name(const char *name);
bool tm_metric_is_labels(const char *labels);

/* Append `value` as it stands between the quotes of a label. TM_EINVAL: not UTF-8, or a control character. */
int tm_metric_escape_label(struct tm_buf *out, const char *value, size_t len) TM_MUST_CHECK;

/*
 * Call `fn` for each series of that name (under the registry's lock: fn makes no series). NAME_count and NAME_sum of a
 * histogram count as names. `metric` says which series it is, for as long as the registry lives.
 */
typedef void tm_metrics_visit(void *arg, const struct tm_metric *metric, const char *labels, double value);
void tm_metrics_each(struct tm_metrics *m, const char *name, tm_metrics_visit *fn, void *arg);

void tm_metric_add(struct tm_metric *metric, uint64_t n);        /* counter */
void tm_metric_set(struct tm_metric *metric, double v);          /* gauge; also sets a counter kept elsewhere */
void tm_metric_observe_us(struct tm_metric *metric, int64_t us); /* histogram; negative counts as 0 */
/* What it was about is gone (a gatherer that was removed): it is not rendered any more, until somebody makes the series of
 * this name and these labels again. */
void tm_metric_hide(struct tm_metric *metric);
double tm_metric_get(const struct tm_metric *metric);

int tm_metrics_render(struct tm_metrics *m, struct tm_buf *out) TM_MUST_CHECK;

#endif
