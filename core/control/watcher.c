#include "control/watcher.h"
#include "control/daemon_private.h"
#include "control/figures.h"

#include "base/clock.h"
#include "base/log.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define STEP_US (200 * TM_US_PER_MS)
#define FIGURES_US (1 * TM_US_PER_S)
#define DISK_US (5 * TM_US_PER_S) /* a file system may be slow to answer, and fills slowly */

struct tm_watcher {
    struct tm_daemon *d;
    struct tm_watch *watch;
    struct tm_figures *figures;
    struct tm_timer timer;
    int64_t disk_asked_us, figures_us;
    bool disk_known;
    uint64_t disk_free_bytes;
    struct tm_watch_link links[TM_WATCH_LINKS_MAX];
    char names[TM_WATCH_LINKS_MAX][96];
    struct tm_watch_peer peers[TM_WATCH_GATHERERS_MAX];
    struct tm_deduplicator_gatherer_stats peer_stats[TM_WATCH_GATHERERS_MAX];
};

int64_t tm_watcher_last_life(const char *journal_dir)
{
    int64_t newest_us = 0;
    DIR *dir = journal_dir ? opendir(journal_dir) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat st;
        size_t len = strlen(e->d_name);
        if (len < 4 || strcmp(e->d_name + len - 4, ".seg") != 0 || fstatat(dirfd(dir), e->d_name, &st, 0))
            continue;
        int64_t us = (int64_t)st.st_mtim.tv_sec * TM_US_PER_S + st.st_mtim.tv_nsec / 1000;
        newest_us = us > newest_us ? us : newest_us;
    }
    if (dir)
        closedir(dir);
    return newest_us;
}

static void log_event(const struct tm_watch_event *e)
{
    bool good = e->type == TM_WATCH_CONNECTION_UP || e->type == TM_WATCH_CONNECTIONS_BACK ||
                e->type == TM_WATCH_OUTAGE_OVER || e->type == TM_WATCH_STORE_BACK ||
                e->type == TM_WATCH_PRODUCTION_BACK || e->type == TM_WATCH_GATHERER_BACK ||
                e->type == TM_WATCH_LAG_OVER || e->type == TM_WATCH_DISK_FINE;
    TM_LOG_LIMITED(good ? TM_LOG_INFO : TM_LOG_WARN, "watch", tm_watch_type_name(e->type),
                   TM_F_STR("name", e->name ? e->name : ""), TM_F_STR("text", e->text ? e->text : ""),
                   TM_F_F64("value", e->value), TM_F_F64("limit", e->limit),
                   TM_F_I64("lasted_ms", e->to_us ? (e->to_us - e->from_us) / TM_US_PER_MS : 0));
}

static void on_edge(void *arg, const struct tm_watch_event *event)
{
    struct tm_watcher *w = arg;
    log_event(event);
    tm_script_watch(w->d->script, event);
}

/* ---- the snapshot ---- */

static int64_t to_wall(const struct tm_watch_snapshot *s, int64_t mono_us)
{
    return mono_us ? s->wall_us - (s->now_us - mono_us) : 0;
}

static void take_links(struct tm_watcher *w, struct tm_gatherer *g, struct tm_watch_snapshot *s)
{
    size_t count = tm_gatherer_link_count(g);
    s->links = w->links;
    for (size_t i = 0; i < count && s->link_count < TM_WATCH_LINKS_MAX; i++) {
        struct tm_gatherer_link_stats stats;
        if (tm_gatherer_link_stats(g, (int)i, &stats) < 0)
            continue;
        struct tm_watch_link *l = &w->links[s->link_count];
        (void)snprintf(w->names[s->link_count], sizeof w->names[0], "%s", stats.name);
        *l = (struct tm_watch_link){.number = (int)i,
                                    .name = w->names[s->link_count],
                                    .up = stats.link.state == TM_LINK_UP,
                                    .ups = stats.link.ups,
                                    .messages = stats.link.messages,
                                    .gaps = stats.gaps,
                                    .last_message_us = to_wall(s, stats.link.last_message_us)};
        s->link_count++;
    }
}

static void ask_disk(struct tm_watcher *w, int64_t now_us)
{
    const char *dir = w->d->config->gatherer.journal.dir;
    struct statvfs fs;
    if (!dir || (w->disk_asked_us && now_us - w->disk_asked_us < DISK_US))
        return;
    w->disk_asked_us = now_us;
    w->disk_known = statvfs(dir, &fs) == 0;
    w->disk_free_bytes = w->disk_known ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
}

