#include "archive/s3_credentials.h"
#include "archive/s3_role.h"
#include "base/clock.h"
#include "base/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RENEW_BEFORE_US (300 * TM_US_PER_S)
#define TRY_AGAIN_US (10 * TM_US_PER_S) /* after a renewal that failed while the old keys still hold */

enum source { FROM_FILE, FROM_CREDENTIAL, FROM_ENVIRONMENT, FROM_CONTAINER, FROM_INSTANCE };

struct tm_s3_credentials {
    enum source source;
    char *name; /* path of a file, name of a credential */
    char *profile;
    struct tm_s3_transport *transport;
    struct tm_s3_key_set keys; /* id NULL: none yet */
    int64_t renew_at_us;
};

void tm_s3_key_set_fini(struct tm_s3_key_set *k)
{
    tm_secret_put(k->id);
    tm_secret_put(k->secret);
    tm_secret_put(k->token);
    *k = (struct tm_s3_key_set){0};
}

/* ---- files ---- */

static bool is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

static void trim(const char **text, size_t *len)
{
    for (; *len && isspace((unsigned char)**text); --*len)
        ++*text;
    while (*len && isspace((unsigned char)(*text)[*len - 1]))
        --*len;
}

/* "name = value" of the profile that is looked for. */
static int take_setting(const char *line, size_t len, struct tm_s3_key_set *k, struct tm_error *err)
{
    const char *equals = memchr(line, '=', len), *value = equals ? equals + 1 : NULL;
    if (!equals)
        return TM_OK;
    size_t name_len = (size_t)(equals - line), value_len = len - name_len - 1;
    trim(&line, &name_len);
    trim(&value, &value_len);
    struct tm_secret **to = is_word(line, name_len, "aws_access_key_id")       ? &k->id
                            : is_word(line, name_len, "aws_secret_access_key") ? &k->secret
                            : is_word(line, name_len, "aws_session_token")     ? &k->token
                                                                               : NULL;
    if (!to)
        return TM_OK;
    tm_secret_put(*to);
    *to = NULL;
    return tm_secret_create(value, value_len, "a value of the profile", to, err);
}

static int parse_profile(const char *text, const char *profile, struct tm_s3_key_set *k, struct tm_error *err)
{
    bool here = false, found = false;
    int rc = TM_OK;
    for (const char *at = text; !rc && *at;) {
        size_t whole = strcspn(at, "\n"), len = whole;
        const char *line = at;
        at += whole + (at[whole] == '\n');
        trim(&line, &len);
        if (!len || *line == '#' || *line == ';')
            continue;
        if (*line == '[') {
            here = len > 2 && line[len - 1] == ']' && strlen(profile) == len - 2 &&
                   strncmp(line + 1, profile, len - 2) == 0;
            found = found || here;
        } else if (here)
            rc = take_setting(line, len, k, err);
    }
    if (!rc && !found)
        return tm_error_set(err, TM_ENOENT, "no section [%s]", profile);
    if (!rc && (!k->id || !k->secret))
        return tm_error_set(err, TM_EINVAL, "[%s]: expected aws_access_key_id and aws_secret_access_key", profile);
    return rc;
}

static int read_file(const struct tm_s3_credentials *c, struct tm_s3_key_set *k, struct tm_error *err)
{
    struct tm_secret *file = NULL;
    int rc = c->source == FROM_FILE ? tm_secret_read_file(c->name, &file, err)
                                    : tm_secret_read_credential(c->name, &file, err);
    if (rc)
        return rc;
    rc = parse_profile(tm_secret_text(file), c->profile, k, err);
    tm_secret_put(file);
    return rc ? tm_error_wrap(err, "credentials in %s", c->name) : TM_OK;
}

