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

struct tm_metrics;
struct tm_metric;

struct tm_metrics *tm_metrics_create(void);
void tm_metrics_destroy(struct tm_metrics *m);

/* `labels` is NULL or `name="value",name="value"` already escaped; the same name and labels give the same
 * series. `help` is taken from the first call. */
struct tm_metric *tm_metrics_counter(struct tm_metrics *m, const char *name, const char *help, const char *labels);
struct tm_metric *tm_metrics_gauge(struct tm_metrics *m, const char *name, const char *help, const char *labels);
/* Latency histogram in seconds, buckets 1 ms to 300 s, fixed. */
struct tm_metric *tm_metrics_histogram(struct tm_metrics *m, const char *name, const char *help, const char *labels);

void tm_metric_add(struct tm_metric *metric, uint64_t n);        /* counter */
void tm_metric_set(struct tm_metric *metric, double v);          /* gauge; also sets a counter kept elsewhere */
void tm_metric_observe_us(struct tm_metric *metric, int64_t us); /* histogram; negative counts as 0 */
/* What it was about is gone (a gatherer that was removed): it is not rendered any more, until somebody makes the series of
 * this name and these labels again. */
void tm_metric_hide(struct tm_metric *metric);
double tm_metric_get(const struct tm_metric *metric);

int tm_metrics_render(struct tm_metrics *m, struct tm_buf *out) TM_MUST_CHECK;

#endif
