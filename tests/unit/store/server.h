/* A server of PostgreSQL for all tests of a program. */
#ifndef TESTS_STORE_SERVER_H
#define TESTS_STORE_SERVER_H

#include "rows.h"

static struct cluster cluster;

static int server_setup(void **state)
{
    (void)state;
    cluster_create(&cluster);
    return 0;
}

static int server_teardown(void **state)
{
    (void)state;
    cluster_destroy(&cluster);
    return 0;
}

#endif
