/*
 * Shapes: what the frames of one kind have in common, so that the next one is not walked but compared.
 *
 *     {"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"A","price_dollars":"0.4700",...}}
 *     -------------------------------- ~ ------- ~ ------------------------- ~ ------------------- ~~~~~~    -- tail
 *
 * An exchange fills the same form again and again: the literal text between the values stays, byte for byte, the values
 * change. A shape is that text, cut into *pieces* of at most 32 bytes, and what kind of value follows which. A frame has
 * the shape if it has as many quotes, every piece stands where the quotes say, and each value between them is of its
 * kind: then it is valid JSON, and where its values are is known without having looked for one after the other. The
 * pieces do not wait for each other, and nothing branches on what a value holds.
 *
 * A shape is only ever an answer for speed: a frame that has not the shape, or has bytes that need a look (escapes,
 * anything but ASCII, white space inside), is walked. Frames with arrays, or longer than TM_SHAPE_FRAME_BYTES_MAX, have
 * none.
 *
 * A shape belongs to a walker, hence to one thread.
 */
#ifndef TM_RECORD_SHAPE_H
#define TM_RECORD_SHAPE_H

#include "record/compiled.h"
#include "record/scanner.h"

#define TM_SHAPE_FRAME_BYTES_MAX 1024

struct tm_shape;

/* Is comparing faster than walking on this processor? It is where 64 bytes are looked at in one step (AVX-512 VBMI2):
 * finding the quotes is half of it. Where it does not pay, nobody need learn shapes. */
bool tm_shape_pays(void);

/* Literal text; behind it, both are filled with zeros. `bits` says of which bytes it is. */
#define TM_PIECE_BYTES 32
struct tm_piece_text {
    uint8_t text[TM_PIECE_BYTES], mask[TM_PIECE_BYTES];
    uint32_t bits;
};

int tm_shape_create(struct tm_shape **out) TM_MUST_CHECK;
void tm_shape_destroy(struct tm_shape *shape);

/*
 * Take the shape of a frame that was walked and is valid. `tag` is the node whose value is part of the shape, because it
 * says of which kind the frame is; values of `nobody` are checked, noted there and never read. False: the frame has none.
 */
bool tm_shape_learn(struct tm_shape *shape, const struct tm_tree *tree, uint16_t tag, const struct tm_scanner *frame);

/* How frames of the shape begin. Their tag mostly is part of that, so of several shapes at most one need be tried. The
 * shape's; NULL if it has learned none. */
const struct tm_piece_text *tm_shape_start(const struct tm_shape *shape);

/* Does the text, of which TM_PIECE_BYTES can be read, begin so? */
static inline bool tm_piece_matches(const struct tm_piece_text *piece, const char *text)
{
    return !(~tm_scan_equal(text, piece->text) & piece->bits);
}

/* Has the frame the shape? Then its values are noted by node, as of walk number `walk`. Else what was noted is void. */
bool tm_shape_fits(const struct tm_shape *shape, struct tm_scanner *frame, struct tm_value *values, uint16_t walk);

#endif
