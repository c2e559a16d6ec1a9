#include "exchange/fault_table.h"

#include <stdio.h>

#define AT(member) offsetof(struct tm_fault, member)
#define SIZE(member) sizeof(((struct tm_fault *)0)->member)
#define COUNT_MAX 1000000000
#define LINE_COLUMNS 110
#define NAME_COLUMN 32 /* of --help, as the other options have it */

typedef const struct tm_fault_param param;

static param at = {.name = "at", .value = "TIME", .form = TM_FORM_SPAN, .at = AT(at_us)};
static param span = {.name = "for", .value = "TIME", .form = TM_FORM_SPAN, .at = AT(for_us), .low = 1};
static param delay = {.name = "delay", .value = "TIME", .form = TM_FORM_SPAN, .at = AT(delay_us), .fallback = "1s"};
static param frames = {.name = "count",
                       .value = "N",
                       .form = TM_FORM_COUNT,
                       .at = AT(count),
                       .low = 1,
                       .high = COUNT_MAX,
                       .fallback = "1"};
static param times = {
    .name = "count", .value = "N", .form = TM_FORM_COUNT, .at = AT(count), .low = 1, .high = COUNT_MAX};
static param type = {.name = "what",
                     .value = "TYPE",
                     .form = TM_FORM_NAME,
                     .at = AT(what),
                     .size = SIZE(what),
                     .fallback = "market_sentiment"};
static param poison = {
    .name = "what", .value = "CASE|huge", .form = TM_FORM_POISON, .at = AT(what), .size = SIZE(what), .fallback = "0"};
static param breach = {.name = "what",
                       .value =
                           "masked|rsv|opcode|huge|continuation|interleaved|control_long|control_fragment|bad_utf8|"
                           "close_code|pings|empty_fragments",
                       .form = TM_FORM_CHOICE,
                       .at = AT(what),
                       .size = SIZE(what),
                       .fallback = "masked"};
static param error_code = {
    .name = "code", .value = "N", .form = TM_FORM_CODE, .at = AT(code), .low = 1, .high = 9999, .fallback = "25"};
static param close_code = {.name = "code",
                           .value = "N",
                           .form = TM_FORM_CODE,
                           .at = AT(code),
                           .low = 1000,
                           .high = 4999,
                           .fallback = "1001",
                           .zero = true};
static param text = {.name = "text", .value = "TEXT", .form = TM_FORM_WORD, .at = AT(what), .size = SIZE(what)};
static param pings = {.name = "pings", .value = "yes|no", .form = TM_FORM_SWITCH, .at = AT(pings), .fallback = "yes"};
static param keep = {.name = "keep", .value = "yes|no", .form = TM_FORM_SWITCH, .at = AT(keep), .fallback = "yes"};
static param how = {.name = "how", .value = "fin|rst", .form = TM_FORM_SWITCH, .at = AT(fin), .fallback = "rst"};
static param status = {
    .name = "status", .value = "N", .form = TM_FORM_CODE, .at = AT(status), .low = 200, .high = 599, .fallback = "503"};
static param shape = {.name = "shape",
                      .value = "nested|flat|html|none",
                      .form = TM_FORM_CHOICE,
                      .at = AT(shape),
                      .size = SIZE(shape),
                      .fallback = "nested"};
static param path = {.name = "path", .value = "PREFIX", .form = TM_FORM_PATH, .at = AT(path), .size = SIZE(path)};
static param pause_of = {
    .name = "what", .value = "exchange|trading", .form = TM_FORM_SWITCH, .at = AT(whole), .fallback = "trading"};
static param ends = {
    .name = "disconnect", .value = "yes|no", .form = TM_FORM_SWITCH, .at = AT(disconnect), .fallback = "no"};

static param label = {.name = "label", .value = "TEXT", .form = TM_FORM_WORD, .at = AT(label), .size = SIZE(label)};
static param key = {.name = "key", .value = "ID", .form = TM_FORM_WORD, .at = AT(key), .size = SIZE(key)};
static param agent = {.name = "agent", .value = "PART", .form = TM_FORM_WORD, .at = AT(agent), .size = SIZE(agent)};
static param client = {
    .name = "client", .value = "N", .form = TM_FORM_COUNT, .at = AT(client), .low = 1, .high = COUNT_MAX};
