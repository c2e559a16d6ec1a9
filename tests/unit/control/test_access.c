/* Who may use the control socket, as what: by uid, gid and supplementary groups. */
#include "../base/unit.h"

#include "control/access.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

static struct tm_access_table table;

static void resolve(const struct tm_config_control_rule *rules, size_t count, const char *group)
{
    struct tm_error err;
    struct tm_config_control access = {.rules = rules, .rule_count = count, .group = group};
    if (tm_access_resolve(&access, &table, &err) < 0)
        fail_msg("%s", err.message);
}

/* The role, or -1. */
static int role_of(uid_t uid, gid_t gid, const gid_t *groups, size_t count)
{
    enum tm_command_role role;
    struct tm_access_peer peer = {.uid = uid, .gid = gid, .groups = groups, .group_count = count};
    return tm_access_role(&table, &peer, &role) ? (int)role : -1;
}

static void test_nobody_is_named(void **state)
{
    (void)state;
    resolve(NULL, 0, NULL);
    assert_int_equal(tm_access_mode(&table), 0600);
    assert_int_equal(role_of(0, 5, NULL, 0), TM_COMMAND_ADMIN);
    assert_int_equal(role_of(geteuid(), 5, NULL, 0), TM_COMMAND_ADMIN);
    assert_int_equal(role_of(geteuid() + 1, getegid(), NULL, 0), -1);
    tm_access_fini(&table);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct tm_config_control_rule rules[] = {{"@700", 0}, {"4001", 1}, {"@701", 2}, {"4002", 0}};
    static const gid_t groups[] = {1, 700}, more[] = {700, 701};
    resolve(rules, 4, NULL);
    assert_int_equal(tm_access_mode(&table), 0666);
    assert_int_equal(role_of(4001, 9, NULL, 0), TM_COMMAND_OPERATE);
    assert_int_equal(role_of(4002, 9, NULL, 0), TM_COMMAND_READ);
    assert_int_equal(role_of(4003, 9, NULL, 0), -1);
    assert_int_equal(role_of(4003, 700, NULL, 0), TM_COMMAND_READ);
    assert_int_equal(role_of(4003, 9, groups, 2), TM_COMMAND_READ);
    assert_int_equal(role_of(4003, 9, more, 2), TM_COMMAND_ADMIN);   /* the highest counts */
    assert_int_equal(role_of(4001, 701, NULL, 0), TM_COMMAND_ADMIN); /* likewise */
    assert_int_equal(role_of(700, 4001, NULL, 0), -1);               /* a uid is no gid */
    assert_int_equal(role_of(0, 700, NULL, 0), TM_COMMAND_ADMIN);    /* a rule takes nothing away */
    tm_access_fini(&table);
}

static void test_names(void **state)
{
    (void)state;
    const struct passwd *user = getpwnam("nobody");
    const struct group *group = getgrnam("daemon");
    assert_true(user && group);
    static const struct tm_config_control_rule rules[] = {{"nobody", 1}, {"@daemon", 0}};
    resolve(rules, 2, "daemon");
    assert_int_equal(tm_access_mode(&table), 0660);
    assert_int_equal(table.group, group->gr_gid);
    assert_int_equal(role_of(user->pw_uid, 4001, NULL, 0), TM_COMMAND_OPERATE);
    assert_int_equal(role_of(4001, group->gr_gid, NULL, 0), TM_COMMAND_READ);
    tm_access_fini(&table);
}

static void test_unknown_names(void **state)
{
    (void)state;
    static const char *const names[] = {"no-such-user", "@no-such-group", "4294967295", "-1", "1x"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct tm_config_control_rule rule = {names[i], 0};
        struct tm_config_control access = {.rules = &rule, .rule_count = 1};
        struct tm_error err;
        if (tm_access_resolve(&access, &table, &err) != TM_EINVAL)
            fail_msg("%s is taken", names[i]);
        assert_non_null(strstr(err.message, "control: there is no "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_is_named),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_unknown_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
