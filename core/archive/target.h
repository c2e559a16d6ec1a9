/*
 * Where an archive is kept: a directory, or a bucket of S3 or of a server that speaks its language. Objects have names
 * ("keys") with slashes, are written once, never half, and never changed: there is no call that replaces or deletes one.
 *
 *     file:///var/lib/tidemill/archive
 *     s3://bucket/prefix?region=eu-central-1
 *     s3://bucket/prefix?endpoint=https://minio.example:9000&path_style=true&ca_file=/etc/ssl/own.pem
 *
 * Usual order of calls:
 *
 *     open -> put_begin -> append ... append -> finish         one object; abort instead of finish throws it away
 *          -> head, read, read_at, verify, list                what is there
 *          -> sweep                                            remains of puts that a crash left
 *          -> close
 *
 * Threads: calls block; they belong into a thread that may wait, never into io or policy. A target and its puts are one
 * thread's at a time. Only `*stop` is looked at from elsewhere: within a second of its becoming true every call returns
 * TM_ESTOPPED. Each attempt of a request has a deadline; what may succeed later (no connection, a cut one, 5xx, 429,
 * SlowDown, a late answer) is tried again with growing pauses, `tries` times in all, and is then TM_ERETRY.
 *
 * Memory: a put to a directory holds nothing, one to S3 a part (`part_bytes`); a read holds what it returns.
 *
 * Errors, of every call:
 *     TM_EINVAL    the URL, a setting, a key                TM_ENOENT    no such object, no such bucket
 *     TM_EDENIED   credentials or permissions               TM_ECONFLICT an object of this key is there already
 *     TM_ECORRUPT  bytes, size or hash are not as promised  TM_ERETRY    may succeed later; all tries failed
 *     TM_EFULL     the disk or quota is full                TM_EIO       any other failure of a system call
 *     TM_ESTOPPED  *stop                                    TM_EPARSE    an answer that is not S3's language
 * They name the target and the key, with the code and the message of the server; never a secret.
 */
#ifndef TM_ARCHIVE_TARGET_H
#define TM_ARCHIVE_TARGET_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TM_TARGET_KEY_MAX 900                      /* bytes of a key; S3 has 1024 with the prefix */
#define TM_TARGET_PREFIX_MAX 120                   /* bytes of the prefix in an s3:// URL */
#define TM_TARGET_PART_BYTES ((size_t)8 << 20)     /* default of part_bytes; S3 takes 10,000 parts: 78 GiB an object */
#define TM_TARGET_PART_BYTES_MIN ((size_t)5 << 20) /* S3's own bound */
#define TM_TARGET_PART_BYTES_MAX ((size_t)256 << 20)
#define TM_SHA256_BYTES 32

struct tm_target;
struct tm_put;

/* Copied by open, but for `stop`, which has to live as long as the target. */
struct tm_target_options {
    const char *url;

    /*
     * S3 only. Who signs:
     *   "file:/path" or "file:/path#profile"   a file in the form of ~/.aws/credentials, mode 0640 at most
     *   "credential:NAME" (also "#profile")    the same, in systemd's $CREDENTIALS_DIRECTORY
     *   "environment"                          AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
     *   "container"                            AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI (ECS, EKS)
     *   "instance"                             the role of the EC2 instance, by IMDSv2
     *   NULL                                   environment, AWS_SHARED_CREDENTIALS_FILE, container: the first whose
     *                                          variables are set. No address is asked on a guess.
     * Files are read again when the server refuses what they said; roles are refreshed before they end.
     */
    const char *credentials;

    bool read_only;     /* a put is TM_EDENIED; a directory that is not there is TM_ENOENT instead of being made */
    size_t part_bytes;  /* 0: TM_TARGET_PART_BYTES */
    int64_t timeout_us; /* S3: an attempt without progress; 0: 30 s. Completing an upload: four times that */
    unsigned tries;     /* S3: attempts of a request; 0: 8 */
    int64_t pause_us;   /* S3: the first pause between two; 0: 500 ms, so all of them come to half a minute or so */
    const atomic_bool *stop; /* NULL: nobody stops it */
};

struct tm_object {
    uint64_t size;
    int64_t modified_us; /* of Unix, by the clock of where it is kept */
    char etag[72];       /* S3's, without its quotes; "" in a directory. Not a hash that one may rely on */
};

/* What open would refuse of these settings, without a look at a file, the environment or the network. */
int tm_target_check(const struct tm_target_options *options, struct tm_error *err) TM_MUST_CHECK;

/*
 * A directory is made if its parent is there. S3 is not asked yet, so a wrong bucket or key is told by the first call
 * that asks; credentials of files and of the environment are read here.
 */
