/* A database of its own for each test, in the group's server: open twice, as the engine does and as anybody would. */
#ifndef TESTS_STORE_DATABASE_H
#define TESTS_STORE_DATABASE_H

#include "server.h"

struct fixture {
    char name[32];
    struct tm_pg *pg;
    PGconn *db;
    struct tm_error err;
};

static int setup(void **state)
{
    static int number;
    struct fixture *f = calloc(1, sizeof *f);
    (void)snprintf(f->name, sizeof f->name, "d%d", number++);
    make_database(&cluster, f->name);
    f->pg = engine_open(&cluster, f->name);
    f->db = db_open(&cluster, f->name);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tm_pg_close(f->pg);
    PQfinish(f->db);
    free(f);
    return 0;
}

#endif
