/* The C half of a simulated world: the module "tidemill.runner" of a VM that runs tests. */
#ifndef TM_SCRIPT_TEST_WORLD_H
#define TM_SCRIPT_TEST_WORLD_H

#include "script/script_impl.h"

/* Push the table of its functions:
 *   open(path, host, os) -> world, chunk    the script's chunk, not yet run; raises what is wrong with the file
 *   require(world, name) -> module          as the script would
 *   finish(world, declared) -> problems     read and verify what was declared, as check does
 *   use(world, now_us)                      what host functions of C work on from now on
 *   frame(world, text, now_us) -> {verdict, kind, reason, rows, ...}
 *   rows(batch) -> { {stream, json}, ... }
 *   put(world, stream, row)                 a row into the stream's registry
 *   traceback(coroutine, message) -> text
 */
void tm_test_world_push(lua_State *L);

#endif
