/*
 * table.sort, table.insert and table.move of our own.
 *
 * Lua 5.1's sort is quadratic on inputs that can be made, and its insert counts from any negative position upwards; both in
 * C, where no hook stops them; its move writes raw, into read-only views too. This sort merges: never more than n log2 n comparisons, stable, and whatever a comparison
 * function answers, the result is a permutation. All look at the VM's clock (tm_vm_check) as they go.
 */
#ifndef TM_SCRIPT_LIBTABLE_H
#define TM_SCRIPT_LIBTABLE_H

#include <lua.h>

/* Put the functions into the table on top of the stack. */
void tm_libtable_open(lua_State *L);

#endif
