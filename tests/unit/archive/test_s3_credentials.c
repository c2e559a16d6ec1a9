/* When keys of a role are fetched: a metadata service on loopback that counts, and times that are parameters. */
#include "archive/s3_credentials.h"
#include "archive/s3_xml.h"
#include "base/log.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct service {
    int fd;
    pthread_t thread;
    _Atomic int asked;
    _Atomic bool broken;
    const char *_Atomic ends; /* as the answers say it */
    const char *_Atomic body; /* instead of keys; NULL: keys */
};

static void answer(struct service *s, int fd)
{
    char request[4096], body[400], head[200];
    size_t len = 0;
    ssize_t n;
    request[0] = '\0';
    while (len + 1 < sizeof request && !strstr(request, "\r\n\r\n") &&
           (n = read(fd, request + len, sizeof request - 1 - len)) > 0)
        request[len += (size_t)n] = '\0';
    int number = atomic_fetch_add(&s->asked, 1) + 1;
    const char *other = atomic_load(&s->body);
    if (other)
        snprintf(body, sizeof body, "%s", other);
    else
        snprintf(body, sizeof body,
                 "{\"AccessKeyId\":\"AKID%d\",\"SecretAccessKey\":\"a\\/b\",\"Token\":\"t\","
                 "\"Expiration\":\"%s\",\"RoleArn\":null}",
                 number, atomic_load(&s->ends));
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
             atomic_load(&s->broken) ? "500 No" : "200 OK", strlen(body));
    (void)!write(fd, head, strlen(head));
    (void)!write(fd, body, strlen(body));
    shutdown(fd, SHUT_WR);
    while (read(fd, request, sizeof request) > 0)
        ;
    close(fd);
}

static void *serve(void *arg)
{
    struct service *s = arg;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;)
        answer(s, fd);
    return NULL;
}

struct test {
    struct service service;
    struct tm_s3_transport *transport;
    struct tm_s3_credentials *credentials;
    struct tm_s3_keys keys;
    struct tm_error err;
};

static int set_up(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    char url[64];
    t->service.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(t->service.fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(t->service.fd, 8), 0);
    assert_int_equal(getsockname(t->service.fd, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(pthread_create(&t->service.thread, NULL, serve, &t->service), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/keys", ntohs(a.sin_port));
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    unsetenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    assert_int_equal(tm_s3_transport_create(NULL, NULL, &t->transport, &t->err), 0);
    assert_int_equal(tm_s3_credentials_open("container", t->transport, &t->credentials, &t->err), 0);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct test *t = *state;
    tm_s3_credentials_close(t->credentials);
    tm_s3_transport_destroy(t->transport);
    shutdown(t->service.fd, SHUT_RDWR);
    assert_int_equal(pthread_join(t->service.thread, NULL), 0);
    close(t->service.fd);
    free(t);
    return 0;
}

static int get_at(struct test *t, const char *time)
{
    return tm_s3_credentials_get(t->credentials, tm_s3_xml_time_us(time), &t->keys, &t->err);
}

static void test_keys_are_fetched_before_they_end(void **state)
{
    struct test *t = *state;
    assert_int_equal(t->service.asked, 0); /* not when it was opened */
    t->service.ends = "2030-01-01T06:00:00Z";
    assert_int_equal(get_at(t, "2030-01-01T00:00:00Z"), 0);
    assert_string_equal(t->keys.id, "AKID1");
    assert_string_equal(t->keys.secret, "a/b");
    assert_string_equal(t->keys.token, "t");
    assert_int_equal(get_at(t, "2030-01-01T05:54:59Z"), 0);
    assert_int_equal(t->service.asked, 1);
    t->service.ends = "2030-01-01T12:00:00Z";
    assert_int_equal(get_at(t, "2030-01-01T05:55:00Z"), 0);
    assert_string_equal(t->keys.id, "AKID2");
}

static void test_old_keys_are_used_while_they_hold(void **state)
{
    struct test *t = *state;
    t->service.ends = "2030-01-01T06:00:00Z";
    assert_int_equal(get_at(t, "2030-01-01T00:00:00Z"), 0);
    t->service.broken = true;
    assert_int_equal(get_at(t, "2030-01-01T05:56:00Z"), 0);
    assert_string_equal(t->keys.id, "AKID1");
    assert_int_equal(t->service.asked, 4); /* three attempts */
    assert_int_equal(get_at(t, "2030-01-01T05:56:09Z"), 0);
    assert_int_equal(t->service.asked, 4);
    assert_int_equal(get_at(t, "2030-01-01T06:00:00Z"), TM_ERETRY);
    t->service.broken = false;
    t->service.ends = "2030-01-01T12:00:00Z";
    assert_int_equal(get_at(t, "2030-01-01T06:00:01Z"), 0);
}

static void test_keys_for_less_than_five_minutes_are_not_fetched_each_time(void **state)
{
    struct test *t = *state;
    t->service.ends = "2030-01-01T00:02:00Z";
    assert_int_equal(get_at(t, "2030-01-01T00:00:00Z"), 0);
    assert_int_equal(get_at(t, "2030-01-01T00:00:59Z"), 0);
    assert_int_equal(t->service.asked, 1);
    t->service.ends = "2030-01-01T00:03:00Z";
    assert_int_equal(get_at(t, "2030-01-01T00:01:00Z"), 0);
    assert_int_equal(t->service.asked, 2);
}

static void test_what_is_refused_is_fetched_anew(void **state)
{
    struct test *t = *state;
    t->service.ends = "2030-01-01T06:00:00Z";
    assert_int_equal(get_at(t, "2030-01-01T00:00:00Z"), 0);
    assert_true(tm_s3_credentials_renew(t->credentials));
    assert_int_equal(get_at(t, "2030-01-01T00:00:01Z"), 0);
    assert_string_equal(t->keys.id, "AKID2");
    t->service.broken = true;
    assert_false(tm_s3_credentials_renew(t->credentials));
}

static void test_answers_that_are_no_keys(void **state)
{
    static const char *const bodies[] = {
        "",
        "secretbody",
        "{}",
        "{\"AccessKeyId\":1}",
        "{\"AccessKeyId\":\"\"}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"secretbody\",\"Token\":\"t\",\"Expiration\":\"soon\"}",
        "{\"AccessKeyId\":\"a\\nb\",\"SecretAccessKey\":\"secretbody\",\"Token\":\"t\",\"Expiration\":\"2030-01-01T06:00:00Z\"}",
    };
    struct test *t = *state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        t->service.body = bodies[i];
        assert_int_not_equal(get_at(t, "2030-01-01T00:00:00Z"), 0);
        assert_null(strstr(t->err.message, "secretbody"));
    }
}

int main(void)
{
#define WITH_SERVICE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_keys_are_fetched_before_they_end),
        WITH_SERVICE(test_old_keys_are_used_while_they_hold),
        WITH_SERVICE(test_keys_for_less_than_five_minutes_are_not_fetched_each_time),
        WITH_SERVICE(test_what_is_refused_is_fetched_anew),
        WITH_SERVICE(test_answers_that_are_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
