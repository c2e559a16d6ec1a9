/* Commands of the channels that choose by names of their own: indices of CF Benchmarks, underlyings of Pyth. No value is
 * ever sent on them, but what a client chooses is kept and told. */
#include "exchange/command_private.h"

/* What sets these channels apart. A list is kept as the text of its array; "all" is a name like any other. */
static const struct words {
    const char *add, *remove, *list, *key;
    int missing; /* the error without names */
} indices = {"subscribe_indices", "unsubscribe_indices", "indexlist", "index_ids", 24},
  underlyings = {"subscribe_underlyings", "unsubscribe_underlyings", "underlying_list", "underlying_tickers", 28};

static const struct words *words_of(uint8_t channel)
{
    return channel == TM_CHANNEL_UNDERLYING ? &underlyings : &indices;
}

static struct tm_slice names_of(uint8_t channel, const struct command *cmd)
{
    return channel == TM_CHANNEL_UNDERLYING ? cmd->underlyings : cmd->index_ids;
}

static bool has_name(struct tm_slice array, struct tm_slice name)
{
    struct tm_json j = tm_json_over(array.at, array.len);
    struct tm_slice one;
    for (bool in = array.len && tm_json_enter(&j, '['); in && tm_json_next_item(&j) && tm_json_string(&j, &one);)
        if (one.len == name.len && memcmp(one.at, name.at, name.len) == 0)
            return true;
    return false;
}

static struct tm_slice text_of(const struct tm_buf *b)
{
    return (struct tm_slice){(const char *)b->data, b->len};
}

/* Append those of `from` that are not in `but`, each once, to an array that is still open. */
static void append_names(struct tm_buf *to, struct tm_slice from, struct tm_slice but)
{
    struct tm_json j = tm_json_over(from.at, from.len);
    struct tm_slice name;
    for (bool in = from.len && tm_json_enter(&j, '['); in && tm_json_next_item(&j) && tm_json_string(&j, &name);)
        if (!has_name(but, name) && !has_name(text_of(to), name))
            TM_FATAL_UNLESS(tm_buf_printf(to, "%s\"%.*s\"", to->len > 1 ? "," : "", (int)name.len, name.at) == TM_OK);
}

static void change(struct tm_sub *s, struct tm_slice names, bool add)
{
    static const struct tm_slice none = {"", 0};
    struct tm_buf after = {0};
    TM_FATAL_UNLESS(tm_buf_append(&after, "[", 1) == TM_OK);
    append_names(&after, text_of(&s->names), add ? none : names);
    if (add)
        append_names(&after, names, none);
    TM_FATAL_UNLESS(tm_buf_append(&after, "]", 1) == TM_OK);
    tm_buf_fini(&s->names);
    s->names = after;
}

/* How many names an array has; -1 if it is no array of strings. */
static int count_names(struct tm_slice array)
{
    struct tm_json j = tm_json_over(array.at, array.len);
    struct tm_slice name;
    int count = 0;
    for (bool in = tm_json_enter(&j, '['); in && tm_json_next_item(&j); count++)
        if (!tm_json_string(&j, &name))
            return -1;
    return j.bad ? -1 : count;
}

int tm_command_check_names(uint8_t channel, const struct command *cmd)
{
    struct tm_slice names = names_of(channel, cmd);
    return names.at && count_names(names) < 0 ? 1 : 0;
}

void tm_command_seed_names(struct tm_sub *s, const struct command *cmd)
{
    change(s, names_of(s->channel, cmd), true);
}

static void reply(struct tm_sub *s, struct tm_buf *text, struct tm_slice array)
{
    TM_FATAL_UNLESS(tm_buf_printf(text, "\"sid\":%u,\"seq\":%llu,\"msg\":{\"%s\":%.*s}}", s->sid,
                                  (unsigned long long)++s->seq, words_of(s->channel)->key, (int)array.len,
                                  array.at) == TM_OK);
    tm_reply_end(s->client, text);
}

/* What has come lately on the channel: nothing ever does. */
static void reply_list(struct tm_sub *s, const struct command *cmd)
{
    struct tm_buf text = tm_reply_begin(cmd->id);
    TM_FATAL_UNLESS(
        tm_buf_printf(&text, "\"type\":\"%s_%s\",", tm_channel_name(s->channel), words_of(s->channel)->list) == TM_OK);
    reply(s, &text, (struct tm_slice){"[]", 2});
}

static void reply_names(struct tm_sub *s, const struct command *cmd)
{
    static const struct tm_slice all = {"all", 3}, array = {"[\"all\"]", 7};
    struct tm_buf text = tm_reply_begin(cmd->id);
    TM_FATAL_UNLESS(tm_buf_printf(&text, "\"type\":\"ok\",") == TM_OK);
    reply(s, &text, has_name(text_of(&s->names), all) ? array : text_of(&s->names));
}

int tm_command_update_names(struct tm_sub *s, const struct command *cmd)
{
    const struct words *words = words_of(s->channel);
    struct tm_slice names = names_of(s->channel, cmd);
    bool add = tm_json_is(cmd->action, words->add);
    if (tm_json_is(cmd->action, words->list)) {
        reply_list(s, cmd);
        return 0;
    }
    if (!add && !tm_json_is(cmd->action, words->remove))
        return 13;
    int count = names.at ? count_names(names) : 0;
    if (count <= 0)
        return count ? 1 : words->missing;
    change(s, names, add);
    reply_names(s, cmd);
    return 0;
}
