/* The spread against a model: two facts for each name (where it is placed, who was told), from which all changes
 * follow. The model is arrays and loops; only the choice of a place is read back, and judged by its rules. */
#include "engine/spread.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NAMES 160
#define LINKS 12
#define STEPS 60000

/* ---- by hand ---- */

static void add(struct tm_spread *s, const char *name)
{
    assert_int_equal(tm_spread_add(s, name, strlen(name)), 1);
}

static void drop(struct tm_spread *s, const char *name)
{
    assert_int_equal(tm_spread_remove(s, name, strlen(name)), 1);
}

static void expect_taken(struct tm_spread *s, uint32_t connection, enum tm_spread_change what, const char *json)
{
    struct tm_buf out = {0};
    assert_true(tm_spread_take(s, connection, what, 1000) >= 0);
    assert_int_equal(tm_spread_put_taken(s, connection, what, &out), TM_OK);
    assert_string_equal(tm_buf_cstr(&out), json);
    tm_buf_fini(&out);
}

static void expect_slot(struct tm_spread *s, uint32_t connection, uint32_t slot, const char *json)
{
    struct tm_buf out = {0};
    assert_int_equal(tm_spread_put_slot(s, connection, slot, &out), TM_OK);
    assert_string_equal(tm_buf_cstr(&out), json);
    tm_buf_fini(&out);
}

static void test_each_change_is_told_once(void **state)
{
    (void)state;
    struct tm_spread *s = tm_spread_create(1, 2);
    add(s, "A");
    add(s, "B");
    add(s, "C");
    assert_int_equal(tm_spread_add(s, "B", 1), 0);
    expect_slot(s, 0, 0, "[\"A\",\"B\"]");
    expect_slot(s, 0, 1, "[\"C\"]");
    expect_slot(s, 0, 7, "[]");
    assert_int_equal(tm_spread_take_slot(s, 0), 0);
    assert_int_equal(tm_spread_take_slot(s, 0), 1);
    assert_int_equal(tm_spread_take_slot(s, 0), -1);
    expect_taken(s, 0, TM_SPREAD_ADDED, "[\"A\",\"B\",\"C\"]");
    expect_taken(s, 0, TM_SPREAD_ADDED, "[]");
    assert_int_equal(tm_spread_pending(s), 0);
    drop(s, "A");
    add(s, "D");
    drop(s, "D");
    expect_taken(s, 0, TM_SPREAD_ADDED, "[]");
    expect_taken(s, 0, TM_SPREAD_REMOVED, "[\"A\"]");
    drop(s, "B");
    add(s, "B"); /* gone and back before anybody was told */
    expect_taken(s, 0, TM_SPREAD_ADDED, "[]");
    expect_taken(s, 0, TM_SPREAD_REMOVED, "[]");
    tm_spread_destroy(s);
}

static void test_what_could_not_be_sent_is_noted_again_unless_overtaken(void **state)
{
    (void)state;
    struct tm_spread *s = tm_spread_create(1, 2);
    add(s, "A");
    add(s, "B");
    expect_taken(s, 0, TM_SPREAD_ADDED, "[\"A\",\"B\"]");
    drop(s, "A");
    assert_int_equal(tm_spread_give_back(s, 0, TM_SPREAD_ADDED), TM_OK);
    expect_taken(s, 0, TM_SPREAD_REMOVED, "[]"); /* nobody ever heard of A */
    expect_taken(s, 0, TM_SPREAD_ADDED, "[\"B\"]");
    tm_spread_sent(s, 0, TM_SPREAD_ADDED);
    assert_int_equal(tm_spread_give_back(s, 0, TM_SPREAD_ADDED), TM_OK); /* nothing: it was sent */
    expect_taken(s, 0, TM_SPREAD_ADDED, "[]");
    drop(s, "B");
    expect_taken(s, 0, TM_SPREAD_REMOVED, "[\"B\"]");
    add(s, "B");
    assert_int_equal(tm_spread_give_back(s, 0, TM_SPREAD_REMOVED), TM_OK);
    expect_taken(s, 0, TM_SPREAD_ADDED, "[]"); /* it is back, and was never taken out over there */
    assert_int_equal(tm_spread_stats(s, 0).removed, 0);
    tm_spread_destroy(s);
}

