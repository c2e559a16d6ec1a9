#include "record/shape.h"

#include "base/unset.h"

#include <stdlib.h>

#if defined(__x86_64__) && !defined(TM_PORTABLE)
#include <immintrin.h>
#define TARGET_512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,bmi,bmi2,popcnt")))
#define HAVE_512
#endif

#define PIECES_MAX 64
#define MARKS_MAX 16
#define TAIL_BYTES_MAX 16
#define LITERAL_BYTES_MAX 96

/* A place in a frame: so many bytes behind a quote; the quote behind the last one is the end of the frame. */
struct spot {
    uint16_t quote;
    int16_t delta;
};

enum follows {
    NOTHING, /* the next piece */
    STRING,
    SCALAR, /* a number, true, false or null */
};

/* Literal text, and what follows it up to the next piece. */
struct piece {
    struct tm_piece_text literal;
    struct spot at;
    uint16_t node; /* of the value that follows */
    uint8_t len, follows;
};

/* A value that is known by where it stands: an object on the way, the tag. */
struct mark {
    struct spot begin, end;
    uint16_t node;
    uint8_t kind;
};

struct tm_shape {
    unsigned quotes, piece_count, mark_count;
    uint8_t tail[TAIL_BYTES_MAX], tail_mask[TAIL_BYTES_MAX]; /* what follows the last value */
    struct piece pieces[PIECES_MAX + 1];                     /* the last one's place is the tail's */
    struct mark marks[MARKS_MAX];
};

int tm_shape_create(struct tm_shape **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? TM_OK : TM_ENOMEM;
}

void tm_shape_destroy(struct tm_shape *shape)
{
    free(shape);
}

