#include "floors.h"

#include <absl/container/flat_hash_set.h>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace
{

struct Hash {
    size_t operator()(const tm_fp &fp) const
    {
        return fp.lo;
    } /* keys are hashes already */
};

struct Equal {
    bool operator()(const tm_fp &a, const tm_fp &b) const
    {
        return a.lo == b.lo && a.hi == b.hi;
    }
};

/* Counts what the set holds, the old table and the new one while it grows. */
template <typename T> struct Counting {
    using value_type = T;
    size_t *bytes, *peak;

    Counting(size_t *b, size_t *p) : bytes(b), peak(p)
    {
    }
    template <typename U> Counting(const Counting<U> &other) : bytes(other.bytes), peak(other.peak)
    {
    }

    T *allocate(size_t n)
    {
        *bytes += n * sizeof(T);
        *peak = *bytes > *peak ? *bytes : *peak;
        void *p = std::malloc(n * sizeof(T));
        if (!p)
            throw std::bad_alloc();
        return static_cast<T *>(p);
    }
    void deallocate(T *p, size_t n)
    {
        *bytes -= n * sizeof(T);
        std::free(p);
    }
    template <typename U> bool operator==(const Counting<U> &other) const
    {
        return bytes == other.bytes;
    }
    template <typename U> bool operator!=(const Counting<U> &other) const
    {
        return bytes != other.bytes;
    }
};

} // namespace

struct floor_set {
    size_t bytes = 0, peak = 0;
    absl::flat_hash_set<tm_fp, Hash, Equal, Counting<tm_fp>> set{0, Hash(), Equal(), Counting<tm_fp>(&bytes, &peak)};
};

floor_set *floor_absl_create(void)
{
    return new floor_set;
}

void floor_absl_destroy(floor_set *set)
{
    delete set;
}

bool floor_absl_add(floor_set *set, tm_fp fp)
{
    return set->set.insert(fp).second;
}

void floor_absl_prefetch(const floor_set *set, tm_fp fp)
{
    set->set.prefetch(fp);
}

size_t floor_absl_bytes(floor_set *set)
{
    size_t peak = set->peak;
    set->peak = set->bytes;
    return peak;
}