static void test_names_move_when_connections_come_and_go(void **state)
{
    (void)state;
    struct tm_spread *s = tm_spread_create(2, 10);
    const char *names[] = {"A", "B", "C", "D", "E", "F"};
    for (int i = 0; i < 6; i++)
        add(s, names[i]);
    expect_taken(s, 0, TM_SPREAD_ADDED, "[\"A\",\"C\",\"E\"]");
    expect_taken(s, 1, TM_SPREAD_ADDED, "[\"B\",\"D\",\"F\"]");
    assert_int_equal(tm_spread_resize(s, 3, 10), TM_OK);
    expect_taken(s, 2, TM_SPREAD_ADDED, "[\"E\",\"F\"]");
    expect_taken(s, 0, TM_SPREAD_REMOVED, "[\"E\"]");
    assert_int_equal(tm_spread_stats(s, 1).removed, 1);
    assert_int_equal(tm_spread_resize(s, 2, 10), TM_OK);
    assert_int_equal(tm_spread_stats(s, 1).removed, 0); /* F is back where it was told, and nobody knows */
    expect_taken(s, 0, TM_SPREAD_ADDED, "[\"E\"]");
    expect_taken(s, 1, TM_SPREAD_ADDED, "[]");
    tm_spread_destroy(s);
}

static void test_names_are_any_bytes_and_come_out_as_json(void **state)
{
    (void)state;
    char longest[TM_SPREAD_NAME_MAX + 1];
    memset(longest, 'x', sizeof longest);
    struct tm_spread *s = tm_spread_create(1, 10);
    assert_int_equal(tm_spread_add(s, "", 0), TM_EINVAL);
    assert_int_equal(tm_spread_add(s, longest, sizeof longest), TM_EINVAL);
    assert_int_equal(tm_spread_add(s, longest, TM_SPREAD_NAME_MAX), 1);
    assert_int_equal(tm_spread_remove(s, longest, TM_SPREAD_NAME_MAX), 1);
    assert_int_equal(tm_spread_remove(s, longest, sizeof longest), 0);
    add(s, "a\"b\\c\n\xc3\xbc");
    expect_slot(s, 0, 0, "[\"a\\u0022b\\u005cc\\u000a\xc3\xbc\"]");
    tm_spread_destroy(s);
}

/* ---- the model ---- */

struct model {
    uint32_t links, chunk[LINKS];
    int placed[NAMES]; /* connection, or -1 */
    bool told[NAMES][LINKS];
    uint32_t slot_seen[LINKS][NAMES]; /* by name: slot + 1 in which it was when its slot was last taken */
    bool batch[2][LINKS][NAMES];
};

static struct model model;
static struct tm_spread *spread;
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % below;
}

/* Lengths of all size classes of short names. */
static size_t name_of(uint32_t i, char out[64])
{
    return (size_t)snprintf(out, 64, "N%03u%.*s", i, (int)(i % 40), "----------------------------------------");
}

static uint32_t number_of(const char *name, size_t len)
{
    char again[64];
    char digits[4] = {name[1], name[2], name[3]}; /* the spread ends no text with a NUL */
    uint32_t i = (uint32_t)atoi(digits);
    assert_true(i < NAMES && name_of(i, again) == len && memcmp(name, again, len) == 0);
    return i;
}

static uint32_t load_of(uint32_t link)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < NAMES; i++)
        count += model.placed[i] == (int)link;
    return count;
}

static uint32_t total(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < NAMES; i++)
        count += model.placed[i] >= 0;
    return count;
}

static bool changed(enum tm_spread_change what, uint32_t link, uint32_t i)
{
    bool here = model.placed[i] == (int)link;
    return what == TM_SPREAD_ADDED ? here && !model.told[i][link] : !here && model.told[i][link];
}

static int place_of(uint32_t i, uint32_t *slot)
{
    char name[64];
    struct tm_spread_place at;
    if (!tm_spread_find(spread, name, name_of(i, name), &at))
        return -1;
    *slot = at.slot;
    return (int)at.connection;
}

/* ---- what must hold at any time ---- */

