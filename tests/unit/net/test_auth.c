#include "base/log.h"
#include "net/auth.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/tm_test_auth_XXXXXX";
static char key_path[64], other_path[64];

/* What tm_auth_headers put. */
struct got {
    int count;
    char name[8][64], value[8][2048];
};

static int put(void *arg, const char *name, const char *value)
{
    struct got *g = arg;
    snprintf(g->name[g->count], sizeof g->name[0], "%s", name);
    snprintf(g->value[g->count++], sizeof g->value[0], "%s", value);
    return 0;
}

static int run(const char *command)
{
    char line[1000];
    snprintf(line, sizeof line, "cd %s && { %s ; } >/dev/null 2>&1", dir, command);
    return system(line);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(key_path, sizeof key_path, "%s/key.pem", dir);
    snprintf(other_path, sizeof other_path, "%s/other.pem", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char line[100];
    snprintf(line, sizeof line, "rm -r %s", dir);
    return system(line);
}

static const struct tm_auth_header_def headers[] = {
    {"ACCESS-KEY", "{key_id}"},
    {"ACCESS-TIMESTAMP", "{timestamp_ms}"},
    {"ACCESS-SIGNATURE", "{signature}"},
    {"X-Plain", "s={timestamp_s} m={method} p={path}."},
};

static const struct tm_auth_def full = {
    .key_id = "00000000-0000-0000-0000-00000000000a",
    .key_file = key_path,
    .message = "{timestamp_ms}{method}{path}",
    .headers = headers,
    .header_count = 4,
};

/* Sign with what is in key.pem; the signature goes to the file "signature" and the bytes meant to "message".
 */
static void sign_to_files(void)
{
    struct tm_auth *auth;
    struct tm_error err;
    struct got got = {0};
    unsigned char signature[1024];
    if (tm_auth_create(&full, &auth, &err))
        fail_msg("%s", err.message);
    assert_int_equal(tm_auth_headers(auth, "GET", "/trade-api/ws/v2?x=1", INT64_C(1790000000123456), put, &got, &err),
                     0);
    tm_auth_put(auth);
    assert_int_equal(got.count, 4);
    assert_string_equal(got.name[0], "ACCESS-KEY");
    assert_string_equal(got.value[0], full.key_id);
    assert_string_equal(got.value[1], "1790000000123");
    assert_string_equal(got.value[3], "s=1790000000 m=GET p=/trade-api/ws/v2.");
    size_t chars = strlen(got.value[2]);
    int len = EVP_DecodeBlock(signature, (unsigned char *)got.value[2], (int)chars);
    while (chars && got.value[2][chars - 1] == '=') {
        chars--;
        len--;
    }
    char path[100];
    snprintf(path, sizeof path, "%s/signature", dir);
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite(signature, 1, (size_t)len, f), len);
    fclose(f);
    snprintf(path, sizeof path, "%s/message", dir);
    f = fopen(path, "w");
    fputs("1790000000123GET/trade-api/ws/v2", f);
    fclose(f);
}

/* The verifier is the openssl program, told padding, digest and salt length. */
static void expect_pss_ok(void)
{
    sign_to_files();
    assert_int_equal(run("openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_mgf1_md:sha256 "
                         "-sigopt rsa_pss_saltlen:32 -verify public.pem -signature signature message"),
                     0);
    assert_int_not_equal(run("echo x >> message; openssl dgst -sha256 -sigopt rsa_padding_mode:pss "
                             "-sigopt rsa_pss_saltlen:32 -verify public.pem -signature signature message"),
                         0);
}

static void test_rsa_pkcs8(void **state)
{
    (void)state;
    assert_int_equal(
        run("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem && chmod 600 key.pem "
            "&& openssl pkey -in key.pem -pubout -out public.pem && grep -q 'BEGIN PRIVATE' key.pem"),
        0);
    expect_pss_ok();
}

static void test_rsa_pkcs1(void **state)
{
    (void)state;
    assert_int_equal(run("openssl genrsa -traditional -out key.pem 2048 && chmod 600 key.pem "
                         "&& openssl pkey -in key.pem -pubout -out public.pem && grep -q 'BEGIN RSA PRIVATE' key.pem"),
                     0);
    expect_pss_ok();
}

static void test_ed25519(void **state)
{
    (void)state;
    assert_int_equal(run("openssl genpkey -algorithm ED25519 -out key.pem && chmod 600 key.pem "
                         "&& openssl pkey -in key.pem -pubout -out public.pem"),
                     0);
    sign_to_files();
    assert_int_equal(run("openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in message -sigfile signature"), 0);
    assert_int_not_equal(run("echo x >> message; openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in "
                             "message -sigfile signature"),
                         0);
}

