/* What every cmocka program needs, in the order cmocka wants. */
#ifndef TM_TEST_BASE_UNIT_H
#define TM_TEST_BASE_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

#endif
