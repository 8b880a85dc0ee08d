/* XXH3 with 128 bits and no seed, as xxHash's specification has it.
 *
 * Here as well as in the library, since what is read and hashed in one go is in the cache but once, and an object
 * for each file, asked for each piece, costs more than the hashing. native.py tries it against the library.
 */

#include "xxh3.h"

#include <string.h>

#include "variants.h"

enum {
    SECRET = 192, /* bytes, */
    SECRET_LEAST = 136,
    STRIPES = XXH_BLOCK / STRIPE, /* and how many stripes one goes with */
    AHEAD = 384,                  /* bytes that are fetched into the cache next to the core */
};

typedef uint64_t vec64 __attribute__((vector_size(STRIPE)));
typedef uint64_t unaligned_vec64 __attribute__((vector_size(STRIPE), aligned(1), may_alias));

static const uint64_t PRIME32_1 = 0x9E3779B1, PRIME32_2 = 0x85EBCA77, PRIME32_3 = 0xC2B2AE3D;
static const uint64_t PRIME64_1 = 0x9E3779B185EBCA87, PRIME64_2 = 0xC2B2AE3D27D4EB4F, PRIME64_3 = 0x165667B19E3779F9;
static const uint64_t PRIME64_4 = 0x85EBCA77C2B2AE63, PRIME64_5 = 0x27D4EB2F165667C5;

