/* XXH3 with 128 bits; nothing here knows of Python. */

#ifndef GOBBLERD_XXH3_H
#define GOBBLERD_XXH3_H

#include <stddef.h>
#include <stdint.h>

enum {
    STRIPE = 64,             /* bytes that are taken in at once */
    XXH_BLOCK = 16 * STRIPE, /* and with one secret */
    SHORT = 240,             /* bytes up to which all is otherwise */
};

typedef struct {
    uint64_t low, high;
} u128;

/* A text of more than `SHORT` bytes under way: whole blocks, and then its end. */
typedef struct {
    uint64_t sums[8];
    uint8_t last[STRIPE]; /* bytes before what comes next */
} xxh3;

/* Return the checksum of a text. */
u128 xxh3_of(const uint8_t *data, size_t size);

/* Begin a long text. */
void xxh3_start(xxh3 *x);

/* Add so many blocks, at least one; something has to follow. */
void xxh3_add(xxh3 *x, const uint8_t *data, size_t blocks);

/* Add the end, from one byte to a block, and return the checksum; `size` is that of the whole text. */
u128 xxh3_end(xxh3 *x, const uint8_t *data, size_t rest, uint64_t size);

#endif