static int read_environment(struct tm_s3_key_set *k, struct tm_error *err)
{
    int rc = tm_secret_read_env("AWS_ACCESS_KEY_ID", &k->id, err);
    if (!rc)
        rc = tm_secret_read_env("AWS_SECRET_ACCESS_KEY", &k->secret, err);
    const char *token = getenv("AWS_SESSION_TOKEN");
    if (!rc && token && *token)
        rc = tm_secret_read_env("AWS_SESSION_TOKEN", &k->token, err);
    return rc;
}

/* ---- any source ---- */

/* What is signed with goes into headers: printable ASCII. */
static bool is_printable(const struct tm_secret *s)
{
    for (const char *c = s ? tm_secret_text(s) : ""; *c; c++)
        if (*c <= ' ' || *c >= 0x7f)
            return false;
    return true;
}

static int load(struct tm_s3_credentials *c, struct tm_s3_key_set *k, struct tm_error *err)
{
    int rc = c->source == FROM_CONTAINER     ? tm_s3_role_container(c->transport, k, err)
             : c->source == FROM_INSTANCE    ? tm_s3_role_instance(c->transport, k, err)
             : c->source == FROM_ENVIRONMENT ? read_environment(k, err)
                                             : read_file(c, k, err);
    if (!rc && !(is_printable(k->id) && is_printable(k->secret) && is_printable(k->token)))
        rc = tm_error_set(err, TM_EINVAL, "the keys to sign with have bytes that are not printable ASCII");
    return rc;
}

static void use(struct tm_s3_credentials *c, struct tm_s3_key_set *k)
{
    tm_s3_key_set_fini(&c->keys);
    c->keys = *k;
    c->renew_at_us = k->ends_us ? k->ends_us - RENEW_BEFORE_US : INT64_MAX;
}

static int renew(struct tm_s3_credentials *c, struct tm_error *err)
{
    struct tm_s3_key_set k = {0};
    int rc = load(c, &k, err);
    if (rc)
        tm_s3_key_set_fini(&k);
    else
        use(c, &k);
    return rc;
}

static bool have_keys(const struct tm_s3_credentials *c, int64_t wall_us)
{
    return c->keys.id && (!c->keys.ends_us || wall_us < c->keys.ends_us);
}

int tm_s3_credentials_get(struct tm_s3_credentials *c, int64_t wall_us, struct tm_s3_keys *out, struct tm_error *err)
{
    if (!have_keys(c, wall_us) || wall_us >= c->renew_at_us) {
        int rc = renew(c, err);
        if (rc && (rc == TM_ESTOPPED || !have_keys(c, wall_us)))
            return rc;
        if (rc) {
            TM_LOG_LIMITED(TM_LOG_WARN, "archive", "keys that end soon cannot be renewed; they still hold",
                           TM_F_I64("seconds", (c->keys.ends_us - wall_us) / TM_US_PER_S), TM_F_ERR(err));
            c->renew_at_us = wall_us + TRY_AGAIN_US;
        } else if (c->renew_at_us <= wall_us) /* given for less than five minutes: once a while, not each time */
            c->renew_at_us = wall_us + (c->keys.ends_us - wall_us) / 2;
    }
    *out = (struct tm_s3_keys){.id = tm_secret_text(c->keys.id), .secret = tm_secret_text(c->keys.secret)};
    out->token = c->keys.token ? tm_secret_text(c->keys.token) : NULL;
    return TM_OK;
}

static bool same(const struct tm_secret *a, const struct tm_secret *b)
{
    return a == b || (a && b && strcmp(tm_secret_text(a), tm_secret_text(b)) == 0);
}

bool tm_s3_credentials_renew(struct tm_s3_credentials *c)
{
    struct tm_s3_key_set k = {0};
    struct tm_error ignored;
    if (c->source == FROM_ENVIRONMENT || load(c, &k, &ignored)) {
        tm_s3_key_set_fini(&k);
        return false;
    }
    bool others = !same(k.id, c->keys.id) || !same(k.secret, c->keys.secret) || !same(k.token, c->keys.token);
    use(c, &k);
    return others;
}

/* ---- opening ---- */

