/* MD5 of many byte strings side by side.
 *
 * One MD5 stream is a chain of dependent steps: a core runs it at some 0.7 GB/s whatever the library. Sixteen
 * independent streams in the sixteen 32-bit elements of one 64-byte vector take hardly longer than one. The
 * vectors are GCC's and Clang's generic ones: the compiler splits them to the width of the target (AVX-512,
 * AVX2, SSE2, NEON), and on x86-64 with glibc the right variant is chosen when the module is loaded.
 */

#include "md5.h"
#include "variants.h"

#include <stdlib.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "MD5 in lanes is written for little-endian machines"
#endif

typedef uint32_t vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t unaligned_vec __attribute__((vector_size(4 * LANES), aligned(1), may_alias));

/* ---- sixteen lanes ------------------------------------------------------------------------------------ */

#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#if !defined(__clang__) && __GNUC__ < 12
#undef PICK
#define PICK(a, b, ...) __builtin_shuffle(a, b, (vec){__VA_ARGS__})
#endif

/* Within each quarter of a vector, as the unpack instructions have it. */
#define LOW32(a, b) PICK(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH32(a, b) PICK(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW64(a, b) PICK(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH64(a, b) PICK(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
/* The even and the odd quarters of two vectors. */
#define EVEN(a, b) PICK(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define ODD(a, b) PICK(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)

/* Turn a block of each lane (rows) into the lanes' n-th words (columns). */
INLINE void transpose(vec word[16], const uint8_t *const at[LANES])
{
    vec part[4][4];
    for (int group = 0; group < 4; group++) {
        vec r0 = *(const unaligned_vec *)at[4 * group], r1 = *(const unaligned_vec *)at[4 * group + 1];
        vec r2 = *(const unaligned_vec *)at[4 * group + 2], r3 = *(const unaligned_vec *)at[4 * group + 3];
        vec a = LOW32(r0, r1), b = HIGH32(r0, r1), c = LOW32(r2, r3), d = HIGH32(r2, r3);
        part[group][0] = LOW64(a, c);
        part[group][1] = HIGH64(a, c);
        part[group][2] = LOW64(b, d);
        part[group][3] = HIGH64(b, d);
    }
    for (int k = 0; k < 4; k++) {
        vec even01 = EVEN(part[0][k], part[1][k]), odd01 = ODD(part[0][k], part[1][k]);
        vec even23 = EVEN(part[2][k], part[3][k]), odd23 = ODD(part[2][k], part[3][k]);
        word[k] = EVEN(even01, even23);
        word[4 + k] = EVEN(odd01, odd23);
        word[8 + k] = ODD(even01, even23);
        word[12 + k] = ODD(odd01, odd23);
    }
}

/* RFC 1321; F and G in the form with the shortest chain through the newest value, b. */
#define F(b, c, d) (d ^ (b & (c ^ d)))
#define G(b, c, d) ((d & b) + (~d & c))
#define H(b, c, d) (b ^ (c ^ d))
#define I(b, c, d) (c ^ (b | ~d))
#define STEP(f, a, b, c, d, w, t, s)      \
    a += word[w] + (uint32_t)(t);         \
    a += f(b, c, d);                      \
    a = (a << (s)) | (a >> (32 - (s)));   \
    a += b;
#define FOUR(f, w0, w1, w2, w3, t0, t1, t2, t3, s0, s1, s2, s3) \
    STEP(f, a, b, c, d, w0, t0, s0)                             \
    STEP(f, d, a, b, c, w1, t1, s1)                             \
    STEP(f, c, d, a, b, w2, t2, s2)                             \
    STEP(f, b, c, d, a, w3, t3, s3)

/* Add `blocks` blocks of every lane to the lanes' states; a lane with `stride` 0 repeats its block. */
VARIANTS static void blocks_of_lanes(vec state[4], const uint8_t *at[LANES], const size_t stride[LANES], size_t blocks)
{
    vec a = state[0], b = state[1], c = state[2], d = state[3];
    for (; blocks; blocks--) {
        vec word[16], a0 = a, b0 = b, c0 = c, d0 = d;
        transpose(word, at);
        for (int lane = 0; lane < LANES; lane++)
            at[lane] += stride[lane];
        FOUR(F, 0, 1, 2, 3, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 7, 12, 17, 22)
        FOUR(F, 4, 5, 6, 7, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 7, 12, 17, 22)
        FOUR(F, 8, 9, 10, 11, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 7, 12, 17, 22)
        FOUR(F, 12, 13, 14, 15, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 7, 12, 17, 22)
        FOUR(G, 1, 6, 11, 0, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 5, 9, 14, 20)
        FOUR(G, 5, 10, 15, 4, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 5, 9, 14, 20)
        FOUR(G, 9, 14, 3, 8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 5, 9, 14, 20)
        FOUR(G, 13, 2, 7, 12, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 5, 9, 14, 20)
        FOUR(H, 5, 8, 11, 14, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 4, 11, 16, 23)
        FOUR(H, 1, 4, 7, 10, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 4, 11, 16, 23)
        FOUR(H, 13, 0, 3, 6, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 4, 11, 16, 23)
        FOUR(H, 9, 12, 15, 2, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 4, 11, 16, 23)
        FOUR(I, 0, 7, 14, 5, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 6, 10, 15, 21)
        FOUR(I, 12, 3, 10, 1, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1, 6, 10, 15, 21)
        FOUR(I, 8, 15, 6, 13, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 6, 10, 15, 21)
        FOUR(I, 4, 11, 2, 9, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391, 6, 10, 15, 21)
        a += a0;
        b += b0;
        c += c0;
        d += d0;
    }
    state[0] = a;
    state[1] = b;
    state[2] = c;
    state[3] = d;
}

