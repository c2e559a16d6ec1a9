/*
 * Figures that nobody counts where they arise: taken from statistics once a second and put into metrics. Connections and
 * gatherers have series of their own; of connections only the first TM_FIGURES_LINKS, so that a thousand of them leave
 * room for other series. What is gone is not rendered any more. On the policy thread.
 */
#ifndef TM_CONTROL_FIGURES_H
#define TM_CONTROL_FIGURES_H

#include "engine/deduplicator.h"
#include "engine/gatherer.h"
#include "engine/watch.h"

#define TM_FIGURES_LINKS 150

struct tm_figures;

/* `id` and `version` are what tidemill_info says. */
struct tm_figures *tm_figures_create(struct tm_metrics *metrics, bool is_gatherer, const char *id, const char *version);
void tm_figures_destroy(struct tm_figures *f);

/* Call it as often as possible: a clock that was set and set back in between is not seen. */
void tm_figures_clock(struct tm_figures *f, int64_t mono_us, int64_t wall_us);

void tm_figures_gatherer(struct tm_figures *f, const struct tm_watch_snapshot *snapshot,
                         const struct tm_gatherer_stats *stats);
void tm_figures_deduplicator(struct tm_figures *f, const struct tm_watch_snapshot *snapshot,
                             const struct tm_deduplicator_stats *stats,
                             const struct tm_deduplicator_gatherer_stats *peers);

#endif