static param fraction = {
    .name = "fraction", .value = "0..1", .form = TM_FORM_SHARE, .at = AT(fraction), .fallback = "1"};
static param channel = {.name = "channel", .value = "NAME", .form = TM_FORM_CHANNEL, .at = AT(channel)};
static param sid = {.name = "sid", .value = "N", .form = TM_FORM_COUNT, .at = AT(sid), .low = 1, .high = COUNT_MAX};

static const struct tm_fault_entry entries[TM_FAULT_KINDS] = {
    [TM_FAULT_GAP] = {"gap", "frames are lost, their seq is spent", TM_WHOM_SUBSCRIPTIONS, false, {&frames}},
    [TM_FAULT_DUPLICATE] =
        {"duplicate", "frames are sent twice, with one seq", TM_WHOM_SUBSCRIPTIONS, false, {&frames}},
    [TM_FAULT_REORDER] = {"reorder",
                          "so many pairs of neighbours change places, each frame with its own seq",
                          TM_WHOM_SUBSCRIPTIONS,
                          false,
                          {&frames}},
    [TM_FAULT_LATE] =
        {"late", "frames are sent later than those after them", TM_WHOM_SUBSCRIPTIONS, false, {&frames, &delay}},
    [TM_FAULT_FRAGMENT] = {"fragment", "frames arrive in pieces of 7 bytes", TM_WHOM_SUBSCRIPTIONS, false, {&frames}},
    [TM_FAULT_UNKNOWN] = {"unknown",
                          "an extra frame of a type nobody knows; spends a seq",
                          TM_WHOM_SUBSCRIPTIONS,
                          false,
                          {&frames, &type}},
    [TM_FAULT_MALFORMED] =
        {"malformed", "an extra frame that is not JSON; spends no seq", TM_WHOM_SUBSCRIPTIONS, false, {&frames}},
    [TM_FAULT_POISON] =
        {"poison",
         "an extra frame of JSON that cannot be stored as it is: cases from this on, or a ticker of 10 MB",
         TM_WHOM_SUBSCRIPTIONS,
         false,
         {&frames, &poison}},
    [TM_FAULT_PROTOCOL] = {"protocol", "bytes that break RFC 6455", TM_WHOM_SUBSCRIPTIONS, false, {&frames, &breach}},
    [TM_FAULT_RENUMBER] = {"renumber",
                           "seq begins again at 1, as after a failover that nobody was told of",
                           TM_WHOM_SUBSCRIPTIONS,
                           false,
                           {0}},
    [TM_FAULT_ERROR] = {"error", "an error on the sid, then silence", TM_WHOM_SUBSCRIPTIONS, false, {&error_code}},
    [TM_FAULT_STALL] = {"stall",
                        "no data, with or without pings; what piles up is sent at the end or lost",
                        TM_WHOM_CONNECTIONS,
                        false,
                        {&span, &pings, &keep}},
    [TM_FAULT_SLOW] = {"slow", "everything arrives later", TM_WHOM_CONNECTIONS, false, {&span, &delay}},
    [TM_FAULT_DISCONNECT] = {"disconnect", "the connection ends", TM_WHOM_CONNECTIONS, false, {&how}},
    [TM_FAULT_CLOSE] = {"close",
                        "a close frame, with code 0 an empty one, then the end",
                        TM_WHOM_CONNECTIONS,
                        false,
                        {&close_code, &text}},
    [TM_FAULT_HANDSHAKE] =
        {"handshake",
         "upgrades are answered with a status instead; 401 and 429 have the bodies of the real exchange",
         TM_WHOM_HANDSHAKES,
         false,
         {&span, &times, &status, &shape}},
    [TM_FAULT_REST] = {"rest",
                       "REST requests are answered with a status instead; paths from /trade-api/v2 on",
                       TM_WHOM_NOBODY,
                       false,
                       {&span, &times, &status, &shape, &path}},
    [TM_FAULT_REFUSE] =
        {"refuse", "connections are reset as they come; needs for= or count=", TM_WHOM_NOBODY, true, {&span, &times}},
    [TM_FAULT_SILENCE] = {"silence",
                          "connections are accepted and never answered; needs for= or count=",
                          TM_WHOM_NOBODY,
                          true,
                          {&span, &times}},
    [TM_FAULT_MAINTENANCE] = {"maintenance",
                              "no events, and the status says that trading, or the whole exchange, is paused",
                              TM_WHOM_CONNECTIONS,
                              false,
                              {&span, &pause_of, &ends}},
};