/* PSS is salted: two signatures of the same bytes differ, or the salt is not random. */
static void test_salt_is_fresh(void **state)
{
    (void)state;
    struct tm_auth *auth;
    struct tm_error err;
    struct got a = {0}, b = {0};
    assert_int_equal(run("openssl genrsa -out key.pem 2048 && chmod 600 key.pem"), 0);
    assert_int_equal(tm_auth_create(&full, &auth, &err), 0);
    assert_int_equal(tm_auth_headers(auth, "GET", "/", 1, put, &a, &err), 0);
    assert_int_equal(tm_auth_headers(auth, "GET", "/", 1, put, &b, &err), 0);
    assert_string_not_equal(a.value[2], b.value[2]);
    assert_int_equal(strlen(a.value[2]), 344);
    tm_auth_put(auth);
}

/* Another object that says the same is the same; any part that differs makes it another. */
static void test_equal(void **state)
{
    (void)state;
    struct tm_auth *first, *again, *other;
    struct tm_error err;
    struct tm_auth_def def = full;
    assert_int_equal(run("openssl genpkey -algorithm ED25519 -out key.pem && chmod 600 key.pem"), 0);
    assert_int_equal(tm_auth_create(&def, &first, &err), 0);
    assert_int_equal(tm_auth_create(&def, &again, &err), 0);
    assert_true(tm_auth_equal(first, again));
    assert_true(tm_auth_equal(NULL, NULL));
    assert_false(tm_auth_equal(first, NULL));
    def.key_id = "another";
    assert_int_equal(tm_auth_create(&def, &other, &err), 0);
    assert_false(tm_auth_equal(first, other));
    tm_auth_put(other);
    def = full;
    def.header_count--;
    assert_int_equal(tm_auth_create(&def, &other, &err), 0);
    assert_false(tm_auth_equal(first, other));
    tm_auth_put(other);
    def = full;
    def.message = "{method}";
    assert_int_equal(tm_auth_create(&def, &other, &err), 0);
    assert_false(tm_auth_equal(first, other));
    tm_auth_put(other);
    assert_int_equal(run("openssl genpkey -algorithm ED25519 -out key.pem && chmod 600 key.pem"), 0); /* rotated */
    assert_int_equal(tm_auth_create(&full, &other, &err), 0);
    assert_false(tm_auth_equal(first, other));
    tm_auth_put(other);
    tm_auth_put(again);
    again = tm_auth_take(first);
    tm_auth_put(first);
    assert_true(tm_auth_equal(again, again));
    tm_auth_put(again);
}