static const uint8_t secret[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t word64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static uint32_t word32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static u128 product(uint64_t a, uint64_t b)
{
    uint64_t ll = (a & 0xffffffff) * (b & 0xffffffff), hl = (a >> 32) * (b & 0xffffffff);
    uint64_t lh = (a & 0xffffffff) * (b >> 32), hh = (a >> 32) * (b >> 32);
    uint64_t middle = (ll >> 32) + (hl & 0xffffffff) + lh;
    return (u128){(middle << 32) | (ll & 0xffffffff), (hl >> 32) + (middle >> 32) + hh};
}

static uint64_t folded(uint64_t a, uint64_t b)
{
    u128 whole = product(a, b);
    return whole.low ^ whole.high;
}

static uint64_t avalanche(uint64_t h)
{
    h = (h ^ (h >> 37)) * 0x165667919E3779F9;
    return h ^ (h >> 32);
}

static uint64_t avalanche64(uint64_t h) /* XXH64's */
{
    h = (h ^ (h >> 33)) * PRIME64_2;
    h = (h ^ (h >> 29)) * PRIME64_3;
    return h ^ (h >> 32);
}

/* ---- up to 240 bytes ---------------------------------------------------------------------------------- */

static u128 of_at_most_3(const uint8_t *data, size_t size)
{
    uint32_t low = (uint32_t)data[0] << 16 | (uint32_t)data[size >> 1] << 24 | data[size - 1] | (uint32_t)size << 8;
    uint32_t swapped = __builtin_bswap32(low), high = swapped << 13 | swapped >> 19;
    return (u128){avalanche64(low ^ (uint64_t)(word32(secret) ^ word32(secret + 4))),
                  avalanche64(high ^ (uint64_t)(word32(secret + 8) ^ word32(secret + 12)))};
}

static u128 of_at_most_8(const uint8_t *data, size_t size)
{
    uint64_t text = word32(data) + ((uint64_t)word32(data + size - 4) << 32);
    u128 h = product(text ^ word64(secret + 16) ^ word64(secret + 24), PRIME64_1 + (size << 2));
    h.high += h.low << 1;
    h.low ^= h.high >> 3;
    h.low = (h.low ^ (h.low >> 35)) * 0x9FB21C651E98DF25;
    return (u128){h.low ^ (h.low >> 28), avalanche(h.high)};
}

static u128 of_at_most_16(const uint8_t *data, size_t size)
{
    uint64_t low = word64(data), high = word64(data + size - 8);
    u128 m = product(low ^ high ^ word64(secret + 32) ^ word64(secret + 40), PRIME64_1);
    m.low += (uint64_t)(size - 1) << 54;
    high ^= word64(secret + 48) ^ word64(secret + 56);
    m.high += high + (high & 0xffffffff) * (PRIME32_2 - 1);
    m.low ^= __builtin_bswap64(m.high);
    u128 h = product(m.low, PRIME64_2);
    h.high += m.high * PRIME64_2;
    return (u128){avalanche(h.low), avalanche(h.high)};
}

static uint64_t mixed_16(const uint8_t *data, const uint8_t *key)
{
    return folded(word64(data) ^ word64(key), word64(data + 8) ^ word64(key + 8));
}

static void mix_32(u128 *sum, const uint8_t *one, const uint8_t *other, const uint8_t *key)
{
    sum->low = (sum->low + mixed_16(one, key)) ^ (word64(other) + word64(other + 8));
    sum->high = (sum->high + mixed_16(other, key + 16)) ^ (word64(one) + word64(one + 8));
}

static u128 of_at_most_240(const uint8_t *data, size_t size)
{
    u128 sum = {size * PRIME64_1, 0};
    const uint8_t *end = data + size;
    if (size <= 128) {
        for (size_t at = (size - 1) / 32 * 16 + 16; at > 0; at -= 16) /* from the middle outwards */
            mix_32(&sum, data + at - 16, end - at, secret + 2 * (at - 16));
    } else {
        for (size_t at = 0; at < 128; at += 32)
            mix_32(&sum, data + at, data + at + 16, secret + at);
        sum = (u128){avalanche(sum.low), avalanche(sum.high)};
        for (size_t at = 128; at + 32 <= size; at += 32)
            mix_32(&sum, data + at, data + at + 16, secret + 3 + at - 128);
        mix_32(&sum, end - 16, end - 32, secret + SECRET_LEAST - 17 - 16);
    }
    uint64_t high = sum.low * PRIME64_1 + sum.high * PRIME64_4 + size * PRIME64_2;
    return (u128){avalanche(sum.low + sum.high), 0 - avalanche(high)};
}

static u128 of_short(const uint8_t *data, size_t size)
{
    if (size > 16)
        return of_at_most_240(data, size);
    if (size > 8)
        return of_at_most_16(data, size);
    if (size > 3)
        return of_at_most_8(data, size);
    if (size > 0)
        return of_at_most_3(data, size);
    return (u128){avalanche64(word64(secret + 64) ^ word64(secret + 72)),
                  avalanche64(word64(secret + 80) ^ word64(secret + 88))};
}

/* ---- longer ones -------------------------------------------------------------------------------------- */

#if !defined(__clang__) && __GNUC__ < 12
#define SWAP_PAIRS(a) __builtin_shuffle(a, (vec64){1, 0, 3, 2, 5, 4, 7, 6})
#else
#define SWAP_PAIRS(a) __builtin_shufflevector(a, a, 1, 0, 3, 2, 5, 4, 7, 6)
#endif

INLINE void add_stripe(vec64 *sums, const uint8_t *data, const uint8_t *key)
{
    __builtin_prefetch(data + AHEAD);
    vec64 text = *(const unaligned_vec64 *)data, keyed = text ^ *(const unaligned_vec64 *)key;
    *sums += SWAP_PAIRS(text) + (keyed & 0xffffffff) * (keyed >> 32);
}

/* Add whole blocks and then some stripes of one more. */
VARIANTS static void add_blocks(uint64_t sums[8], const uint8_t *data, size_t blocks, size_t stripes)
{
    vec64 all = *(const unaligned_vec64 *)sums;
    for (; blocks; blocks--, data += XXH_BLOCK) {
#pragma GCC unroll 16
        for (size_t at = 0; at < STRIPES; at++)
            add_stripe(&all, data + STRIPE * at, secret + 8 * at);
        all = (all ^ (all >> 47) ^ *(const unaligned_vec64 *)(secret + SECRET - STRIPE)) * PRIME32_1;
    }
    for (size_t at = 0; at < stripes; at++)
        add_stripe(&all, data + STRIPE * at, secret + 8 * at);
    *(unaligned_vec64 *)sums = all;
}

VARIANTS static void add_last_stripe(uint64_t sums[8], const uint8_t *data)
{
    vec64 all = *(const unaligned_vec64 *)sums;
    add_stripe(&all, data, secret + SECRET - STRIPE - 7);
    *(unaligned_vec64 *)sums = all;
}

static uint64_t merged(const uint64_t sums[8], const uint8_t *key, uint64_t start)
{
    for (int at = 0; at < 8; at += 2)
        start += folded(sums[at] ^ word64(key + 8 * at), sums[at + 1] ^ word64(key + 8 * at + 8));
    return avalanche(start);
}

void xxh3_start(xxh3 *x)
{
    memcpy(x->sums,
           (uint64_t[]){PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1},
           sizeof x->sums);
}

void xxh3_add(xxh3 *x, const uint8_t *data, size_t blocks)
{
    add_blocks(x->sums, data, blocks, 0);
    memcpy(x->last, data + XXH_BLOCK * blocks - STRIPE, STRIPE);
}

u128 xxh3_end(xxh3 *x, const uint8_t *data, size_t rest, uint64_t size)
{
    uint8_t last[STRIPE];
    add_blocks(x->sums, data, 0, (rest - 1) / STRIPE);
    if (rest >= STRIPE)
        memcpy(last, data + rest - STRIPE, STRIPE);
    else {
        memcpy(last, x->last + rest, STRIPE - rest);
        memcpy(last + STRIPE - rest, data, rest);
    }
    add_last_stripe(x->sums, last);
    return (u128){merged(x->sums, secret + 11, size * PRIME64_1),
                  merged(x->sums, secret + SECRET - STRIPE - 11, ~(size * PRIME64_2))};
}

u128 xxh3_of(const uint8_t *data, size_t size)
{
    if (size <= SHORT)
        return of_short(data, size);
    xxh3 x;
    size_t blocks = (size - 1) / XXH_BLOCK;
    xxh3_start(&x);
    if (blocks)
        xxh3_add(&x, data, blocks);
    return xxh3_end(&x, data + XXH_BLOCK * blocks, size - XXH_BLOCK * blocks, size);
}
