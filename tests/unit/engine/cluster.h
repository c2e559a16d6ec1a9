/*
 * Throw-away PostgreSQL clusters for tests: made in a directory of their own under /tmp, reached by a unix socket in it
 * only, ended with the test program whatever happens to it. The test's own statements go over plain libpq, not over the
 * code under test.
 */
#ifndef TESTS_ENGINE_CLUSTER_H
#define TESTS_ENGINE_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POSTGRES_BIN "/usr/lib/postgresql/15/bin/"
#define START_TIMEOUT_US (30 * TM_US_PER_S)

struct cluster {
    char dir[64];
    pid_t pid; /* of the postmaster; 0: not running */
};

/* One turn of a loop that waits for something outside; false when the time is up. */
static bool keep_waiting(int64_t until_us)
{
    usleep(5000);
    return tm_clock_mono_us() < until_us;
}

/* ---- processes ---- */

/* PostgreSQL refuses to run as root; then everything belongs to the user "postgres". */
static void become_owner(void)
{
    const struct passwd *user = getpwnam("postgres");
    if (geteuid() != 0)
        return;
    if (!user || setgroups(0, NULL) || setgid(user->pw_gid) || setuid(user->pw_uid))
        _exit(126);
}

static pid_t spawn(const struct cluster *c, char *const *argv)
{
    char log[96];
    (void)snprintf(log, sizeof log, "%s/log", c->dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    become_owner();
    (void)prctl(PR_SET_PDEATHSIG, SIGQUIT);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || chdir(c->dir) || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(126);
    execv(argv[0], argv);
    _exit(127);
}

static void cluster_log_to_stderr(const struct cluster *c)
{
    char log[96], text[4096];
    (void)snprintf(log, sizeof log, "%s/log", c->dir);
    FILE *f = fopen(log, "re");
    for (size_t n; f && (n = fread(text, 1, sizeof text, f)) > 0;)
        (void)fwrite(text, 1, n, stderr);
    if (f)
        (void)fclose(f);
}

/* ---- life of a cluster ---- */

static void cluster_conninfo(const struct cluster *c, const char *db, char *out, size_t size)
{
    (void)snprintf(out, size, "host=%s port=5432 user=postgres dbname=%s", c->dir, db);
}

static bool cluster_accepts(const struct cluster *c)
{
    char conninfo[160];
    cluster_conninfo(c, "postgres", conninfo, sizeof conninfo);
    return PQping(conninfo) == PQPING_OK;
}

static bool has_ended(struct cluster *c)
{
    if (c->pid && waitpid(c->pid, NULL, WNOHANG) == c->pid)
        c->pid = 0;
    return c->pid == 0;
}

/* After a crash the start is refused until the last child of the old server has gone: so it is tried again. */
static void cluster_start(struct cluster *c)
{
    char data[80];
    (void)snprintf(data, sizeof data, "%s/data", c->dir);
    char *const argv[] = {(char *)POSTGRES_BIN "postgres", (char *)"-D", data, NULL};
    int64_t until_us = tm_clock_mono_us() + START_TIMEOUT_US;
    do {
        if (has_ended(c))
            c->pid = spawn(c, argv);
        if (cluster_accepts(c))
            return;
    } while (keep_waiting(until_us));
    cluster_log_to_stderr(c);
    fail_msg("PostgreSQL in %s did not start", c->dir);
}

static void cluster_end(struct cluster *c, int number)
{
    if (has_ended(c))
        return;
    kill(c->pid, number);
    waitpid(c->pid, NULL, 0);
    c->pid = 0;
}

static void write_settings(const struct cluster *c)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/data/postgresql.auto.conf", c->dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    (void)fprintf(f,
                  "listen_addresses = ''\nunix_socket_directories = '%s'\nport = 5432\ntimezone = 'UTC'\n"
                  "fsync = off\nshared_buffers = '64MB'\nmax_wal_size = '1GB'\nmax_connections = 40\njit = off\n"
                  "log_min_messages = fatal\nlog_min_error_statement = panic\n",
                  c->dir);
    assert_int_equal(fclose(f), 0);
}

