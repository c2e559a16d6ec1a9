/*
 * Who signs: keys from a file, the environment, or a role whose keys end and are fetched again in time.
 *
 * A file has the form of ~/.aws/credentials: [profile], then aws_access_key_id, aws_secret_access_key and perhaps
 * aws_session_token; it is read by base/secret.h, so nobody else may be able to. Roles are asked by HTTP, unsigned:
 *   container   AWS_CONTAINER_CREDENTIALS_RELATIVE_URI at 169.254.170.2, or AWS_CONTAINER_CREDENTIALS_FULL_URI (https,
 *               loopback or link-local), with AWS_CONTAINER_AUTHORIZATION_TOKEN or what is in ..._TOKEN_FILE
 *   instance    IMDSv2 at 169.254.169.254 (or AWS_EC2_METADATA_SERVICE_ENDPOINT): a token, the role's name, its keys
 * Their keys are fetched again five minutes before they end; if that fails, the old ones are used while they hold.
 *
 * Keys live in locked pages (base/secret.h). No error and no log holds any of them. One thread at a time.
 */
#ifndef TM_ARCHIVE_S3_CREDENTIALS_H
#define TM_ARCHIVE_S3_CREDENTIALS_H

#include "archive/s3_transport.h"
#include "base/secret.h"

struct tm_s3_credentials;

/* Borrowed until the next call on these credentials. */
struct tm_s3_keys {
    const char *id, *secret;
    const char *token; /* NULL: none */
};

/* The form of `spec` (target.h, `credentials`); NULL is fine. No file is opened. */
int tm_s3_credentials_check(const char *spec, struct tm_error *err) TM_MUST_CHECK;

/* Files and the environment are read here, roles not yet. `transport` is used while a call is made. */
int tm_s3_credentials_open(const char *spec, struct tm_s3_transport *transport, struct tm_s3_credentials **out,
                           struct tm_error *err) TM_MUST_CHECK;
void tm_s3_credentials_close(struct tm_s3_credentials *c); /* NULL is fine */

/* TM_EDENIED, TM_ENOENT, TM_EPARSE: there are none, and why; TM_ERETRY: who gives them does not answer now. */
int tm_s3_credentials_get(struct tm_s3_credentials *c, int64_t wall_us, struct tm_s3_keys *out,
                          struct tm_error *err) TM_MUST_CHECK;

/* The server refused them as expired or unknown: read or fetch them anew. True if they are others now. */
bool tm_s3_credentials_renew(struct tm_s3_credentials *c);

#endif
