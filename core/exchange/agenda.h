/*
 * What the generator has promised for later: a binary heap of (event number, what, market). Equal numbers come out in
 * the order in which they were put in. Bounded by the number of markets: each has at most one item in it at a time.
 */
#ifndef TM_EXCHANGE_AGENDA_H
#define TM_EXCHANGE_AGENDA_H

#include <stdbool.h>
#include <stdint.h>

enum tm_task {
    TM_TASK_CLOSE, /* the last deltas, then closed */
    TM_TASK_CLEAR, /* the snapshot without levels */
    TM_TASK_CLEAR_AGAIN,
    TM_TASK_DETERMINE,
    TM_TASK_SETTLE,
    TM_TASK_UNPAUSE,
};

struct tm_agenda_item {
    uint64_t at, order;
    uint32_t market;
    enum tm_task task;
};

struct tm_agenda {
    struct tm_agenda_item *heap;
    uint32_t count, capacity;
    uint64_t order;
};

void tm_agenda_fini(struct tm_agenda *a);
void tm_agenda_put(struct tm_agenda *a, uint64_t at, enum tm_task task, uint32_t market);

/* The first item, if it is due at event number `now`. */
bool tm_agenda_take(struct tm_agenda *a, uint64_t now, struct tm_agenda_item *out);

#endif
