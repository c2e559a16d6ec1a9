/*
 * Tests of policy: Lua files that load a script into a simulated world and look at what it does there.
 *
 *     one VM a file (sandbox and memory cap of production)
 *        x_test.lua, lua/tidemill/test.lua (what it calls), lua/tidemill/test/runner.lua
 *        one world a t.load:  script and library, loaded anew under a `require` of their own, on the host of
 *                             lua/tidemill/simulator.lua: virtual clock, tasks, links, HTTP; decoder and registries are real
 *
 * A file named *_test.lua declares its tests with t.test; of any other script its own are run (tm.test), each with the
 * script freshly loaded. A test is a coroutine: while it waits (t.advance, t.emit, ...) the runner takes one step of the
 * world's tasks after the other, each an entry into the VM under the budget that it has in production. So an endless loop
 * ends in a failure that says where, and costs the other tests nothing.
 *
 * Everything a test sees follows from the files and the seed: no clock, environment, network or database is looked at.
 */
#ifndef TM_SCRIPT_TEST_H
#define TM_SCRIPT_TEST_H

#include "script/script.h"

#define TM_TEST_TURNS_MAX 200000 /* of one test: it does not come to rest */

struct tm_test_options {
    const char *path;
    const char *library; /* NULL: tm_script_library() */
    const char *filter;  /* only tests whose name has this text in it; NULL: all */
    uint32_t seed;       /* of math.random, anew for each test */
    size_t memory_bytes_max;
};

struct tm_test_result { /* valid during the call */
    const char *name;
    const char *where;   /* "file:line" of the failure, else of the test */
    const char *message; /* NULL: it passed; lines */
    int64_t cpu_us;
};

typedef void tm_test_each(void *arg, const struct tm_test_result *result);

/* Run the tests of a file. A file that cannot be loaded is one failure named "(load)". TM_ENOMEM: no VM. */
int tm_test_run(const struct tm_test_options *options, tm_test_each *each, void *arg,
                struct tm_error *err) TM_MUST_CHECK;

/*
 * The script's own tests, on a loaded script: 0 when all passed (or there are none), else each failure is a problem. They
 * run in a VM of their own, in which the file is loaded again, so that nothing they do reaches the script at hand.
 */
int tm_script_test(struct tm_script *script, struct tm_problems *problems) TM_MUST_CHECK;

#endif