static void cluster_create(struct cluster *c)
{
    char data[80];
    const struct passwd *user = getpwnam("postgres");
    *c = (struct cluster){.dir = "/tmp/tm_pg_XXXXXX"};
    assert_non_null(mkdtemp(c->dir));
    if (geteuid() == 0)
        assert_true(user && chown(c->dir, user->pw_uid, user->pw_gid) == 0);
    (void)snprintf(data, sizeof data, "%s/data", c->dir);
    char *const argv[] = {
        (char *)POSTGRES_BIN "initdb", (char *)"-D", data,           (char *)"-U",         (char *)"postgres",
        (char *)"--auth=trust",        (char *)"-E", (char *)"UTF8", (char *)"--locale=C", (char *)"--no-sync",
        (char *)"--no-instructions",   NULL};
    int status = -1;
    waitpid(spawn(c, argv), &status, 0);
    if (status) {
        cluster_log_to_stderr(c);
        fail_msg("initdb in %s ended with status %d", c->dir, status);
    }
    write_settings(c);
    cluster_start(c);
}

static void cluster_destroy(struct cluster *c)
{
    char command[96];
    cluster_end(c, SIGQUIT);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", c->dir);
    if (system(command))
        (void)fprintf(stderr, "cannot remove %s\n", c->dir);
}

/* ---- the test's own connections ---- */

static PGconn *db_open(const struct cluster *c, const char *db)
{
    char conninfo[160];
    cluster_conninfo(c, db, conninfo, sizeof conninfo);
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQclear(PQexec(conn, "SET client_min_messages = warning"));
    return conn;
}

static void db_exec(PGconn *conn, const char *sql)
{
    PGresult *r = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s\nin: %s", PQerrorMessage(conn), sql);
    PQclear(r);
}

static void db_execf(PGconn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void db_execf(PGconn *conn, const char *fmt, ...)
{
    char sql[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(sql, sizeof sql, fmt, args);
    va_end(args);
    assert_in_range(n, 0, sizeof sql - 1);
    db_exec(conn, sql);
}

/* The one value of a query; INT64_MIN for NULL. */
static int64_t db_int(PGconn *conn, const char *sql)
{
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1)
        fail_msg("%s\nin: %s", PQerrorMessage(conn), sql);
    int64_t v = PQgetisnull(r, 0, 0) ? INT64_MIN : strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return v;
}

static void db_wait(PGconn *conn, const char *sql, int64_t wanted, int64_t timeout_us)
{
    int64_t until_us = tm_clock_mono_us() + timeout_us, got;
    while ((got = db_int(conn, sql)) != wanted)
        if (!keep_waiting(until_us))
            fail_msg("waited for %lld, still %lld: %s", (long long)wanted, (long long)got, sql);
}

/* Nothing is left over on either side; the rows are text for the message. */
static void db_same(PGconn *conn, const char *got, const char *wanted)
{
    char sql[8192];
    int n = snprintf(sql, sizeof sql,
                     "WITH got AS (%s), wanted AS (%s), diff AS ("
                     "(SELECT 'unexpected' AS what, x.* FROM (SELECT * FROM got EXCEPT ALL SELECT * FROM wanted) x)"
                     " UNION ALL "
                     "(SELECT 'missing', x.* FROM (SELECT * FROM wanted EXCEPT ALL SELECT * FROM got) x)) "
                     "SELECT count(*) OVER (), diff::text FROM diff LIMIT 5",
                     got, wanted);
    assert_in_range(n, 0, sizeof sql - 1);
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s\nin: %s", PQerrorMessage(conn), sql);
    for (int i = 0; i < PQntuples(r); i++)
        (void)fprintf(stderr, "%s\n", PQgetvalue(r, i, 1));
    if (PQntuples(r))
        fail_msg("%s rows differ: %s", PQgetvalue(r, 0, 0), got);
    PQclear(r);
}

#endif
