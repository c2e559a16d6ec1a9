/* A server of PostgreSQL and a plan for all tests of a program: the plan of rows.h, or one of the program's own. */
#ifndef TESTS_STORE_GROUP_H
#define TESTS_STORE_GROUP_H

#include "rows.h"

static struct cluster cluster;
static struct tm_plan *plan;

static int group_setup(void **state)
{
    (void)state;
    plan = compile_plan();
    cluster_create(&cluster);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    cluster_destroy(&cluster);
    tm_plan_put(plan);
    return 0;
}

#endif
