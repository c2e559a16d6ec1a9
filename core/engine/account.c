#include "engine/account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct account {
    struct account *next;
    char name[64];
    int64_t counted; /* rows up to this seq are in the books */
    struct tm_metric *journal_seq, *stored, *quarantined, *replayed, *gone, *pending;
};

struct tm_accounts {
    struct account *first;
    struct tm_metrics *metrics;
};

static void make_metrics(struct account *a, struct tm_metrics *m)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", a->name);
    a->journal_seq = tm_metrics_gauge(m, "tidemill_journal_seq", "The last seq given out in the journal.", labels);
    a->stored = tm_metrics_counter(m, "tidemill_store_rows_total", "Rows committed to the local store.", labels);
    a->quarantined = tm_metrics_counter(m, "tidemill_store_quarantined_rows_total",
                                        "Rows that the local store can never take.", labels);
    a->replayed =
        tm_metrics_counter(m, "tidemill_rows_replayed_total",
                           "Rows that were journaled before this process began, or stored before and lost by the "
                           "store: stored again.",
                           labels);
    a->gone =
        tm_metrics_counter(m, "tidemill_rows_gone_total", "Rows that the journal had and has not any more.", labels);
    a->pending =
        tm_metrics_gauge(m, "tidemill_rows_pending", "Rows in the journal that are not in the local store.", labels);
}

static struct account *account_of(struct tm_accounts *all, const char *name, int64_t counted)
{
    struct account *a = all->first;
    while (a && strcmp(a->name, name) != 0)
        a = a->next;
    if (a)
        return a;
    a = calloc(1, sizeof *a);
    TM_FATAL_UNLESS(a);
    (void)snprintf(a->name, sizeof a->name, "%s", name);
    a->counted = counted;
    make_metrics(a, all->metrics);
    a->next = all->first;
    all->first = a;
    return a;
}

struct tm_accounts *tm_accounts_create(struct tm_journal *journal, const struct tm_plan *plan,
                                       struct tm_metrics *metrics)
{
    struct tm_accounts *all = calloc(1, sizeof *all);
    TM_FATAL_UNLESS(all);
    all->metrics = metrics;
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++) {
        const char *name = tm_plan_stream(plan, i)->name;
        (void)account_of(all, name, tm_journal_last_seq(journal, name));
    }
    return all;
}

void tm_accounts_destroy(struct tm_accounts *all)
{
    if (!all)
        return;
    for (struct account *a; (a = all->first);) {
        all->first = a->next;
        free(a);
    }
    free(all);
}

/* A COMMIT whose answer was lost stored more than was counted; a crash of the store took something back. */
void tm_accounts_loaded(struct tm_accounts *all, struct tm_lanes *lanes)
{
    for (size_t i = 0; i < tm_lanes_family_count(lanes); i++)
        (void)account_of(all, tm_lanes_family(lanes, i)->name, tm_lanes_family(lanes, i)->seq);
    for (struct account *a = all->first; a; a = a->next) {
        int64_t loaded = 0;
        for (size_t i = 0; i < tm_lanes_family_count(lanes); i++)
            if (strcmp(tm_lanes_family(lanes, i)->name, a->name) == 0)
                loaded = tm_lanes_family(lanes, i)->seq;
        tm_metric_add(loaded > a->counted ? a->stored : a->replayed, (uint64_t)llabs(loaded - a->counted));
        a->counted = loaded;
    }
}

void tm_accounts_committed(struct tm_accounts *all, struct tm_lanes *lanes)
{
    for (size_t i = 0; i < tm_lanes_family_count(lanes); i++) {
        const struct tm_family *f = tm_lanes_family(lanes, i);
        struct account *a = account_of(all, f->name, 0);
        int64_t rows = 0, refused = 0;
        for (size_t k = 0; f->touched && k < tm_lanes_count(lanes); k++) {
            const struct tm_lane *lane = tm_lanes_get(lanes, k);
            rows += lane->family == f ? (int64_t)lane->count : 0;
            refused += lane->family == f ? (int64_t)lane->refused : 0;
        }
        if (!f->touched)
            continue;
        tm_metric_add(a->stored, (uint64_t)(rows - refused));
        tm_metric_add(a->quarantined, (uint64_t)refused);
        tm_metric_add(a->gone, (uint64_t)(f->seq - a->counted - rows));
        a->counted = f->seq;
    }
}

void tm_accounts_publish(struct tm_accounts *all)
{
    for (struct account *a = all->first; a; a = a->next) {
        int64_t pending = (int64_t)tm_metric_get(a->journal_seq) - a->counted;
        tm_metric_set(a->pending, pending > 0 ? (double)pending : 0);
    }
}