static void check_slots(uint32_t link)
{
    struct tm_spread_stats stats = tm_spread_stats(spread, link);
    bool seen[NAMES] = {0};
    uint32_t names = 0, slot_of = 0;
    assert_int_equal(stats.chunk, model.chunk[link]);
    for (uint32_t slot = 0; slot < stats.slots; slot++) {
        uint32_t count = tm_spread_slot_count(spread, link, slot);
        assert_true(count <= stats.chunk);
        names += count;
        for (uint32_t k = 0; k < count; k++) {
            size_t len;
            const char *name = tm_spread_slot_name(spread, link, slot, k, &len);
            uint32_t i = number_of(name, len);
            assert_true(!seen[i] && model.placed[i] == (int)link);
            assert_int_equal(place_of(i, &slot_of), link);
            assert_int_equal(slot_of, slot);
            seen[i] = true;
        }
    }
    assert_int_equal(names, load_of(link));
    assert_int_equal(names, stats.names);
}

static void check_all(void)
{
    uint32_t cursor = 0, count = 0;
    uint64_t pending = 0;
    size_t len;
    bool seen[NAMES] = {0};
    assert_int_equal(tm_spread_count(spread), total());
    assert_int_equal(tm_spread_connections(spread), model.links);
    for (uint32_t link = 0; link < model.links; link++) {
        struct tm_spread_stats stats = tm_spread_stats(spread, link);
        uint32_t added = 0, removed = 0;
        check_slots(link);
        for (uint32_t i = 0; i < NAMES; i++) {
            added += changed(TM_SPREAD_ADDED, link, i);
            removed += changed(TM_SPREAD_REMOVED, link, i);
        }
        assert_int_equal(stats.added, added);
        assert_int_equal(stats.removed, removed);
        pending += added + removed + stats.dirty;
    }
    assert_int_equal(tm_spread_pending(spread), pending);
    for (const char *name; (name = tm_spread_next(spread, &cursor, &len)); count++) {
        uint32_t i = number_of(name, len);
        assert_true(!seen[i] && model.placed[i] >= 0);
        seen[i] = true;
    }
    assert_int_equal(count, total());
}

/* ---- random steps ---- */

static void step_add(void)
{
    char name[64];
    uint32_t i = draw(NAMES), slot, fewest = NAMES;
    bool was_told = false;
    int rc = tm_spread_add(spread, name, name_of(i, name));
    assert_int_equal(rc, model.placed[i] < 0);
    if (rc == 0)
        return;
    for (uint32_t link = 0; link < model.links; link++) {
        uint32_t load = load_of(link);
        fewest = load < fewest ? load : fewest;
        was_told = was_told || model.told[i][link];
    }
    int at = place_of(i, &slot);
    assert_true(at >= 0 && at < (int)model.links);
    if (was_told)
        assert_true(model.told[i][at]);
    else
        assert_int_equal(load_of((uint32_t)at), fewest);
    model.placed[i] = at;
}

static void step_remove(void)
{
    char name[64];
    uint32_t i = draw(NAMES);
    assert_int_equal(tm_spread_remove(spread, name, name_of(i, name)), model.placed[i] >= 0);
    model.placed[i] = -1;
}

static void step_take(void)
{
    uint32_t link = draw(model.links), limit = draw(20), possible = 0, i;
    enum tm_spread_change what = draw(2) ? TM_SPREAD_ADDED : TM_SPREAD_REMOVED;
    size_t len;
    for (i = 0; i < NAMES; i++)
        possible += changed(what, link, i);
    int count = tm_spread_take(spread, link, what, limit);
    assert_int_equal(count, possible < limit ? possible : limit);
    memset(model.batch[what][link], 0, sizeof model.batch[what][link]);
    for (int k = 0; k < count; k++) {
        const char *name = tm_spread_taken(spread, link, what, (uint32_t)k, &len);
        i = number_of(name, len);
        assert_true(changed(what, link, i));
        model.told[i][link] = what == TM_SPREAD_ADDED;
        model.batch[what][link][i] = true;
    }
    assert_null(tm_spread_taken(spread, link, what, (uint32_t)count, &len));
}

