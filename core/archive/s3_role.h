/* The keys of a role, asked for at the metadata service of an instance or a container (s3_credentials.h). */
#ifndef TM_ARCHIVE_S3_ROLE_H
#define TM_ARCHIVE_S3_ROLE_H

#include "archive/s3_transport.h"
#include "base/secret.h"

struct tm_s3_key_set {
    struct tm_secret *id, *secret, *token; /* token NULL: none */
    int64_t ends_us;                       /* of Unix; 0: never */
};

void tm_s3_key_set_fini(struct tm_s3_key_set *k);

/* Put the keys into *out; after a failure it may hold some of them. TM_ERETRY: no answer, in three attempts. */
int tm_s3_role_container(struct tm_s3_transport *t, struct tm_s3_key_set *out, struct tm_error *err) TM_MUST_CHECK;
int tm_s3_role_instance(struct tm_s3_transport *t, struct tm_s3_key_set *out, struct tm_error *err) TM_MUST_CHECK;

#endif