static void expect_error(const struct tm_auth_def *def, const char *text)
{
    struct tm_auth *auth = NULL;
    struct tm_error err;
    if (!tm_auth_create(def, &auth, &err)) {
        tm_auth_put(auth);
        fail_msg("accepted, though \"%s\" was expected", text);
    }
    if (!strstr(err.message, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.message);
}

static void test_bad_key_files(void **state)
{
    (void)state;
    struct tm_auth_def def = full;
    assert_int_equal(run("openssl genrsa -out key.pem 2048 && chmod 620 key.pem"), 0);
    expect_error(&def, "the signer's key: secret file ");
    expect_error(&def, "is open to others (mode 0620): expected 0600, or 0640 at most: chmod 600 ");
    assert_int_equal(run("chmod 602 key.pem"), 0);
    expect_error(&def, "mode 0602");
    assert_int_equal(run("chmod 644 key.pem"), 0);
    expect_error(&def, "mode 0644");
    if (geteuid() == 0) {
        assert_int_equal(run("chmod 600 key.pem && chown 12345 key.pem"), 0);
        expect_error(&def,
                     "belongs to user 12345 (mode 0600): expected root or the user that runs this, 0, and mode 0600");
        assert_int_equal(run("chown 0 key.pem"), 0);
    }
    assert_int_equal(run("openssl genrsa -aes128 -passout pass:secret -out key.pem 2048 && chmod 600 key.pem"), 0);
    expect_error(&def, "the key is encrypted");
    assert_int_equal(run("echo nonsense > key.pem"), 0);
    expect_error(&def, "no PEM private key");
    assert_int_equal(run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"), 0);
    expect_error(&def, "RSA and Ed25519 are supported");
    assert_int_equal(run("openssl genrsa -out other.pem 2048 && openssl rsa -in other.pem -pubout -out key.pem"), 0);
    expect_error(&def, "no PEM private key");
    def.key_file = dir;
    expect_error(&def, "is not a regular file");
    def.key_file = "/nonexistent/key";
    expect_error(&def, "/nonexistent/key");
}

static void test_bad_templates(void **state)
{
    (void)state;
    struct tm_auth_header_def h = {"X-A", "{signature}"};
    struct tm_auth_def def = {.headers = &h, .header_count = 1};
    expect_error(&def, "{signature} is not available here");
    h.value = "{key_id}";
    expect_error(&def, "{key_id} is not available here");
    h.value = "{timestampms}";
    expect_error(&def, "{timestampms} is not available here");
    h.value = "{timestamp_ms";
    expect_error(&def, "is not available here");
    h.value = "a\r\nX-B: c";
    expect_error(&def, "line break");
    h.value = "fine";
    h.name = "X A";
    expect_error(&def, "is no header name");
    h.name = "";
    expect_error(&def, "is no header name");
    def.key_id = "a\nb";
    expect_error(&def, "key_id has a line break");
    def = (struct tm_auth_def){.key_file = key_path};
    expect_error(&def, "no message template");
    assert_int_equal(run("openssl genrsa -out key.pem 2048 && chmod 600 key.pem"), 0);
    def.message = "{signature}";
    expect_error(&def, "{signature} is not available here");
}

/* Without a file: the same key as text gives the same signature (Ed25519 has no salt), and secrets are no templates. */
static void test_key_as_text(void **state)
{
    (void)state;
    struct tm_auth_header_def h = {"X-S", "{signature}"}, secret = {"X-Key", "{not a template}"};
    struct tm_auth_def def = {.key_file = key_path, .message = "m", .headers = &h, .header_count = 1};
    char text[1000] = "", signatures[2][sizeof((struct got *)0)->value[0]];
    struct tm_error err;
    assert_int_equal(run("openssl genpkey -algorithm ED25519 -out key.pem && chmod 600 key.pem"), 0);
    FILE *f = fopen(key_path, "r");
    assert_true(fread(text, 1, sizeof text - 1, f) > 100);
    fclose(f);
    for (int i = 0; i < 2; i++) {
        struct tm_auth *auth;
        struct got got = {0};
        if (tm_auth_create(&def, &auth, &err))
            fail_msg("%s", err.message);
        assert_int_equal(tm_auth_headers(auth, "GET", "/", 1, put, &got, &err), 0);
        tm_auth_put(auth);
        snprintf(signatures[i], sizeof signatures[i], "%s", got.value[0]);
        assert_int_equal(got.count, i == 0 ? 1 : 2);
        if (i == 1)
            assert_string_equal(got.value[1], "{not a template}");
        def.key_file = NULL;
        def.key = text;
        def.secrets = &secret;
        def.secret_count = 1;
    }
    assert_string_equal(signatures[0], signatures[1]);
    def.key = "-----BEGIN hunter2";
    expect_error(&def, "the signer's key: no PEM private key");
    def.key_file = key_path;
    expect_error(&def, "expected one of them");
    def.key = def.key_file = NULL;
    secret.value = "a\nb";
    h.value = "x";
    expect_error(&def, "line break");
}

static int put_refuses(void *arg, const char *name, const char *value)
{
    (void)arg;
    (void)name;
    (void)value;
    return -1;
}

static void test_put_refuses(void **state)
{
    (void)state;
    struct tm_auth_header_def h = {"X-A", "b"};
    struct tm_auth_def def = {.headers = &h, .header_count = 1};
    struct tm_auth *auth;
    struct tm_error err;
    assert_int_equal(tm_auth_create(&def, &auth, &err), 0);
    assert_int_equal(tm_auth_headers(auth, "GET", "/", 1, put_refuses, NULL, &err), TM_EFULL);
    assert_non_null(strstr(err.message, "X-A"));
    tm_auth_put(auth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rsa_pkcs8),     cmocka_unit_test(test_rsa_pkcs1),
        cmocka_unit_test(test_ed25519),       cmocka_unit_test(test_salt_is_fresh),
        cmocka_unit_test(test_bad_key_files), cmocka_unit_test(test_bad_templates),
        cmocka_unit_test(test_equal),         cmocka_unit_test(test_key_as_text),
        cmocka_unit_test(test_put_refuses),
    };
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    return cmocka_run_group_tests_name("net/auth", tests, make_dir, remove_dir);
}
