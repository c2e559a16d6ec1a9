#include "unit.h"

#include "base/clock.h"
#include "base/queue.h"

#include <pthread.h>
#include <stdatomic.h>

static int things[10];

static void test_order_and_bounds(void **state)
{
    (void)state;
    struct tm_queue *q = tm_queue_create(3, 100);
    assert_null(tm_queue_try_take(q));
    assert_int_equal(tm_queue_try_put(q, &things[0], 10), TM_OK);
    assert_int_equal(tm_queue_try_put(q, &things[1], 10), TM_OK);
    assert_int_equal(tm_queue_try_put(q, &things[2], 10), TM_OK);
    assert_int_equal(tm_queue_try_put(q, &things[3], 10), TM_EFULL); /* items */
    assert_int_equal(tm_queue_items(q), 3);
    assert_int_equal(tm_queue_bytes(q), 30);
    assert_ptr_equal(tm_queue_try_take(q), &things[0]);
    assert_int_equal(tm_queue_try_put(q, &things[4], 81), TM_EFULL); /* bytes */
    assert_int_equal(tm_queue_try_put(q, &things[4], 80), TM_OK);
    assert_ptr_equal(tm_queue_try_take(q), &things[1]);
    assert_ptr_equal(tm_queue_take(q, 0), &things[2]);
    assert_ptr_equal(tm_queue_take(q, 0), &things[4]);
    assert_int_equal(tm_queue_items(q) + tm_queue_bytes(q), 0);
    tm_queue_destroy(q);
    tm_queue_destroy(NULL);
}

static void test_another_bound(void **state)
{
    (void)state;
    struct tm_queue *q = tm_queue_create(4, 100);
    assert_int_equal(tm_queue_try_put(q, &things[0], 90), TM_OK);
    assert_int_equal(tm_queue_try_put(q, &things[1], 20), TM_EFULL);
    tm_queue_set_bytes_max(q, 110);
    assert_int_equal(tm_queue_try_put(q, &things[1], 20), TM_OK);
    tm_queue_set_bytes_max(q, 30);
    assert_int_equal(tm_queue_items(q), 2); /* what is inside stays */
    assert_ptr_equal(tm_queue_try_take(q), &things[0]);
    assert_int_equal(tm_queue_try_put(q, &things[2], 11), TM_EFULL);
    assert_int_equal(tm_queue_try_put(q, &things[2], 10), TM_OK);
    assert_ptr_equal(tm_queue_try_take(q), &things[1]);
    assert_ptr_equal(tm_queue_try_take(q), &things[2]);
    tm_queue_destroy(q);
}

static void test_one_large_item_passes_alone(void **state)
{
    (void)state;
    struct tm_queue *q = tm_queue_create(4, 100);
    assert_int_equal(tm_queue_try_put(q, &things[0], 1000), TM_OK);
    assert_int_equal(tm_queue_try_put(q, &things[1], 1), TM_EFULL);
    assert_ptr_equal(tm_queue_try_take(q), &things[0]);
    assert_int_equal(tm_queue_try_put(q, &things[1], 1), TM_OK);
    assert_int_equal(tm_queue_try_put(q, &things[0], 1000), TM_EFULL);
    assert_ptr_equal(tm_queue_try_take(q), &things[1]);
    tm_queue_destroy(q);
}

static void test_close_refuses_and_drains(void **state)
{
    (void)state;
    struct tm_queue *q = tm_queue_create(4, 100);
    assert_int_equal(tm_queue_put(q, &things[0], 1), TM_OK);
    tm_queue_close(q);
    assert_int_equal(tm_queue_try_put(q, &things[1], 1), TM_ESTOPPED);
    assert_int_equal(tm_queue_put(q, &things[1], 1), TM_ESTOPPED);
    assert_ptr_equal(tm_queue_take(q, 1000000000), &things[0]);
    assert_null(tm_queue_take(q, 1000000000)); /* at once, not after the timeout */
    tm_queue_destroy(q);
}

static void test_take_times_out(void **state)
{
    (void)state;
    struct tm_queue *q = tm_queue_create(1, 1);
    int64_t before_us = tm_clock_mono_us();
    assert_null(tm_queue_take(q, 20000));
    assert_true(tm_clock_mono_us() - before_us >= 20000);
    tm_queue_destroy(q);
}

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

static void test_wake(void **state)
{
    (void)state;
    int wakes = 0;
    struct tm_queue *q = tm_queue_create(1, 100);
    tm_queue_set_wake(q, count_wake, &wakes);
    assert_int_equal(tm_queue_try_put(q, &things[0], 1), TM_OK);
    assert_int_equal(wakes, 1);
    assert_int_equal(tm_queue_try_put(q, &things[1], 1), TM_EFULL);
    assert_int_equal(wakes, 1);
    assert_ptr_equal(tm_queue_try_take(q), &things[0]);
    tm_queue_destroy(q);
}

#define PRODUCERS 3
#define PER_PRODUCER 20000

static struct tm_queue *shared;
static uintptr_t numbers[PRODUCERS][PER_PRODUCER];

static void *produce(void *arg)
{
    uintptr_t *mine = arg;
    for (uintptr_t i = 0; i < PER_PRODUCER; i++) {
        mine[i] = i;
        if (tm_queue_put(shared, &mine[i], 1) != TM_OK)
            return &mine[i];
    }
    return NULL;
}

/* Each producer's items come out once, in its order, and never more of them are inside than allowed. */
static void test_many_producers(void **state)
{
    (void)state;
    pthread_t threads[PRODUCERS];
    uintptr_t next[PRODUCERS] = {0};
    shared = tm_queue_create(64, 50);
    for (int i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, produce, numbers[i]), 0);
    for (int i = 0; i < PRODUCERS * PER_PRODUCER; i++) {
        uintptr_t *item = tm_queue_take(shared, 20000000);
        assert_non_null(item);
        size_t producer = (size_t)(item - numbers[0]) / PER_PRODUCER;
        assert_int_equal(*item, next[producer]++);
        assert_true(tm_queue_bytes(shared) <= 50);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_null(tm_queue_try_take(shared));
    tm_queue_destroy(shared);
}

static void *put_one(void *arg)
{
    static int rc;
    rc = tm_queue_put(arg, &things[1], 1);
    return &rc;
}

/* A put that waits for room is let go by close. */
static void test_close_wakes_a_waiting_put(void **state)
{
    (void)state;
    pthread_t thread;
    void *rc;
    struct tm_queue *q = tm_queue_create(1, 100);
    assert_int_equal(tm_queue_try_put(q, &things[0], 1), TM_OK);
    assert_int_equal(pthread_create(&thread, NULL, put_one, q), 0);
    tm_queue_close(q);
    pthread_join(thread, &rc);
    assert_int_equal(*(int *)rc, TM_ESTOPPED);
    assert_ptr_equal(tm_queue_try_take(q), &things[0]);
    tm_queue_destroy(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_bounds),
        cmocka_unit_test(test_another_bound),
        cmocka_unit_test(test_one_large_item_passes_alone),
        cmocka_unit_test(test_close_refuses_and_drains),
        cmocka_unit_test(test_take_times_out),
        cmocka_unit_test(test_wake),
        cmocka_unit_test(test_many_producers),
        cmocka_unit_test(test_close_wakes_a_waiting_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
