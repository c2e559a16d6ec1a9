#include "exchange/book.h"

#include <stdlib.h>
#include <string.h>

void tm_book_clear(struct tm_book *b)
{
    b->levels[TM_YES] = b->levels[TM_NO] = 0;
}

void tm_book_fini(struct tm_book *b)
{
    free(b->side[TM_YES]);
    free(b->side[TM_NO]);
    *b = (struct tm_book){0};
}

/* The index of the first level that is not below `price`; searched from the best, where the changes are. */
static uint16_t position(const struct tm_book *b, enum tm_side side, uint32_t price)
{
    uint16_t i = b->levels[side];
    while (i > 0 && b->side[side][i - 1].price >= price)
        i--;
    return i;
}

struct tm_level *tm_book_at(struct tm_book *b, enum tm_side side, uint32_t price)
{
    uint16_t i = position(b, side, price);
    return i < b->levels[side] && b->side[side][i].price == price ? &b->side[side][i] : NULL;
}

uint32_t tm_book_best(const struct tm_book *b, enum tm_side side)
{
    return b->levels[side] ? b->side[side][b->levels[side] - 1].price : 0;
}

int64_t tm_book_best_size(const struct tm_book *b, enum tm_side side)
{
    return b->levels[side] ? b->side[side][b->levels[side] - 1].size : 0;
}

static int grow(struct tm_book *b, enum tm_side side)
{
    if (b->levels[side] < b->capacity[side])
        return TM_OK;
    if (b->levels[side] == TM_LEVELS_MAX)
        return TM_EFULL;
    uint16_t capacity = (uint16_t)(b->capacity[side] ? 2 * b->capacity[side] : 8);
    struct tm_level *levels = realloc(b->side[side], capacity * sizeof *levels);
    TM_FATAL_UNLESS(levels);
    b->side[side] = levels;
    b->capacity[side] = capacity;
    return TM_OK;
}

static int insert(struct tm_book *b, enum tm_side side, uint16_t i, struct tm_level level)
{
    int rc = grow(b, side);
    if (rc)
        return rc;
    struct tm_level *at = b->side[side] + i;
    memmove(at + 1, at, (size_t)(b->levels[side] - i) * sizeof *at);
    *at = level;
    b->levels[side]++;
    return TM_OK;
}

int tm_book_fold(struct tm_book *b, enum tm_side side, uint32_t price, int64_t change)
{
    uint16_t i = position(b, side, price);
    bool there = i < b->levels[side] && b->side[side][i].price == price;
    int64_t size = (there ? b->side[side][i].size : 0) + change;
    if (size < 0 || change == 0)
        return TM_EINVAL;
    if (!there)
        return insert(b, side, i, (struct tm_level){price, size});
    struct tm_level *at = b->side[side] + i;
    at->size = size;
    if (size == 0)
        memmove(at, at + 1, (size_t)(--b->levels[side] - i) * sizeof *at);
    return TM_OK;
}
