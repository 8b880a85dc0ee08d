/* Digests as Python has them, and what files that are hashed have in common. */

#ifndef GOBBLERD_DIGESTS_H
#define GOBBLERD_DIGESTS_H

#include "extension.h"
#include "xxh3.h"

#include <time.h>

enum { AWHILE = 20 * 1000 * 1000 }; /* nanoseconds after which the caller is to have its say */

static inline long long nanoseconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return nanoseconds(&time);
}

static inline PyObject *hex_of(const uint8_t bytes[16])
{
    static const char digits[] = "0123456789abcdef";
    char text[32];
    for (int i = 0; i < 16; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    return PyUnicode_FromStringAndSize(text, sizeof text);
}

/* In the order in which it is written: the high half first, and of each half the high byte. */
static inline PyObject *hex_of_u128(u128 h)
{
    uint64_t turned[] = {__builtin_bswap64(h.high), __builtin_bswap64(h.low)};
    return hex_of((const uint8_t *)turned);
}

#endif
