/* A server of PostgreSQL and a plan for all tests of a program: the plan of rows.h, or one of the program's own. */
#ifndef TESTS_STORE_GROUP_H
#define TESTS_STORE_GROUP_H

#include "server.h"

static struct tm_plan *plan;

static int group_setup(void **state)
{
    plan = compile_plan();
    return server_setup(state);
}

static int group_teardown(void **state)
{
    tm_plan_put(plan);
    return server_teardown(state);
}

#endif