static param *const selectors[] = {&label, &key, &agent, &client, &fraction, &channel, &sid};
static const size_t selectors_of[] = {
    [TM_WHOM_NOBODY] = 0, [TM_WHOM_HANDSHAKES] = 3, [TM_WHOM_CONNECTIONS] = 5, [TM_WHOM_SUBSCRIPTIONS] = 7};

const struct tm_fault_entry *tm_fault_entry(enum tm_fault_kind kind)
{
    return &entries[kind];
}

enum tm_fault_kind tm_fault_find(const char *name)
{
    int kind = 0;
    while (kind < TM_FAULT_KINDS && strcmp(entries[kind].name, name) != 0)
        kind++;
    return (enum tm_fault_kind)kind;
}

const struct tm_fault_param *tm_fault_param_at(enum tm_fault_kind kind, size_t i)
{
    const struct tm_fault_entry *entry = &entries[kind];
    size_t own = 0;
    while (own < TM_FAULT_PARAMS_MAX && entry->own[own])
        own++;
    if (i < own)
        return entry->own[i];
    if (i == own)
        return &at;
    return i - own - 1 < selectors_of[entry->whom] ? selectors[i - own - 1] : NULL;
}

const struct tm_fault_param *tm_fault_param(enum tm_fault_kind kind, const char *name)
{
    const struct tm_fault_param *p;
    for (size_t i = 0; (p = tm_fault_param_at(kind, i)); i++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

bool tm_fault_selects(const struct tm_fault_param *p)
{
    for (size_t i = 0; i < sizeof selectors / sizeof selectors[0]; i++)
        if (selectors[i] == p)
            return true;
    return false;
}

const char *tm_fault_name(enum tm_fault_kind kind)
{
    return entries[kind].name;
}

/* --help */

/* The parameters of a kind's own behind each other, in lines of some hundred columns. */
static void print_params(FILE *out, const struct tm_fault_entry *entry)
{
    int column = LINE_COLUMNS;
    for (size_t i = 0; i < TM_FAULT_PARAMS_MAX && entry->own[i]; i++) {
        char one[256];
        const struct tm_fault_param *p = entry->own[i];
        int len = snprintf(one, sizeof one, p->fallback ? "%s=%s (%s)" : "%s=%s", p->name, p->value, p->fallback);
        if (column + len >= LINE_COLUMNS)
            column = fprintf(out, "%s%*s%s", i ? "\n" : "", NAME_COLUMN + 1, "", one);
        else
            column += fprintf(out, ", %s", one);
    }
    if (entry->own[0])
        fputs("\n", out);
}

static void print_selector(FILE *out, const char *name, const char *help)
{
    fprintf(out, "  %-*s %s\n", NAME_COLUMN - 2, name, help);
}

void tm_fault_help(FILE *out)
{
    fputs("\nKinds of faults\n", out);
    for (int kind = 0; kind < TM_FAULT_KINDS; kind++) {
        char name[32];
        (void)snprintf(name, sizeof name, "kind=%s", entries[kind].name);
        print_selector(out, name, entries[kind].does);
        print_params(out, &entries[kind]);
    }
    fputs("\nWhen a fault begins and ends\n", out);
    print_selector(out, "at=TIME", "after the start of generation, without it at once");
    print_selector(out, "for=TIME", "ends what lasts; without it that lasts until POST /control/clear");
    fputs("\nWhom it meets\n", out);
    print_selector(out, "label=TEXT, key=ID, agent=PART",
                   "connections and handshakes that have it, PART within the name");
    print_selector(out, "client=N, fraction=0..1",
                   "connections by number, or such a share of them, drawn from the seed");
    print_selector(out, "channel=NAME, sid=N", "of their subscriptions, for kinds about frames, and error");
}
