#include "control/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *tm_command_role_name(enum tm_command_role role)
{
    static const char *const names[] = {"read", "operate", "admin"};
    return names[role];
}

static bool parse_number(const char *text, unsigned *out)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    *out = (unsigned)v;
    return *text >= '0' && *text <= '9' && !*end && !errno && v < 0xffffffffUL;
}

static int find_group(const char *name, unsigned *out, struct tm_error *err)
{
    const struct group *g = parse_number(name, out) ? NULL : getgrnam(name);
    if (g)
        *out = g->gr_gid;
    return g || parse_number(name, out) ? TM_OK
                                        : tm_error_set(err, TM_EINVAL, "control: there is no group \"%.64s\"", name);
}

static int find_user(const char *name, unsigned *out, struct tm_error *err)
{
    const struct passwd *p = parse_number(name, out) ? NULL : getpwnam(name);
    if (p)
        *out = p->pw_uid;
    return p || parse_number(name, out) ? TM_OK
                                        : tm_error_set(err, TM_EINVAL, "control: there is no user \"%.64s\"", name);
}

static int resolve_rule(const struct tm_config_control_rule *rule, struct tm_access_entry *out, struct tm_error *err)
{
    out->role = (enum tm_command_role)rule->role;
    out->is_group = rule->name[0] == '@';
    return out->is_group ? find_group(rule->name + 1, &out->id, err) : find_user(rule->name, &out->id, err);
}

int tm_access_resolve(const struct tm_config_control *settings, struct tm_access_table *out, struct tm_error *err)
{
    *out = (struct tm_access_table){.count = settings->rule_count, .has_group = settings->group != NULL};
    out->entries = calloc(settings->rule_count + 1, sizeof *out->entries);
    TM_FATAL_UNLESS(out->entries);
    unsigned group = 0;
    int rc = settings->group ? find_group(settings->group, &group, err) : TM_OK;
    out->group = group;
    for (size_t i = 0; !rc && i < settings->rule_count; i++)
        rc = resolve_rule(&settings->rules[i], &out->entries[i], err);
    if (rc)
        tm_access_fini(out);
    return rc;
}

void tm_access_fini(struct tm_access_table *table)
{
    free(table->entries);
    *table = (struct tm_access_table){0};
}

mode_t tm_access_mode(const struct tm_access_table *table)
{
    return table->has_group ? 0660 : table->count ? 0666 : 0600;
}

static bool is_member(const struct tm_access_peer *peer, unsigned gid)
{
    for (size_t i = 0; i < peer->group_count; i++)
        if (peer->groups[i] == gid)
            return true;
    return peer->gid == gid;
}

bool tm_access_role(const struct tm_access_table *table, const struct tm_access_peer *peer, enum tm_command_role *out)
{
    bool found = peer->uid == 0 || peer->uid == geteuid();
    *out = found ? TM_COMMAND_ADMIN : TM_COMMAND_READ;
    for (size_t i = 0; i < table->count; i++) {
        const struct tm_access_entry *e = &table->entries[i];
        if (e->is_group ? !is_member(peer, e->id) : peer->uid != e->id)
            continue;
        *out = !found || e->role > *out ? e->role : *out;
        found = true;
    }
    return found;
}