static int longest_first(const void *left, const void *right)
{
    size_t a = ((const work *)left)->blocks, b = ((const work *)right)->blocks;
    return (a < b) - (a > b);
}

/* Do all the work, sixteen at a time: a lane whose work ends takes up the next. */
static void run(work *todo, size_t count)
{
    static const uint8_t nothing[BLOCK];
    vec state[4] = {{0}, {0}, {0}, {0}};
    const uint8_t *at[LANES];
    size_t stride[LANES], left[LANES], next = 0, active = 0;
    uint32_t *home[LANES];

    qsort(todo, count, sizeof *todo, longest_first);
    for (int lane = 0; lane < LANES; lane++) {
        at[lane] = nothing;
        stride[lane] = left[lane] = 0;
        home[lane] = NULL;
    }
    for (;;) {
        size_t shortest = SIZE_MAX;
        for (int lane = 0; lane < LANES; lane++) {
            if (left[lane] == 0) {
                if (home[lane]) {
                    for (int i = 0; i < 4; i++)
                        home[lane][i] = state[i][lane];
                    home[lane] = NULL;
                    at[lane] = nothing;
                    stride[lane] = 0;
                    active--;
                }
                if (next < count && todo[next].blocks) {
                    home[lane] = todo[next].state;
                    at[lane] = todo[next].data;
                    left[lane] = todo[next].blocks;
                    stride[lane] = BLOCK;
                    for (int i = 0; i < 4; i++)
                        state[i][lane] = home[lane][i];
                    next++;
                    active++;
                }
            }
            if (left[lane] && left[lane] < shortest)
                shortest = left[lane];
        }
        if (!active)
            return;
        blocks_of_lanes(state, at, stride, shortest);
        for (int lane = 0; lane < LANES; lane++)
            if (left[lane])
                left[lane] -= shortest;
    }
}

/* ---- streams ------------------------------------------------------------------------------------------ */

void start_stream(stream *s)
{
    static const uint32_t start[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    memset(s, 0, sizeof *s);
    memcpy(s->state, start, sizeof start);
}

void update_streams(stream *streams, const piece *pieces, size_t count, work *todo)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) { /* first the blocks that earlier bytes began */
        stream *s = streams + i;
        size_t have = s->length % BLOCK, given = pieces[i].length;
        size_t taken = have == 0 ? 0 : given < BLOCK - have ? given : BLOCK - have;
        if (taken)
            memcpy(s->tail + have, pieces[i].bytes, taken);
        if (taken && have + taken == BLOCK)
            todo[used++] = (work){s->state, s->tail, 1};
    }
    run(todo, used);
    used = 0;
    for (size_t i = 0; i < count; i++) {
        stream *s = streams + i;
        size_t have = s->length % BLOCK, given = pieces[i].length;
        size_t taken = have == 0 ? 0 : given < BLOCK - have ? given : BLOCK - have;
        size_t whole = (given - taken) / BLOCK, rest = (given - taken) % BLOCK;
        const uint8_t *data = pieces[i].bytes + taken;
        if (whole)
            todo[used++] = (work){s->state, data, whole};
        if (rest)
            memcpy(s->tail, data + BLOCK * whole, rest);
        s->length += given;
    }
    run(todo, used);
}

void finish_streams(stream *streams, size_t count, work *todo, uint8_t *padding)
{
    for (size_t i = 0; i < count; i++) {
        stream *s = streams + i;
        size_t have = s->length % BLOCK, blocks = have < BLOCK - 8 ? 1 : 2;
        uint64_t bits = s->length * 8;
        uint8_t *end = padding + 2 * BLOCK * i;
        memset(end, 0, 2 * BLOCK);
        memcpy(end, s->tail, have);
        end[have] = 0x80;
        memcpy(end + BLOCK * blocks - 8, &bits, 8);
        todo[i] = (work){s->state, end, blocks};
    }
    run(todo, count);
}
