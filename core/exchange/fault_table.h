/*
 * What faults there are, what each does and what it takes: one table, from which texts are read, --help is printed and
 * errors say what was expected. A parameter that a kind does not know, or a value that it has no use for, is refused.
 */
#ifndef TM_EXCHANGE_FAULT_TABLE_H
#define TM_EXCHANGE_FAULT_TABLE_H

#include "exchange/faults.h"

#include <stdio.h>

#define TM_FAULT_PARAMS_MAX 8 /* of one kind's own */

enum tm_fault_form {
    TM_FORM_COUNT,   /* a number, unsigned */
    TM_FORM_CODE,    /* likewise, but it may be 0 where `zero` says so */
    TM_FORM_SPAN,    /* a duration */
    TM_FORM_SHARE,   /* 0 to 1 */
    TM_FORM_SWITCH,  /* one of two words, of which the first is true */
    TM_FORM_WORD,    /* any text */
    TM_FORM_NAME,    /* letters, digits and _ */
    TM_FORM_CHOICE,  /* one of the words */
    TM_FORM_PATH,    /* where a path of the REST side begins */
    TM_FORM_POISON,  /* the number of a case, or huge */
    TM_FORM_CHANNEL, /* its name */
};

struct tm_fault_param {
    const char *name;
    const char *value; /* as --help shows it; for switches and choices the words themselves, with | between them */
    enum tm_fault_form form;
    size_t at, size; /* in struct tm_fault */
    int64_t low, high;
    const char *fallback; /* the value where none is given; NULL: nothing */
    bool zero;
};

enum tm_fault_whom { /* which of the three groups of selectors a kind takes */
                     TM_WHOM_NOBODY,
                     TM_WHOM_HANDSHAKES,    /* by label, key and agent */
                     TM_WHOM_CONNECTIONS,   /* by number and by lot too */
                     TM_WHOM_SUBSCRIPTIONS, /* by channel and sid too */
};

struct tm_fault_entry {
    const char *name, *does;
    enum tm_fault_whom whom;
    bool bounded; /* needs an end of its own, because it shuts the way to /control */
    const struct tm_fault_param *own[TM_FAULT_PARAMS_MAX];
};

const struct tm_fault_entry *tm_fault_entry(enum tm_fault_kind kind);

/* TM_FAULT_KINDS if there is none of that name. */
enum tm_fault_kind tm_fault_find(const char *name);

/* The kind's parameter of that name; NULL if it takes none. */
const struct tm_fault_param *tm_fault_param(enum tm_fault_kind kind, const char *name);

/* The i-th parameter that a kind takes, its own first; NULL behind the last. */
const struct tm_fault_param *tm_fault_param_at(enum tm_fault_kind kind, size_t i);

/* True for the parameters that say whom a fault meets. */
bool tm_fault_selects(const struct tm_fault_param *param);

/* The part of --help. */
void tm_fault_help(FILE *out);

#endif