static void step_end_take(bool sent)
{
    uint32_t link = draw(model.links);
    enum tm_spread_change what = draw(2) ? TM_SPREAD_ADDED : TM_SPREAD_REMOVED;
    if (sent)
        tm_spread_sent(spread, link, what);
    else
        assert_int_equal(tm_spread_give_back(spread, link, what), TM_OK);
    for (uint32_t i = 0; i < NAMES; i++) {
        if (model.batch[what][link][i] && !sent)
            model.told[i][link] = what == TM_SPREAD_REMOVED;
        model.batch[what][link][i] = false;
    }
}

/* Slots that are clean hold what they held when they were taken. */
static void step_slots(void)
{
    uint32_t link = draw(model.links), now = 0;
    int64_t taken;
    bool again[NAMES] = {0};
    while ((taken = tm_spread_take_slot(spread, link)) >= 0) {
        assert_true(taken < NAMES && !again[taken]);
        again[taken] = true;
    }
    assert_int_equal(tm_spread_stats(spread, link).dirty, 0);
    for (uint32_t i = 0; i < NAMES; i++) {
        uint32_t before = model.slot_seen[link][i];
        uint32_t after = place_of(i, &now) == (int)link ? now + 1 : 0;
        if (before != after)
            assert_true((!before || again[before - 1]) && (!after || again[after - 1]));
        model.slot_seen[link][i] = after;
    }
}

static void forget_link(uint32_t link)
{
    for (uint32_t i = 0; i < NAMES; i++) {
        model.told[i][link] = model.batch[0][link][i] = model.batch[1][link][i] = false;
        model.slot_seen[link][i] = 0;
    }
}

static void step_restart(void)
{
    uint32_t link = draw(model.links);
    if (draw(2)) {
        tm_spread_retell(spread, link);
        for (uint32_t i = 0; i < NAMES; i++)
            model.told[i][link] = model.told[i][link] && model.placed[i] != (int)link;
        return;
    }
    tm_spread_restart(spread, link);
    forget_link(link);
    struct tm_spread_stats stats = tm_spread_stats(spread, link);
    assert_int_equal(stats.dirty, stats.slots);
}

static void step_chunk(void)
{
    uint32_t link = draw(model.links);
    model.chunk[link] = 1 + draw(30);
    assert_int_equal(tm_spread_set_chunk(spread, link, model.chunk[link]), TM_OK);
}

/* No name moves but those of connections that went and those that newcomers take, which is just their share. */
static void step_resize(void)
{
    uint32_t had = model.links, links = 1 + draw(LINKS), chunk = draw(3) ? tm_spread_chunk(spread) : 1 + draw(30);
    uint32_t share = total() / links, slot, loads[LINKS];
    bool other = chunk != tm_spread_chunk(spread);
    assert_int_equal(tm_spread_resize(spread, links, chunk), TM_OK);
    for (uint32_t link = links; link < had; link++)
        forget_link(link);
    for (uint32_t link = had; link < links; link++)
        forget_link(link);
    model.links = links;
    for (uint32_t link = 0; link < links; link++) {
        loads[link] = 0;
        if (other || link >= had)
            model.chunk[link] = chunk;
    }
    for (uint32_t i = 0; i < NAMES; i++) {
        int before = model.placed[i], after = place_of(i, &slot);
        assert_int_equal(before < 0, after < 0);
        if (before >= 0 && before < (int)links && after < (int)had)
            assert_int_equal(after, before);
        model.placed[i] = after;
        if (after >= 0)
            loads[after]++;
    }
    for (uint32_t link = had; link < links; link++)
        assert_int_equal(loads[link], share);
}

static void step_clear(void)
{
    if (draw(50))
        return;
    tm_spread_clear(spread);
    for (uint32_t i = 0; i < NAMES; i++)
        model.placed[i] = -1;
    for (uint32_t link = 0; link < LINKS; link++)
        forget_link(link);
}

static void one_step(uint32_t adds)
{
    uint32_t what = draw(100);
    if (what < adds)
        step_add();
    else if (what < 60)
        step_remove();
    else if (what < 75)
        step_take();
    else if (what < 85)
        step_end_take(what < 80);
    else if (what < 90)
        step_slots();
    else if (what < 92)
        step_restart();
    else if (what < 95)
        step_chunk();
    else if (what < 99)
        step_resize();
    else
        step_clear();
}

