/*
 * Who may use the control socket, and as what: root and our own user as admin, others as the role's `control` setting says,
 * by the uid, gid and supplementary groups that the kernel tells of the peer (SO_PEERCRED, SO_PEERGROUPS).
 */
#ifndef TM_CONTROL_ACCESS_H
#define TM_CONTROL_ACCESS_H

#include "control/command.h"
#include "script/config.h"

#include <stdbool.h>
#include <sys/types.h>

struct tm_access_entry {
    bool is_group;
    unsigned id;
    enum tm_command_role role;
};

/* The rules ("alice" is a user, "@ops" a group, both may be numbers) and the socket's group, looked up once. */
struct tm_access_table {
    struct tm_access_entry *entries;
    size_t count;
    gid_t group;
    bool has_group;
};

int tm_access_resolve(const struct tm_config_control *settings, struct tm_access_table *out,
                      struct tm_error *err) TM_MUST_CHECK;
void tm_access_fini(struct tm_access_table *table);

/* Of the socket's file: 0600, 0660 when it has a group, 0666 when somebody is named without one. */
mode_t tm_access_mode(const struct tm_access_table *table);

struct tm_access_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    const gid_t *groups;
    size_t group_count;
};

/* The highest role that fits; false: none. */
bool tm_access_role(const struct tm_access_table *table, const struct tm_access_peer *peer, enum tm_command_role *out);

const char *tm_command_role_name(enum tm_command_role role); /* "read", "operate", "admin" */

#endif