static int take_named(struct tm_s3_credentials *c, enum source source, const char *spec, struct tm_error *err)
{
    const char *hash = strchr(spec, '#');
    size_t len = hash ? (size_t)(hash - spec) : strlen(spec);
    if (!len || (hash && !hash[1]) || (source == FROM_FILE && spec[0] != '/'))
        return tm_error_set(err, TM_EINVAL,
                            "credentials: expected %s, with \"#profile\" behind it if it is not the default",
                            source == FROM_FILE ? "file:/path" : "credential:NAME");
    c->source = source;
    c->name = strndup(spec, len);
    c->profile = strdup(hash ? hash + 1 : "default");
    return c->name && c->profile ? TM_OK : tm_error_set(err, TM_ENOMEM, "no memory for credentials");
}

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

static int choose(struct tm_s3_credentials *c, struct tm_error *err)
{
    const char *file = getenv("AWS_SHARED_CREDENTIALS_FILE"), *profile = getenv("AWS_PROFILE");
    c->source = FROM_ENVIRONMENT;
    if (is_set("AWS_ACCESS_KEY_ID"))
        return TM_OK;
    if (is_set("AWS_SHARED_CREDENTIALS_FILE")) {
        int rc = take_named(c, FROM_FILE, file, err);
        if (!rc && profile && *profile) {
            free(c->profile);
            c->profile = strdup(profile);
        }
        return rc ? rc : c->profile ? TM_OK : tm_error_set(err, TM_ENOMEM, "no memory for credentials");
    }
    c->source = FROM_CONTAINER;
    if (is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
        return TM_OK;
    return tm_error_set(err, TM_EDENIED,
                        "nobody to sign requests of S3: expected the setting credentials (file:/path, credential:NAME, "
                        "environment, container or instance), or AWS_ACCESS_KEY_ID, AWS_SHARED_CREDENTIALS_FILE or "
                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI in the environment");
}

static int take_spec(struct tm_s3_credentials *c, const char *spec, struct tm_error *err)
{
    static const struct {
        const char *name;
        enum source source;
    } plain[] = {{"environment", FROM_ENVIRONMENT}, {"container", FROM_CONTAINER}, {"instance", FROM_INSTANCE}};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (!strcmp(spec, plain[i].name)) {
            c->source = plain[i].source;
            return TM_OK;
        }
    if (!strncmp(spec, "file:", 5))
        return take_named(c, FROM_FILE, spec + 5, err);
    if (!strncmp(spec, "credential:", 11))
        return take_named(c, FROM_CREDENTIAL, spec + 11, err);
    /* not repeated: it may be a key that somebody put into the wrong place */
    return tm_error_set(err, TM_EINVAL,
                        "credentials: expected file:/path, credential:NAME, environment, container or instance");
}

int tm_s3_credentials_check(const char *spec, struct tm_error *err)
{
    struct tm_s3_credentials c = {0};
    int rc = spec ? take_spec(&c, spec, err) : TM_OK;
    free(c.name);
    free(c.profile);
    return rc;
}

void tm_s3_credentials_close(struct tm_s3_credentials *c)
{
    if (!c)
        return;
    tm_s3_key_set_fini(&c->keys);
    free(c->name);
    free(c->profile);
    free(c);
}

int tm_s3_credentials_open(const char *spec, struct tm_s3_transport *transport, struct tm_s3_credentials **out,
                           struct tm_error *err)
{
    struct tm_s3_credentials *c = calloc(1, sizeof *c);
    if (!c)
        return tm_error_set(err, TM_ENOMEM, "no memory for credentials");
    c->transport = transport;
    int rc = spec ? take_spec(c, spec, err) : choose(c, err);
    if (!rc && c->source <= FROM_ENVIRONMENT)
        rc = renew(c, err);
    if (rc) {
        tm_s3_credentials_close(c);
        return rc;
    }
    *out = c;
    return TM_OK;
}
