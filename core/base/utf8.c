#include "base/utf8.h"

size_t tm_utf8_length(const char *at, size_t left)
{
    const unsigned char *s = (const unsigned char *)at;
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 || s[0] > 0xf4 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] > 0x9f, beyond = s[0] == 0xf4 && s[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : n;
}

bool tm_utf8_is_valid(const char *bytes, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = tm_utf8_length(bytes + i, len - i);
        if (!n)
            return false;
    }
    return true;
}
