#include "base/nearest.h"

#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t tm_name_distance(const char *a, const char *b)
{
    size_t rows[3][TM_NAME_BYTES_MAX + 1], la = strlen(a), lb = strlen(b);
    if (la > TM_NAME_BYTES_MAX || lb > TM_NAME_BYTES_MAX)
        return TM_NAME_BYTES_MAX;
    for (size_t j = 0; j <= lb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return rows[la % 3][lb];
}

bool tm_name_is_near(const char *name, const char *candidate)
{
    return tm_name_distance(name, candidate) <= (strlen(name) + 1) / 3;
}
