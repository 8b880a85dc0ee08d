/* MD5 of many byte strings side by side; nothing here knows of Python. */

#ifndef GOBBLERD_MD5_H
#define GOBBLERD_MD5_H

#include <stddef.h>
#include <stdint.h>

enum { BLOCK = 64, LANES = 16 }; /* bytes; streams that go side by side */

/* A stream between two updates; `lanes.py` holds an array of these in a bytearray. */
typedef struct {
    uint32_t state[4];
    uint64_t length; /* bytes so far */
    uint8_t tail[BLOCK]; /* the last `length % BLOCK` of them */
} stream;

/* Whole blocks to be added to a state. */
typedef struct {
    uint32_t *state;
    const uint8_t *data;
    size_t blocks;
} work;

/* Bytes that are to be added to a stream. */
typedef struct {
    const uint8_t *bytes;
    size_t length;
} piece;

/* Begin a stream. */
void start_stream(stream *s);

/* Add a piece to each of many streams; `todo` has room for `count`. */
void update_streams(stream *streams, const piece *pieces, size_t count, work *todo);

/* End many streams; their `state` is then the digest. `padding` has room for two blocks of each. */
void finish_streams(stream *streams, size_t count, work *todo, uint8_t *padding);

#endif
