#include "base/hash.h"
#include "base/error.h"

#include <errno.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

void tm_random_bytes(void *out, size_t len)
{
    unsigned char *at = out;
    while (len) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        TM_FATAL_UNLESS(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

double tm_random_unit(void)
{
    uint64_t bits;
    tm_random_bytes(&bits, sizeof bits);
    return (double)(bits >> 11) * 0x1p-53;
}

void tm_hash_key_init(struct tm_hash_key *key)
{
    tm_random_bytes(key->secret, sizeof key->secret);
}

struct tm_fp tm_hash_fp(const struct tm_hash_key *key, const void *bytes, size_t len)
{
    XXH128_hash_t h = XXH3_128bits_withSecret(bytes, len, key->secret, sizeof key->secret);
    return (struct tm_fp){.lo = h.low64, .hi = h.high64};
}

uint64_t tm_hash64(const void *bytes, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, len, seed);
}
