/*
 * Variables that the build leaves as they are.
 *
 * Release builds zero each variable that nobody set (-ftrivial-auto-var-init=zero). What is large, is made anew for each
 * record and is filled as far as it is read says so, after its declarator: `struct tm_field fields[64] TM_UNSET;`
 */
#ifndef TM_BASE_UNSET_H
#define TM_BASE_UNSET_H

#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#define TM_UNSET __attribute__((uninitialized))
#endif
#endif
#ifndef TM_UNSET
#define TM_UNSET
#endif

#endif
