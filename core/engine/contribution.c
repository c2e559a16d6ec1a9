#include "engine/contribution.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS (2 * TM_CONTRIBUTION_RECORDS) /* a power of two */

struct record {
    struct tm_fp fp;
    uint64_t gatherers; /* a bit for each that brought it */
    int64_t first_us;
};

struct gatherer {
    char id[64];
    struct tm_contribution_counts counts;
};

struct tm_contribution {
    struct record records[TM_CONTRIBUTION_RECORDS]; /* a ring, the oldest at `from` */
    uint64_t from, to;
    uint32_t slots[SLOTS]; /* index into the ring + 1, by fingerprint; 0: free */
    struct gatherer gatherers[TM_CONTRIBUTION_GATHERERS_MAX];
    size_t gatherer_count;
};

struct tm_contribution *tm_contribution_create(void)
{
    struct tm_contribution *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    return c;
}

void tm_contribution_destroy(struct tm_contribution *c)
{
    free(c);
}

/* ---- the slots ---- */

static size_t home_of(struct tm_fp fp)
{
    return (size_t)(fp.lo % SLOTS);
}

static struct record *at(struct tm_contribution *c, size_t slot)
{
    return c->slots[slot] ? &c->records[c->slots[slot] - 1] : NULL;
}

/* Its slot, or the free one where it would be. */
static size_t slot_of(struct tm_contribution *c, struct tm_fp fp)
{
    size_t slot = home_of(fp);
    for (const struct record *r; (r = at(c, slot)) && (r->fp.lo != fp.lo || r->fp.hi != fp.hi);)
        slot = (slot + 1) % SLOTS;
    return slot;
}

/* Those behind a free slot move up, so that each is reached from its home. */
static void free_slot(struct tm_contribution *c, size_t hole)
{
    for (size_t slot = (hole + 1) % SLOTS; c->slots[slot]; slot = (slot + 1) % SLOTS) {
        size_t home = home_of(at(c, slot)->fp);
        if ((slot + SLOTS - home) % SLOTS < (slot + SLOTS - hole) % SLOTS)
            continue;
        c->slots[hole] = c->slots[slot];
        hole = slot;
    }
    c->slots[hole] = 0;
}

/* ---- gatherers ---- */

static const struct gatherer *find(const struct tm_contribution *c, const char *id)
{
    for (size_t i = 0; i < c->gatherer_count; i++)
        if (strcmp(c->gatherers[i].id, id) == 0)
            return &c->gatherers[i];
    return NULL;
}

/* 0: there are too many. */
static uint64_t bit_of(struct tm_contribution *c, const char *id)
{
    const struct gatherer *g = find(c, id);
    if (!g && c->gatherer_count < TM_CONTRIBUTION_GATHERERS_MAX) {
        g = &c->gatherers[c->gatherer_count];
        (void)snprintf(c->gatherers[c->gatherer_count++].id, sizeof g->id, "%s", id);
    }
    return g ? UINT64_C(1) << (g - c->gatherers) : 0;
}

/* ---- the sample ---- */

void tm_contribution_first(struct tm_contribution *c, struct tm_fp fp, const char *gatherer, int64_t now_us)
{
    size_t slot = slot_of(c, fp);
    uint64_t bit = bit_of(c, gatherer);
    if (c->slots[slot] || c->to - c->from == TM_CONTRIBUTION_RECORDS || !bit)
        return;
    uint32_t place = (uint32_t)(c->to++ % TM_CONTRIBUTION_RECORDS);
    c->records[place] = (struct record){.fp = fp, .gatherers = bit, .first_us = now_us};
    c->slots[slot] = place + 1;
}

void tm_contribution_copy(struct tm_contribution *c, struct tm_fp fp, const char *gatherer)
{
    struct record *r = at(c, slot_of(c, fp));
    if (r)
        r->gatherers |= bit_of(c, gatherer);
}

static void count(struct tm_contribution *c, uint64_t gatherers)
{
    bool alone = (gatherers & (gatherers - 1)) == 0;
    for (size_t i = 0; i < c->gatherer_count; i++)
        if (gatherers >> i & 1) {
            c->gatherers[i].counts.brought++;
            c->gatherers[i].counts.alone += alone;
        }
}

void tm_contribution_settle(struct tm_contribution *c, int64_t now_us)
{
    while (c->from != c->to) {
        struct record *r = &c->records[c->from % TM_CONTRIBUTION_RECORDS];
        if (r->first_us > now_us - TM_CONTRIBUTION_SETTLE_US)
            return;
        count(c, r->gatherers);
        free_slot(c, slot_of(c, r->fp));
        c->from++;
    }
}

struct tm_contribution_counts tm_contribution_of(const struct tm_contribution *c, const char *gatherer)
{
    const struct gatherer *g = find(c, gatherer);
    return g ? g->counts : (struct tm_contribution_counts){0};
}