static void test_random_operations_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 4; round++) {
        seed = round;
        memset(&model, 0, sizeof model);
        memset(model.placed, 0xff, sizeof model.placed);
        model.links = 3;
        for (uint32_t link = 0; link < LINKS; link++)
            model.chunk[link] = 7;
        spread = tm_spread_create(3, 7);
        for (int i = 0; i < STEPS / 4; i++) {
            one_step(i / 1000 % 2 ? 45 : 20); /* times of growth, times of decline */
            check_all();
        }
        tm_spread_destroy(spread);
    }
}

/* Names that come and go for ever use the same memory again. */
static void test_memory_is_used_again(void **state)
{
    (void)state;
    char name[64];
    size_t after_first = 0;
    struct tm_spread *s = tm_spread_create(4, 100);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 20000; i++)
            assert_int_equal(tm_spread_add(s, name, (size_t)snprintf(name, sizeof name, "R%02u-%u", round, i)), 1);
        for (uint32_t link = 0; link < 4; link++)
            assert_int_equal(tm_spread_take(s, link, TM_SPREAD_ADDED, 20000), 5000);
        for (uint32_t i = 0; i < 20000; i++)
            assert_int_equal(tm_spread_remove(s, name, (size_t)snprintf(name, sizeof name, "R%02u-%u", round, i)), 1);
        for (uint32_t link = 0; link < 4; link++)
            assert_int_equal(tm_spread_take(s, link, TM_SPREAD_REMOVED, 20000), 5000);
        if (round == 1)
            after_first = tm_spread_memory(s);
    }
    assert_int_equal(tm_spread_memory(s), after_first);
    tm_spread_clear(s);
    assert_true(tm_spread_memory(s) < 10000);
    tm_spread_destroy(s);
}

/* ---- a million ---- */

#define MILLION 1000000u

static size_t million_name(uint32_t i, char out[64])
{
    return (size_t)snprintf(out, 64, "KXMARKET%02u-26NOV05H-T%06u.55", i % 40, i);
}

static void test_a_million_names(void **state)
{
    (void)state;
    char name[64];
    assert_int_equal(million_name(7, name), 30);
    struct tm_spread *s = tm_spread_create(144, 500);
    int64_t begun_us = tm_clock_mono_us();
    for (uint32_t i = 0; i < MILLION; i++)
        assert_int_equal(tm_spread_add(s, name, million_name(i, name)), 1);
    int64_t placed_us = tm_clock_mono_us();
    struct tm_buf out = {0};
    size_t frames = 0;
    for (uint32_t link = 0; link < 144; link++) {
        assert_true(tm_spread_stats(s, link).names - MILLION / 144 <= 1);
        while (tm_spread_take(s, link, TM_SPREAD_ADDED, 500) > 0) {
            assert_int_equal(tm_spread_put_taken(s, link, TM_SPREAD_ADDED, &out), TM_OK);
            frames++;
        }
        tm_spread_sent(s, link, TM_SPREAD_ADDED);
    }
    int64_t taken_us = tm_clock_mono_us();
    assert_int_equal(frames, 144 * 14);                       /* 6,945 of 500 */
    assert_int_equal(out.len, (size_t)MILLION * 33 + frames); /* quotes and commas, but one for each frame, and [] */
    size_t memory = tm_spread_memory(s);
    print_message(
        "a million names of 30 bytes on 144 connections: placed in %.0f ms, frames made in %.0f ms, %.1f MB\n",
        (double)(placed_us - begun_us) / 1e3, (double)(taken_us - placed_us) / 1e3, (double)memory / 1e6);
    assert_true(memory < 100000000);
    tm_buf_fini(&out);
    tm_spread_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_change_is_told_once),
        cmocka_unit_test(test_what_could_not_be_sent_is_noted_again_unless_overtaken),
        cmocka_unit_test(test_names_move_when_connections_come_and_go),
        cmocka_unit_test(test_names_are_any_bytes_and_come_out_as_json),
        cmocka_unit_test(test_random_operations_agree_with_the_model),
        cmocka_unit_test(test_memory_is_used_again),
        cmocka_unit_test(test_a_million_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