/* The store lags while the journal holds something that it has not: as much as the newest row it has is old. */
static int64_t store_lag_us(const struct tm_writer_stats *store, int64_t wall_us)
{
    int64_t since_us = store->last_row_received_us;
    return store->journal_lag_bytes && since_us && wall_us > since_us ? wall_us - since_us : 0;
}

static void take_gatherer(struct tm_watcher *w, struct tm_watch_snapshot *s, struct tm_gatherer_stats *stats)
{
    struct tm_gatherer *g = w->d->services.gatherer;
    *stats = tm_gatherer_stats(g);
    s->is_gatherer = true;
    take_links(w, g, s);
    ask_disk(w, s->now_us);
    s->disk_known = w->disk_known;
    s->disk_free_bytes = w->disk_free_bytes;
    s->store_connected = stats->store.connected;
    s->store_rebuilds = stats->store.rebuilds;
    s->store_is_new = stats->store.rebuilt_is_new;
    s->store_error = stats->store.last_error;
    s->journal_bytes = stats->journal.disk_bytes;
    s->journal_bytes_max = stats->journal.disk_bytes_max;
    s->unknown = stats->unknown + stats->malformed;
    s->lag_us = store_lag_us(&stats->store, s->wall_us);
}

static void take_deduplicator(struct tm_watcher *w, struct tm_watch_snapshot *s, struct tm_deduplicator_stats *stats)
{
    tm_deduplicator_tidy(w->d->deduplicator);
    *stats = tm_deduplicator_stats(w->d->deduplicator);
    s->production_connected = stats->production_connected;
    s->production_identity = stats->identity;
    s->production_error = stats->last_error;
    s->lag_us = stats->lag_us;
    s->peers = w->peers;
    for (size_t i = 0; i < stats->gatherer_count && i < TM_WATCH_GATHERERS_MAX; i++) {
        struct tm_deduplicator_gatherer_stats *p = &w->peer_stats[i];
        if (tm_deduplicator_gatherer_stats(w->d->deduplicator, i, p) < 0)
            break;
        w->peers[s->peer_count++] =
            (struct tm_watch_peer){.id = p->id,
                                   .connected = p->state == TM_PEER_CONNECTED,
                                   .why = *p->last_error ? p->last_error : tm_peer_state_name(p->state)};
    }
}

static bool is_time_for_figures(struct tm_watcher *w, int64_t now_us)
{
    if (w->figures_us && now_us - w->figures_us < FIGURES_US)
        return false;
    w->figures_us = now_us;
    return true;
}

static void on_step(void *arg)
{
    struct tm_watcher *w = arg;
    struct tm_watch_snapshot s = {.now_us = tm_clock_mono_us(), .wall_us = tm_clock_wall_us()};
    struct tm_gatherer_stats gatherer;
    struct tm_deduplicator_stats deduplicator;
    bool figures = is_time_for_figures(w, s.now_us);
    tm_figures_clock(w->figures, s.now_us, s.wall_us);
    if (w->d->services.gatherer)
        take_gatherer(w, &s, &gatherer);
    else
        take_deduplicator(w, &s, &deduplicator);
    if (figures && w->d->services.gatherer)
        tm_figures_gatherer(w->figures, &s, &gatherer);
    else if (figures)
        tm_figures_deduplicator(w->figures, &s, &deduplicator, w->peer_stats);
    tm_watch_step(w->watch, &s, &tm_script_config(w->d->script)->watch, on_edge, w);
}

struct tm_watcher *tm_watcher_start(struct tm_daemon *d, int64_t born_us)
{
    struct tm_watcher *w = calloc(1, sizeof *w);
    TM_FATAL_UNLESS(w);
    w->d = d;
    w->watch = tm_watch_create(tm_clock_mono_us(), born_us);
    w->figures = tm_figures_create(d->services.metrics, d->services.gatherer != NULL, d->config->id, d->version);
    tm_timer_init(&w->timer, d->services.loop, on_step, w);
    tm_timer_start(&w->timer, STEP_US, STEP_US);
    return w;
}

void tm_watcher_stop(struct tm_watcher *w)
{
    if (!w)
        return;
    tm_timer_stop(&w->timer);
    tm_watch_destroy(w->watch);
    tm_figures_destroy(w->figures);
    free(w);
}
