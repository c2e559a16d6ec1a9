/* The table of recovery runs: what may start when, and what is told about it. */
#include "script/routines.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int old_script, new_script; /* their addresses are owners */

struct bench {
    struct tm_metrics *metrics;
    struct tm_routines *r;
};

static struct bench bench(size_t running_max, size_t waiting_max)
{
    struct bench b = {.metrics = tm_metrics_create()};
    b.r = tm_routines_create(b.metrics);
    tm_routines_open(b.r, &old_script, running_max, waiting_max);
    return b;
}

static void bench_end(struct bench *b)
{
    tm_routines_destroy(b->r);
    tm_metrics_destroy(b->metrics);
}

static enum tm_run_offered offer(struct bench *b, const char *routine, const char *subject, int priority,
                                 const char *fields)
{
    struct tm_run_offer o = {
        .routine = routine, .subject = subject, .event = "gap", .fields = fields, .priority = priority};
    return tm_routines_offer(b->r, &o, 1);
}

/* Start the next; its id, 0 when none may start. */
static uint64_t next(struct bench *b, const void *owner, const char *routine, const char *subject)
{
    const struct tm_run *run = tm_routines_next(b->r, owner, 100);
    if (!run)
        return 0;
    if (routine) {
        assert_string_equal(run->routine, routine);
        assert_string_equal(run->subject, subject);
    }
    uint64_t id = run->id;
    tm_routines_start(b->r, id, owner, 2);
    return id;
}

static double runs(struct bench *b, const char *labels)
{
    return tm_metric_get(tm_metrics_counter(b->metrics, "tidemill_recovery_runs_total", "", labels));
}

static void one_flight_a_subject(void **state)
{
    (void)state;
    struct bench b = bench(0, 0);
    assert_int_equal(offer(&b, "resync", "book/1", 3, "{\"n\":1}"), TM_RUN_QUEUED);
    assert_int_equal(offer(&b, "resync", "book/1", 3, "{\"n\":2}"), TM_RUN_COALESCED);
    assert_string_equal(tm_routines_pending(b.r, "resync", "book/1"), "{\"n\":2}");
    uint64_t id = next(&b, &old_script, "resync", "book/1");
    assert_int_equal(offer(&b, "resync", "book/1", 3, "{\"n\":3}"), TM_RUN_COALESCED);
    assert_int_equal(offer(&b, "resync", "book/1", 3, "{\"n\":4}"), TM_RUN_COALESCED);
    assert_int_equal(offer(&b, "resync", "book/2", 3, "{}"), TM_RUN_QUEUED);
    assert_true(next(&b, &old_script, "resync", "book/2") != 0); /* overtakes the one whose subject is busy */
    assert_true(next(&b, &old_script, NULL, NULL) == 0);
    tm_routines_end(b.r, id, "done", NULL, 3);
    id = next(&b, &old_script, "resync", "book/1"); /* once more, not twice */
    assert_true(id != 0);
    assert_string_equal(tm_routines_find(b.r, id)->fields, "{\"n\":4}");
    assert_int_equal(tm_routines_waiting(b.r), 0);
    assert_true(runs(&b, "routine=\"resync\",result=\"done\"") == 1);
    bench_end(&b);
}

static void the_urgent_go_first_and_few_at_once(void **state)
{
    (void)state;
    struct bench b = bench(2, 0);
    (void)offer(&b, "c", "x", 8, "{}");
    (void)offer(&b, "b", "x", 3, "{}");
    (void)offer(&b, "a", "x", 1, "{}");
    (void)offer(&b, "b", "y", 3, "{}");
    uint64_t first = next(&b, &old_script, "a", "x");
    assert_true(next(&b, &old_script, "b", "x") != 0); /* the older of two that are equally urgent */
    assert_true(next(&b, &old_script, NULL, NULL) == 0);
    tm_routines_end(b.r, first, "failed", "no", 3);
    assert_true(next(&b, &old_script, "b", "y") != 0);
    assert_int_equal(tm_routines_running(b.r), 2);
    bench_end(&b);
}

static void the_queue_is_bounded_and_drops_the_least_urgent(void **state)
{
    (void)state;
    struct bench b = bench(1, 2);
    assert_int_equal(offer(&b, "a", "1", 5, "{}"), TM_RUN_QUEUED);
    assert_int_equal(offer(&b, "a", "2", 5, "{}"), TM_RUN_QUEUED);
    assert_int_equal(offer(&b, "a", "3", 5, "{}"), TM_RUN_DROPPED);
    assert_int_equal(offer(&b, "u", "1", 1, "{}"), TM_RUN_QUEUED); /* takes the place of the newer of the others */
    assert_null(tm_routines_pending(b.r, "a", "2"));
    assert_non_null(tm_routines_pending(b.r, "a", "1"));
    assert_true(runs(&b, "routine=\"a\",result=\"dropped\"") == 2);
    bench_end(&b);
}

static void a_retry_waits_for_its_time(void **state)
{
    (void)state;
    struct bench b = bench(0, 0);
    struct tm_run_offer o = {.routine = "a",
                             .subject = "s",
                             .event = "e",
                             .fields = "{}",
                             .saved = "{\"page\":7}",
                             .attempt = 2,
                             .not_before_us = 500};
    (void)tm_routines_offer(b.r, &o, 1);
    assert_null(tm_routines_next(b.r, &old_script, 499));
    const struct tm_run *run = tm_routines_next(b.r, &old_script, 500);
    assert_non_null(run);
    assert_int_equal(run->attempt, 2);
    assert_string_equal(run->saved, "{\"page\":7}");
    bench_end(&b);
}