int tm_target_open(const struct tm_target_options *options, struct tm_target **out, struct tm_error *err) TM_MUST_CHECK;
void tm_target_close(struct tm_target *target); /* puts must have ended; NULL is fine */

/* The URL without what is behind the '?', for logs and errors; lives as long as the target. */
const char *tm_target_name(const struct tm_target *target);

/*
 * A key: parts of letters, digits and !_-.=,+@~: joined by single slashes; no part begins with a dot (those are the
 * target's own). "raw/trades/year=2026/month=07/day=09/part-0.parquet"
 */
int tm_target_check_key(const char *key, struct tm_error *err) TM_MUST_CHECK;

/* ---- writing ---- */

/*
 * Begin an object. TM_ECONFLICT if it is there already, which finish may still find out, when somebody else was faster.
 * Until finish has returned TM_OK nobody sees anything of it; then all of it is durable. Who compares finds whose
 * object it was: verify() against the size and hash that his would have had.
 */
int tm_put_begin(struct tm_target *target, const char *key, struct tm_put **out, struct tm_error *err) TM_MUST_CHECK;

/* After a failure only abort is left (finish says TM_ESTATE and frees it). */
int tm_put_append(struct tm_put *put, const void *bytes, size_t len, struct tm_error *err) TM_MUST_CHECK;

/* What has been appended; the hash is that of all of it, also for S3's multipart uploads. */
struct tm_put_result {
    uint64_t size;
    uint8_t sha256[TM_SHA256_BYTES];
};

/*
 * Publish it, and look (S3: by HEAD) whether what is there has its size and is this put's. Frees the put whatever
 * comes; a failure throws the object away. After TM_ERETRY it may be there all the same (an answer that never came):
 * begin then says TM_ECONFLICT, and verify whether it is whole.
 */
int tm_put_finish(struct tm_put *put, struct tm_put_result *result, struct tm_error *err) TM_MUST_CHECK;
void tm_put_abort(struct tm_put *put); /* NULL is fine. Waits at most 5 s for S3; what stays is swept */

/* Begin, append, finish for what is in memory already, such as a manifest. `result` may be NULL. */
int tm_target_put(struct tm_target *target, const char *key, const void *bytes, size_t len,
                  struct tm_put_result *result, struct tm_error *err) TM_MUST_CHECK;

/*
 * Remove what unfinished puts left that are older than age_us: files of a directory, multipart uploads below the
 * prefix. `removed` (may be NULL) counts them. Other processes may be writing: choose hours.
 */
int tm_target_sweep(struct tm_target *target, int64_t age_us, size_t *removed, struct tm_error *err) TM_MUST_CHECK;

/* ---- reading ---- */

int tm_target_head(struct tm_target *target, const char *key, struct tm_object *out,
                   struct tm_error *err) TM_MUST_CHECK;

/* The whole object behind what is in *out; TM_ECORRUPT if it has more than `bytes_max` bytes. */
int tm_target_read(struct tm_target *target, const char *key, size_t bytes_max, struct tm_buf *out,
                   struct tm_error *err) TM_MUST_CHECK;

/* Exactly `len` bytes from `offset` on; TM_ECORRUPT if the object ends before. */
int tm_target_read_at(struct tm_target *target, const char *key, uint64_t offset, void *to, size_t len,
                      struct tm_error *err) TM_MUST_CHECK;

/* Read the object through and compare size and SHA-256: TM_ECORRUPT says which of them is not as expected. */
int tm_target_verify(struct tm_target *target, const char *key, const struct tm_put_result *expected,
                     struct tm_error *err) TM_MUST_CHECK;

/*
 * Call `each` with every object whose key begins with `prefix` ("" for all; need not end at a slash) and comes after
 * `after` (NULL: from the first), in the order of the keys' bytes. Not 0 from `each` ends the listing with that value,
 * negative ones with *err as `each` left it. To go on later, hand the last key in as `after`. Objects that come
 * meanwhile may be seen or not. Keys that tm_target_check_key would refuse are left out.
 */
typedef int tm_target_each(void *arg, const char *key, const struct tm_object *object);
int tm_target_list(struct tm_target *target, const char *prefix, const char *after, tm_target_each *each, void *arg,
                   struct tm_error *err) TM_MUST_CHECK;

/* Since open; for metrics. Counts of a directory stay 0. */
struct tm_target_stats {
    uint64_t requests, retries, bytes_sent, bytes_received;
};
void tm_target_stats(const struct tm_target *target, struct tm_target_stats *out);

#endif