/* The text without the white space behind it. */
static inline size_t trimmed(const struct tm_scanner *s)
{
    const char *end = s->end;
    while (end > s->begin && (end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\r' || end[-1] == '\t'))
        end--;
    return (size_t)(end - s->begin);
}

/* ---- learning ---- */

struct lesson {
    struct tm_shape *shape;
    const struct tm_tree *tree;
    struct tm_scanner s; /* of the trimmed frame */
    uint16_t tag;
    const char *from; /* the literal text that no piece holds yet begins here */
    const char *last; /* piece that was added */
    unsigned quotes;  /* before `from` */
};

/* A place in the literal text at hand, or at its end. */
static struct spot spot_of(const struct lesson *l, const char *at)
{
    const char *quote = memchr(l->from, '"', (size_t)(l->s.end - l->from));
    const char *base = quote ? quote : l->s.end;
    return (struct spot){.quote = (uint16_t)l->quotes, .delta = (int16_t)(at - base)};
}

static void cover(uint8_t *text, uint8_t *mask, const char *from, size_t len, size_t size)
{
    memset(mask, 0, size);
    memset(mask, 0xff, len);
    memset(text, 0, size);
    memcpy(text, from, len);
}

/* The literal text up to `upto` becomes pieces; a value of `node` follows. */
static bool add_pieces(struct lesson *l, const char *upto, enum follows follows, uint16_t node)
{
    struct tm_shape *shape = l->shape;
    if (upto - l->from > LITERAL_BYTES_MAX || upto - l->s.begin > TM_SHAPE_FRAME_BYTES_MAX)
        return false;
    for (const char *p = l->from; p < upto; p += TM_PIECE_BYTES) {
        if (shape->piece_count == PIECES_MAX)
            return false;
        struct piece *piece = &shape->pieces[shape->piece_count++];
        l->last = p;
        bool last = upto - p <= TM_PIECE_BYTES;
        piece->at = spot_of(l, p);
        piece->len = (uint8_t)(last ? upto - p : TM_PIECE_BYTES);
        piece->follows = (uint8_t)(last ? follows : NOTHING);
        piece->node = node;
        cover(piece->literal.text, piece->literal.mask, p, piece->len, TM_PIECE_BYTES);
        piece->literal.bits = (uint32_t)((UINT64_C(1) << piece->len) - 1);
        if (p > l->s.begin && piece->at.delta < -(int)piece->at.quote)
            return false; /* of another frame it might stand before the text */
    }
    for (; l->from < upto; l->from++)
        l->quotes += *l->from == '"';
    return true;
}

static bool add_mark(struct lesson *l, uint16_t node, enum tm_value_kind kind, struct mark **out)
{
    if (l->shape->mark_count == MARKS_MAX)
        return false;
    *out = &l->shape->marks[l->shape->mark_count++];
    (*out)->node = node;
    (*out)->kind = (uint8_t)kind;
    return true;
}

static bool is_noted(const struct tm_shape *shape, uint16_t node)
{
    bool noted = false;
    for (unsigned i = 0; i < shape->piece_count; i++)
        noted |= shape->pieces[i].follows != NOTHING && shape->pieces[i].node == node;
    for (unsigned i = 0; i < shape->mark_count; i++)
        noted |= shape->marks[i].node == node;
    return noted;
}

static const char *learn_object(struct lesson *l, const char *p, uint16_t node);

/* The tag stays what it is: literal text. */
static const char *learn_tag(struct lesson *l, const char *p)
{
    struct tm_value v;
    struct mark *m;
    if (!add_mark(l, l->tag, TM_VALUE_STRING, &m))
        return NULL;
    const char *after = tm_scan_string(&l->s, p, &v);
    m->begin = spot_of(l, p + 1);
    m->end = spot_of(l, after - 1);
    return v.escaped ? NULL : after;
}

static const char *learn_value(struct lesson *l, const char *p, uint16_t node)
{
    struct tm_value v;
    bool is_string = *p == '"';
    if (node == l->tag)
        return is_string ? learn_tag(l, p) : NULL;
    if (*p == '{')
        return node < l->tree->node_count && l->tree->nodes[node].object != TM_NODE_NONE ? learn_object(l, p, node)
                                                                                         : NULL;
    if (*p == '[' || !add_pieces(l, p + is_string, is_string ? STRING : SCALAR, node))
        return NULL;
    p = tm_scan_value(&l->s, p, 0, &v);
    if (!p || v.escaped)
        return NULL;
    l->from = p - is_string;
    return p;
}

/* From a name to behind its value. */
static const char *learn_member(struct lesson *l, const char *p, uint16_t object)
{
    struct tm_value name;
    if (*p != '"')
        return NULL;
    p = tm_scan_string(&l->s, p, &name);
    if (!p || name.escaped || *p != ':')
        return NULL;
    uint16_t node = tm_tree_child(l->tree, object, name.at, name.len);
    if (node != TM_NODE_NONE && is_noted(l->shape, node))
        return NULL;
    return learn_value(l, p + 1, node == TM_NODE_NONE ? l->tree->node_count : node);
}

static const char *learn_object(struct lesson *l, const char *p, uint16_t node)
{
    struct mark *m;
    if (!add_mark(l, node, TM_VALUE_OBJECT, &m))
        return NULL;
    m->begin = spot_of(l, p);
    do
        p = learn_member(l, p + 1, node);
    while (p && *p == ',');
    if (!p || *p != '}')
        return NULL;
    m->end = spot_of(l, p + 1);
    return p + 1;
}

/* What follows the last value is found from the end. */
static bool learn_tail(struct lesson *l)
{
    struct tm_shape *shape = l->shape;
    size_t len = (size_t)(l->s.end - l->from);
    if (!len || len > TAIL_BYTES_MAX || !l->last || l->last > l->s.wider_end)
        return false;
    cover(shape->tail, shape->tail_mask, l->from, len, TAIL_BYTES_MAX);
    for (const char *p = l->from; p < l->s.end; p++)
        l->quotes += *p == '"';
    shape->quotes = l->quotes;
    shape->pieces[shape->piece_count].at = (struct spot){.quote = (uint16_t)l->quotes, .delta = (int16_t) - (int)len};
    return len <= l->quotes;
}

bool tm_shape_learn(struct tm_shape *shape, const struct tm_tree *tree, uint16_t tag, const struct tm_scanner *frame)
{
    struct lesson l = {.shape = shape, .tree = tree, .tag = tag, .from = frame->begin};
    size_t len = trimmed(frame);
    shape->piece_count = shape->mark_count = 0;
    if (!len || len > TM_SHAPE_FRAME_BYTES_MAX || *frame->begin != '{')
        return false;
    tm_scanner_init(&l.s, frame->begin, len, true);
    const char *end = learn_object(&l, frame->begin, 0);
    if (end == l.s.end && learn_tail(&l))
        return true;
    shape->piece_count = 0;
    return false;
}

/* ---- the quotes of a frame ---- */

/* The quotes of a frame, and what a last block may write beyond them. */
#define QUOTES_ROOM (TM_SHAPE_FRAME_BYTES_MAX + 64)

/* Write where the quotes are, and the end of the text behind the last. Returns how many; 0: bytes that need a look. */
typedef unsigned find_quotes(const char *text, size_t len, uint16_t *quotes);

#ifdef HAVE_512
TARGET_512 static unsigned find_quotes_512(const char *text, size_t len, uint16_t *quotes)
{
    static const uint8_t bytes[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                      16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                      32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                      48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i places = _mm512_loadu_si512(bytes);
    const __m512i quote = _mm512_set1_epi8('"'), backslash = _mm512_set1_epi8('\\'), space = _mm512_set1_epi8(' ');
    uint64_t odd = 0;
    unsigned count = 0;
    for (size_t at = 0; at < len; at += 64) {
        uint64_t inside = _bzhi_u64(UINT64_MAX, len - at < 64 ? (unsigned)(len - at) : 64);
        __m512i x = _mm512_maskz_loadu_epi8(inside, text + at);
        uint64_t bits = _mm512_cmpeq_epi8_mask(x, quote);
        odd |= _mm512_cmpeq_epi8_mask(x, backslash) | _mm512_mask_cmplt_epi8_mask(inside, x, space);
        __m512i packed = _mm512_maskz_compress_epi8(bits, places), base = _mm512_set1_epi16((short)at);
        __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(packed));
        _mm512_storeu_si512(quotes + count, _mm512_add_epi16(low, base));
        unsigned here = (unsigned)_mm_popcnt_u64(bits);
        if (__builtin_expect(here > 32, 0)) {
            __m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(packed, 1));
            _mm512_storeu_si512(quotes + count + 32, _mm512_add_epi16(high, base));
        }
        count += here;
    }
    quotes[count] = (uint16_t)len;
    return odd ? 0 : count;
}
#else
static unsigned find_quotes_any(const char *text, size_t len, uint16_t *quotes)
{
    unsigned count = 0;
    for (size_t at = 0; at < len; at++) {
        unsigned char c = (unsigned char)text[at];
        if (c == '\\' || c < 0x20 || c >= 0x80)
            return 0;
        quotes[count] = (uint16_t)at;
        count += c == '"';
    }
    quotes[count] = (uint16_t)len;
    return count;
}
#endif

/* ---- comparing ---- */

typedef uint8_t bytes32 __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t words4 __attribute__((vector_size(32)));
typedef uint64_t words2 __attribute__((vector_size(16)));

static inline const char *place(const char *text, const uint16_t *quotes, struct spot at)
{
    return text + quotes[at.quote] + at.delta;
}

static inline void note(struct tm_value *v, const char *at, const char *end, enum tm_value_kind kind, uint16_t walk)
{
    v->at = at;
    v->len = (uint32_t)(end - at);
    v->kind = (uint8_t)kind;
    v->escaped = false;
    v->walk = walk;
}

/* Not a plain integer: any other scalar will do, if it ends where the next piece begins. */
static __attribute__((noinline)) bool note_scalar(struct tm_scanner *s, const char *at, const char *end,
                                                  struct tm_value *v, uint16_t walk)
{
    v->walk = walk;
    return *at != '{' && *at != '[' && *at != '"' && tm_scan_value(s, at, 0, v) == end;
}

/* A plain integer in one step. */
static inline bool note_number(struct tm_scanner *s, const char *at, const char *end, struct tm_value *v, uint16_t walk)
{
    if (__builtin_expect(at > s->wide_end, 0))
        return false;
    ptrdiff_t digits = __builtin_ctz(tm_scan_nondigits(at) | 1u << 16);
    if (__builtin_expect(digits != end - at || !digits || (*at == '0' && digits > 1), 0))
        return note_scalar(s, at, end, v, walk);
    note(v, at, end, TM_VALUE_NUMBER, walk);
    return true;
}

static inline __attribute__((always_inline)) bool fits(const struct tm_shape *shape, struct tm_scanner *s,
                                                       struct tm_value *values, uint16_t walk, find_quotes *find)
{
    uint16_t quotes[QUOTES_ROOM] TM_UNSET;
    const char *text = s->begin, *at = text;
    size_t len = trimmed(s);
    bytes32 wrong = {0};
    if (len > TM_SHAPE_FRAME_BYTES_MAX || find(text, len, quotes) != shape->quotes)
        return false;
    for (const struct piece *p = shape->pieces, *last = p + shape->piece_count; p < last; p++) {
        const char *value = at + p->len, *next = place(text, quotes, p[1].at);
        if (__builtin_expect(at > s->wider_end, 0))
            return false;
        wrong |= (*(const bytes32 *)(const void *)at ^ *(const bytes32 *)p->literal.text) &
                 *(const bytes32 *)p->literal.mask;
        if (p->follows == STRING)
            note(&values[p->node], value, next, TM_VALUE_STRING, walk);
        else if (p->follows == SCALAR && __builtin_expect(!note_number(s, value, next, &values[p->node], walk), 0))
            return false;
        at = next;
    }
    bytes16 end =
        (*(const bytes16 *)(const void *)at ^ *(const bytes16 *)shape->tail) & *(const bytes16 *)shape->tail_mask;
    words4 w = (words4)wrong;
    words2 e = (words2)end;
    if (w[0] | w[1] | w[2] | w[3] | e[0] | e[1])
        return false;
    for (const struct mark *m = shape->marks, *last = m + shape->mark_count; m < last; m++)
        note(&values[m->node], place(text, quotes, m->begin), place(text, quotes, m->end), m->kind, walk);
    return true;
}

#ifdef HAVE_512
TARGET_512 bool tm_shape_fits(const struct tm_shape *shape, struct tm_scanner *frame, struct tm_value *values,
                              uint16_t walk)
{
    return fits(shape, frame, values, walk, find_quotes_512);
}

bool tm_shape_pays(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2");
}
#else
bool tm_shape_fits(const struct tm_shape *shape, struct tm_scanner *frame, struct tm_value *values, uint16_t walk)
{
    return fits(shape, frame, values, walk, find_quotes_any);
}

bool tm_shape_pays(void)
{
#ifdef TM_PORTABLE /* not that it does: it is tested */
    return true;
#else
    return false;
#endif
}
#endif

const struct tm_piece_text *tm_shape_start(const struct tm_shape *shape)
{
    return shape->piece_count ? &shape->pieces[0].literal : NULL;
}