static void two_generations_share_it(void **state)
{
    (void)state;
    struct bench b = bench(2, 0);
    (void)offer(&b, "backfill", "trades", 1, "{\"n\":1}");
    uint64_t id = next(&b, &old_script, "backfill", "trades");
    tm_routines_save(b.r, id, "{\"page\":3}");
    tm_routines_open(b.r, &new_script, 2, 0);
    (void)offer(&b, "resync", "book/1", 3, "{}");
    assert_null(tm_routines_next(b.r, &old_script, 100)); /* its time to start something is over */
    (void)offer(&b, "backfill", "trades", 1, "{\"n\":2}");
    assert_true(next(&b, &new_script, "resync", "book/1") != 0);
    assert_true(next(&b, &new_script, NULL, NULL) == 0); /* the old generation is still at it */
    tm_routines_end(b.r, id, "done", NULL, 3);
    id = next(&b, &new_script, "backfill", "trades");
    assert_string_equal(tm_routines_find(b.r, id)->fields, "{\"n\":2}");
    assert_null(tm_routines_find(b.r, id)->saved); /* another run, another outage */
    /* and now that generation dies with its run unfinished */
    tm_routines_save(b.r, id, "{\"page\":9}");
    tm_routines_open(b.r, &old_script, 2, 0);
    tm_routines_abandon(b.r, &new_script, 4);
    assert_int_equal(tm_routines_running(b.r), 0);
    id = next(&b, &old_script, "backfill", "trades");
    assert_string_equal(tm_routines_find(b.r, id)->saved, "{\"page\":9}");
    assert_string_equal(tm_routines_find(b.r, id)->fields, "{\"n\":2}");
    bench_end(&b);
}

static void cancelling(void **state)
{
    (void)state;
    struct bench b = bench(1, 0);
    (void)offer(&b, "a", "1", 5, "{}");
    (void)offer(&b, "a", "2", 5, "{}");
    (void)offer(&b, "b", "1", 5, "{}");
    uint64_t id = next(&b, &old_script, "a", "1");
    assert_int_equal(tm_routines_cancel(b.r, "a", "9"), 0);
    assert_int_equal(tm_routines_cancel(b.r, "a", NULL), 2);
    assert_true(tm_routines_find(b.r, id)->cancelled);
    assert_int_equal(tm_routines_waiting(b.r), 1);
    tm_routines_abandon(b.r, &old_script, 3); /* what was cancelled does not begin again */
    assert_int_equal(tm_routines_waiting(b.r), 1);
    bench_end(&b);
}

static void taking_what_waits(void **state)
{
    (void)state;
    struct bench b = bench(0, 0);
    assert_null(tm_routines_take(b.r, "a", "1"));
    (void)offer(&b, "a", "1", 5, "{\"x\":1}");
    char *fields = tm_routines_take(b.r, "a", "1");
    assert_string_equal(fields, "{\"x\":1}");
    free(fields);
    assert_int_equal(tm_routines_waiting(b.r), 0);
    bench_end(&b);
}

static const char *text_at(json_t *root, const char *list, size_t index, const char *field)
{
    const char *text = json_string_value(json_object_get(json_array_get(json_object_get(root, list), index), field));
    return text ? text : "";
}

static void status_is_json_whatever_the_texts_are(void **state)
{
    (void)state;
    struct bench b = bench(1, 0);
    struct tm_buf out = {0};
    (void)offer(&b, "a", "sub\"ject\n\xc3\xa9", 5, "{}");
    uint64_t id = next(&b, &old_script, NULL, NULL);
    for (int i = 0; i < 3 * TM_RUN_STEPS_MAX; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "step \"%d\"", i);
        tm_routines_step(b.r, id, text, i);
    }
    (void)offer(&b, "a", "2", 5, "{}");
    tm_routines_end(b.r, id, "failed", "back\\slash", 9);
    (void)next(&b, &old_script, "a", "2");
    (void)offer(&b, "a", "3", 5, "{}");
    assert_int_equal(tm_routines_status(b.r, &out), 0);
    json_t *root = json_loadb((const char *)out.data, out.len, 0, NULL);
    assert_non_null(root);
    assert_string_equal(text_at(root, "recent", 0, "state"), "failed");
    assert_string_equal(text_at(root, "recent", 0, "error"), "back\\slash");
    assert_string_equal(text_at(root, "running", 0, "subject"), "2");
    assert_string_equal(text_at(root, "waiting", 0, "state"), "waiting");
    json_t *steps = json_object_get(json_array_get(json_object_get(root, "recent"), 0), "steps");
    assert_int_equal(json_array_size(steps), TM_RUN_STEPS_MAX);
    assert_string_equal(json_string_value(json_object_get(json_array_get(steps, TM_RUN_STEPS_MAX - 1), "text")),
                        "step \"71\"");
    json_decref(root);
    tm_buf_fini(&out);
    bench_end(&b);
}

static void the_past_is_bounded(void **state)
{
    (void)state;
    struct bench b = bench(1, 0);
    struct tm_buf out = {0};
    for (int i = 0; i < 500; i++) {
        (void)offer(&b, "a", "1", 5, "{}");
        tm_routines_end(b.r, next(&b, &old_script, "a", "1"), "done", NULL, 3);
    }
    assert_int_equal(tm_routines_status(b.r, &out), 0);
    assert_true(out.len < 20000);
    tm_buf_fini(&out);
    bench_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_flight_a_subject),
        cmocka_unit_test(the_urgent_go_first_and_few_at_once),
        cmocka_unit_test(the_queue_is_bounded_and_drops_the_least_urgent),
        cmocka_unit_test(a_retry_waits_for_its_time),
        cmocka_unit_test(two_generations_share_it),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(taking_what_waits),
        cmocka_unit_test(status_is_json_whatever_the_texts_are),
        cmocka_unit_test(the_past_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
