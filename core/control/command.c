#include "control/command.h"

#include "base/json.h"

#include <string.h>

#define NAME_MAX_BYTES 32

static int begin_error(struct tm_buf *out, const char *message)
{
    int rc = tm_buf_printf(out, "{\"ok\":false,\"error\":");
    return rc ? rc : tm_json_put_string(out, message);
}

static int answer_error(struct tm_buf *out, const char *message)
{
    int rc = begin_error(out, message);
    return rc ? rc : tm_buf_append(out, "}\n", 2);
}

static int answer_unknown(const struct tm_command *commands, const char *name, struct tm_buf *out)
{
    struct tm_error err;
    (void)tm_error_set(&err, TM_ENOENT, "unknown command \"%s\": expected one of", name);
    size_t len = strlen(err.message);
    for (; commands->name && len + strlen(commands->name) + 2 < sizeof err.message; commands++) {
        err.message[len++] = ' ';
        strcpy(err.message + len, commands->name);
        len += strlen(commands->name);
    }
    return answer_error(out, err.message);
}

static int run(const struct tm_command *command, void *context, const char *args, struct tm_buf *out)
{
    size_t start = out->len;
    struct tm_error err = {0};
    int rc = tm_buf_printf(out, "{\"ok\":true,\"result\":");
    if (!rc)
        rc = command->run(context, args, out, &err);
    if (!rc)
        return tm_buf_append(out, "}\n", 2);
    out->len = start;
    rc = begin_error(out, err.message[0] ? err.message : tm_code_name(rc));
    if (!rc && command->explain)
        rc = command->explain(context, out);
    return rc ? rc : tm_buf_append(out, "}\n", 2);
}

int tm_command_answer(const struct tm_command *commands, enum tm_command_role role, void *context, const char *line,
                      size_t len, struct tm_buf *out)
{
    struct tm_buf copy = {0};
    int rc = tm_buf_append(&copy, line, len);
    const char *text = rc ? NULL : tm_buf_cstr(&copy);
    if (!text)
        return TM_ENOMEM;
    char name[NAME_MAX_BYTES + 1] = {0};
    size_t start = strspn(text, " \t"), name_len = strcspn(text + start, " \t\r");
    memcpy(name, text + start, name_len < NAME_MAX_BYTES ? name_len : NAME_MAX_BYTES);
    const char *args = text + start + name_len + strspn(text + start + name_len, " \t\r");
    const struct tm_command *command = commands;
    while (command->name && (name_len > NAME_MAX_BYTES || strcmp(command->name, name) != 0))
        command++;
    if (strlen(text) != len)
        rc = answer_error(out, "expected a line of text without NUL bytes");
    else if (!command->name)
        rc = answer_unknown(commands, name, out);
    else if (command->role > role)
        rc = answer_error(out, "this command needs more rights than this peer has");
    else
        rc = run(command, context, args, out);
    tm_buf_fini(&copy);
    return rc;
}
