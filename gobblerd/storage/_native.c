/* MD5 of many byte strings side by side, and the system calls for many names in one go.
 *
 * One MD5 stream is a chain of dependent steps: a core runs it at some 0.7 GB/s whatever the library. Sixteen
 * independent streams in the sixteen 32-bit elements of one 64-byte vector take hardly longer than one. The
 * vectors are GCC's and Clang's generic ones: the compiler splits them to the width of the target (AVX-512,
 * AVX2, SSE2, NEON), and on x86-64 with glibc the right variant is chosen when the module is loaded.
 *
 * Everything here works without the GIL, and everything has a twin in Python (lanes.py, batches.py) that is
 * used where this module could not be built; the same tests run against both.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "MD5 in lanes is written for little-endian machines"
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && (defined(__clang__) ? __clang_major__ >= 17 : __GNUC__ >= 12)
#define VARIANTS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VARIANTS
#endif

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, BLOCK = 64 };

typedef uint32_t vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t unaligned_vec __attribute__((vector_size(4 * LANES), aligned(1), may_alias));

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

static const uint32_t START[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

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

/* Add bytes to many streams; `todo` has room for `count`. */
static void update_streams(stream *streams, const Py_buffer *views, size_t count, work *todo)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) { /* first the blocks that earlier bytes began */
        stream *s = streams + i;
        size_t have = s->length % BLOCK, given = (size_t)views[i].len;
        size_t taken = have == 0 ? 0 : given < BLOCK - have ? given : BLOCK - have;
        memcpy(s->tail + have, views[i].buf, taken);
        if (taken && have + taken == BLOCK)
            todo[used++] = (work){s->state, s->tail, 1};
    }
    run(todo, used);
    used = 0;
    for (size_t i = 0; i < count; i++) {
        stream *s = streams + i;
        size_t have = s->length % BLOCK, given = (size_t)views[i].len;
        size_t taken = have == 0 ? 0 : given < BLOCK - have ? given : BLOCK - have;
        size_t whole = (given - taken) / BLOCK, rest = (given - taken) % BLOCK;
        const uint8_t *data = (const uint8_t *)views[i].buf + taken;
        if (whole)
            todo[used++] = (work){s->state, data, whole};
        if (rest)
            memcpy(s->tail, data + BLOCK * whole, rest);
        s->length += given;
    }
    run(todo, used);
}

/* End many streams; their `state` is then the digest. `padding` has room for two blocks of each. */
static void finish_streams(stream *streams, size_t count, work *todo, uint8_t *padding)
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

/* ---- Python: MD5 -------------------------------------------------------------------------------------- */

/* The buffers of a sequence; NULL with an exception. Give back with `release`. */
static Py_buffer *acquire(PyObject *sequence, Py_ssize_t *count)
{
    PyObject *items = PySequence_List(sequence);
    if (!items)
        return NULL;
    *count = PyList_Size(items);
    Py_buffer *views = PyMem_Calloc((size_t)*count + 1, sizeof *views);
    if (!views)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; views && i < *count; i++)
        if (PyObject_GetBuffer(PyList_GetItem(items, i), views + i, PyBUF_SIMPLE) < 0) {
            while (i-- > 0)
                PyBuffer_Release(views + i);
            PyMem_Free(views);
            views = NULL;
        }
    Py_DECREF(items);
    return views;
}

static void release(Py_buffer *views, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++)
        PyBuffer_Release(views + i);
    PyMem_Free(views);
}

/* md5_start(count) -> bytearray: the states of so many streams. */
static PyObject *md5_start(PyObject *self, PyObject *argument)
{
    Py_ssize_t count = PyLong_AsSsize_t(argument);
    (void)self;
    if (count == -1 && PyErr_Occurred())
        return NULL;
    if (count < 0 || count > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(stream)) {
        PyErr_SetString(PyExc_ValueError, "no such number of streams");
        return NULL;
    }
    PyObject *states = PyByteArray_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(stream));
    if (!states)
        return NULL;
    stream *streams = (stream *)PyByteArray_AsString(states);
    memset(streams, 0, (size_t)count * sizeof(stream));
    for (Py_ssize_t i = 0; i < count; i++)
        memcpy(streams[i].state, START, sizeof START);
    return states;
}

/* md5_update(states, buffers): add each buffer to its stream. */
static PyObject *md5_update(PyObject *self, PyObject *arguments)
{
    Py_buffer states;
    PyObject *sequence;
    Py_ssize_t count;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "w*O", &states, &sequence))
        return NULL;
    Py_buffer *views = acquire(sequence, &count);
    work *todo = views ? PyMem_Calloc((size_t)count + 1, sizeof *todo) : NULL;
    int fits = views && states.len == count * (Py_ssize_t)sizeof(stream);
    if (views && !fits)
        PyErr_SetString(PyExc_ValueError, "as many buffers as streams are needed");
    else if (views && !todo)
        PyErr_NoMemory();
    if (fits && todo) {
        Py_BEGIN_ALLOW_THREADS
        update_streams(states.buf, views, (size_t)count, todo);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(todo);
    if (views)
        release(views, count);
    PyBuffer_Release(&states);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* md5_finish(states) -> bytes: the digests one after another, 16 bytes each; the states are left as they were. */
static PyObject *md5_finish(PyObject *self, PyObject *argument)
{
    Py_buffer states;
    (void)self;
    if (PyObject_GetBuffer(argument, &states, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t count = (size_t)states.len / sizeof(stream);
    stream *streams = PyMem_Malloc(count * sizeof *streams + 1);
    work *todo = PyMem_Malloc(count * sizeof *todo + 1);
    uint8_t *padding = PyMem_Malloc(2 * BLOCK * count + 1);
    PyObject *digests = NULL;
    if (streams && todo && padding)
        digests = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(16 * count));
    else
        PyErr_NoMemory();
    if (digests) {
        char *out = PyBytes_AsString(digests);
        memcpy(streams, states.buf, count * sizeof *streams);
        Py_BEGIN_ALLOW_THREADS
        finish_streams(streams, count, todo, padding);
        for (size_t i = 0; i < count; i++)
            memcpy(out + 16 * i, streams[i].state, 16);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(streams);
    PyMem_Free(todo);
    PyMem_Free(padding);
    PyBuffer_Release(&states);
    return digests;
}

/* ---- many small files --------------------------------------------------------------------------------- */

/* What a path is for the kernel; `*keeper` keeps it alive, and is the caller's to let go of. NULL with an exception. */
static const char *name_of(PyObject *text, PyObject **keeper)
{
    Py_ssize_t size;
    const char *name = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (name && size == PyUnicode_GetLength(text) && strlen(name) == (size_t)size) { /* ASCII: the same in any encoding */
        *keeper = Py_NewRef(text);
        return name;
    }
    PyErr_Clear();
    return PyUnicode_FSConverter(text, keeper) ? PyBytes_AsString(*keeper) : NULL;
}

typedef struct {
    int dir_fd;
    const char *name; /* lives as long as `encoded` */
    PyObject *encoded;
    size_t size, offset; /* where its bytes lie in the buffer */
    struct stat status;
    int done;
} file;

static void free_files(file *files, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; files && i < count; i++)
        Py_XDECREF(files[i].encoded);
    PyMem_Free(files);
}

/* The files of a list of (dir_fd, name, size), one after another in a buffer of `room` bytes. */
static file *files_of(PyObject *sequence, Py_ssize_t *count, Py_ssize_t room)
{
    PyObject *items = PySequence_List(sequence);
    if (!items)
        return NULL;
    *count = PyList_Size(items);
    file *files = PyMem_Calloc((size_t)*count + 1, sizeof *files);
    size_t offset = 0;
    if (!files)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; files && i < *count; i++) {
        Py_ssize_t size = 0;
        file *f = files + i;
        PyObject *item = PyList_GetItem(items, i), *dir_fd = PyTuple_GetItem(item, 0), *name = PyTuple_GetItem(item, 1);
        PyObject *length = PyTuple_GetItem(item, 2);
        if (dir_fd && name && length) {
            f->dir_fd = (int)PyLong_AsLong(dir_fd);
            size = PyLong_AsSsize_t(length);
            f->name = PyErr_Occurred() ? NULL : name_of(name, &f->encoded);
        }
        if (!f->name || size < 0 || size > room - (Py_ssize_t)offset) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "the files do not fit the buffer");
            free_files(files, *count);
            files = NULL;
            break;
        }
        f->size = (size_t)size;
        f->offset = offset;
        offset += f->size;
    }
    Py_DECREF(items);
    return files;
}

static int open_retrying(int dir_fd, const char *name, int flags, mode_t mode)
{
    int fd;
    do
        fd = openat(dir_fd, name, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Read one file if all is as it should be; whatever is not is left to the caller's slow way. */
static void read_one(file *f, int flags, long owner, uint8_t *buffer)
{
    struct stat after;
    size_t done = 0;
    int fd = open_retrying(f->dir_fd, f->name, flags, 0);
    if (fd < 0)
        return;
    if (fstat(fd, &f->status) == 0 && S_ISREG(f->status.st_mode) && (size_t)f->status.st_size == f->size &&
        (owner < 0 || f->status.st_uid == (uid_t)owner)) {
        while (done < f->size) {
            ssize_t got = pread(fd, buffer + f->offset + done, f->size - done, (off_t)done);
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                break;
            done += (size_t)got;
        }
        f->done = done == f->size && fstat(fd, &after) == 0 && is_same(&f->status, &after);
    }
    close(fd);
}

static long long nanoseconds(const struct timespec *time)
{
    return (long long)time->tv_sec * 1000000000LL + time->tv_nsec;
}

static PyObject *stamp_of(const struct stat *status)
{
    PyObject *stamp = PyTuple_New(4);
    long long values[] = {0, status->st_size, nanoseconds(&status->st_mtim), nanoseconds(&status->st_ctim)};
    for (int i = 0; stamp && i < 4; i++) { /* not by a format, which takes twice as long */
        PyObject *value = i ? PyLong_FromLongLong(values[i]) : PyLong_FromUnsignedLongLong(status->st_ino);
        if (!value || PyTuple_SetItem(stamp, i, value) < 0)
            Py_CLEAR(stamp);
    }
    return stamp;
}

/* read_files(files, buffer, flags, owner) -> list: a stamp for each file that was read, None for the others. */
static PyObject *read_files(PyObject *self, PyObject *arguments)
{
    PyObject *sequence, *found = NULL;
    Py_buffer buffer;
    Py_ssize_t count = 0;
    int flags;
    long owner;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Ow*il", &sequence, &buffer, &flags, &owner))
        return NULL;
    file *files = files_of(sequence, &count, buffer.len);
    if (files) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            read_one(files + i, flags, owner, buffer.buf);
        Py_END_ALLOW_THREADS
        found = PyList_New(count);
    }
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *stamp = files[i].done ? stamp_of(&files[i].status) : Py_NewRef(Py_None);
        if (!stamp || PyList_SetItem(found, i, stamp) < 0)
            Py_CLEAR(found);
    }
    free_files(files, count);
    PyBuffer_Release(&buffer);
    return found;
}

/* The MD5 of each file that was read; what `streams`, `views`, `todo` and `padding` point to has room for all. */
static void digest_all(const file *files, Py_ssize_t count, uint8_t *buffer, stream *streams, Py_buffer *views, work *todo,
                       uint8_t *padding)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        memcpy(streams[i].state, START, sizeof START);
        views[i].buf = buffer + files[i].offset;
        views[i].len = files[i].done ? (Py_ssize_t)files[i].size : 0;
    }
    update_streams(streams, views, (size_t)count, todo);
    finish_streams(streams, (size_t)count, todo, padding);
}

static PyObject *hex_of(const uint32_t state[4])
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = (const uint8_t *)state;
    char text[32];
    for (int i = 0; i < 16; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    return PyUnicode_FromStringAndSize(text, sizeof text);
}

/* digest_files(files, buffer, flags, owner) -> (stamps, md5sums): as `read_files`, and the MD5 of each that was read. */
static PyObject *digest_files(PyObject *self, PyObject *arguments)
{
    PyObject *sequence, *stamps = NULL, *sums = NULL, *found = NULL;
    Py_buffer buffer;
    Py_ssize_t count = 0;
    int flags;
    long owner;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Ow*il", &sequence, &buffer, &flags, &owner))
        return NULL;
    file *files = files_of(sequence, &count, buffer.len);
    size_t room = (size_t)count + 1;
    stream *streams = files ? PyMem_Calloc(room, sizeof *streams) : NULL;
    Py_buffer *views = files ? PyMem_Calloc(room, sizeof *views) : NULL;
    work *todo = files ? PyMem_Calloc(room, sizeof *todo) : NULL;
    uint8_t *padding = files ? PyMem_Malloc(2 * BLOCK * room) : NULL;
    if (streams && views && todo && padding) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            read_one(files + i, flags, owner, buffer.buf);
        digest_all(files, count, buffer.buf, streams, views, todo, padding);
        Py_END_ALLOW_THREADS
        stamps = PyList_New(count);
        sums = PyList_New(count);
    } else if (files)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; stamps && sums && i < count; i++) {
        PyObject *stamp = files[i].done ? stamp_of(&files[i].status) : Py_NewRef(Py_None);
        PyObject *sum = files[i].done ? hex_of(streams[i].state) : PyUnicode_FromStringAndSize("", 0);
        if (!stamp || PyList_SetItem(stamps, i, stamp) < 0)
            Py_CLEAR(stamps);
        if (!sum || PyList_SetItem(sums, i, sum) < 0)
            Py_CLEAR(sums);
    }
    if (stamps && sums)
        found = PyTuple_Pack(2, stamps, sums);
    Py_XDECREF(stamps);
    Py_XDECREF(sums);
    PyMem_Free(streams);
    PyMem_Free(views);
    PyMem_Free(todo);
    PyMem_Free(padding);
    free_files(files, count);
    PyBuffer_Release(&buffer);
    return found;
}

/* Write one new file; 0 or an error number. */
static int write_one(const file *f, int flags, mode_t mode, const uint8_t *buffer)
{
    size_t done = 0;
    int error = 0, fd = open_retrying(f->dir_fd, f->name, flags, mode);
    if (fd < 0)
        return errno;
    while (!error && done < f->size) {
        ssize_t put = write(fd, buffer + f->offset + done, f->size - done);
        if (put >= 0)
            done += (size_t)put;
        else if (errno != EINTR)
            error = errno;
    }
    if (close(fd) < 0 && errno != EINTR && !error)
        error = errno;
    return error;
}

/* write_files(files, wanted, buffer, flags, mode): write the files whose `wanted` byte is not 0, each new. */
static PyObject *write_files(PyObject *self, PyObject *arguments)
{
    PyObject *sequence;
    Py_buffer buffer, wanted;
    Py_ssize_t count = 0, at = 0;
    int flags, mode, error = 0;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Oy*y*ii", &sequence, &wanted, &buffer, &flags, &mode))
        return NULL;
    file *files = files_of(sequence, &count, buffer.len);
    if (files && wanted.len != count)
        PyErr_SetString(PyExc_ValueError, "a byte for each file is needed");
    else if (files) {
        const char *want = wanted.buf;
        Py_BEGIN_ALLOW_THREADS
        for (; at < count && !error; at++)
            if (want[at])
                error = write_one(files + at, flags, (mode_t)mode, buffer.buf);
        Py_END_ALLOW_THREADS
    }
    if (error) {
        PyObject *name = PyUnicode_DecodeFSDefault(files[at - 1].name);
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
        Py_XDECREF(name);
    }
    free_files(files, count);
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&wanted);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- many names ---------------------------------------------------------------------------------------- */

enum { LISTING = 128 * 1024 }; /* bytes of a directory that are asked for at a time: some thousand names */

/* What getdents64(2) writes. */
typedef struct {
    uint64_t inode;
    int64_t next;
    unsigned short length;
    unsigned char kind;
    char name[];
} entry;

typedef struct {
    const char *name; /* in the listing */
    struct stat status; /* of what is not looked at no more than the type of `st_mode` */
} named;

enum look { AT_NONE, AT_ALL, AT_FILES }; /* what is looked at; where a filesystem tells no types all is */

/* List (and look at) some names; NULL with an error number, and with the name where one is to blame.
 *
 * `*room` is the listing's, and then what it has left.
 */
static named *list_names(int fd, enum look look, char *listing, size_t *room, size_t *count, int *error,
                         const char **blamed)
{
    long size;
    *count = 0;
    do {
        size = syscall(SYS_getdents64, fd, listing, *room);
        for (long at = 0; at < size; at += ((entry *)(listing + at))->length) {
            const char *name = ((entry *)(listing + at))->name;
            *count += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        }
    } while ((size > 0 && *count == 0) || (size < 0 && errno == EINTR));
    if (size < 0 && errno == ENOENT) /* the directory itself was removed: readdir(3) says that this is its end */
        size = 0;
    named *found = size < 0 ? NULL : malloc((*count + 1) * sizeof *found), *next = found;
    *error = size < 0 ? errno : ENOMEM;
    *room -= size < 0 ? 0 : (size_t)size;
    for (long at = 0; found && at < size; at += ((entry *)(listing + at))->length) {
        const char *name = ((entry *)(listing + at))->name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        next->name = name;
        unsigned char kind = ((entry *)(listing + at))->kind;
        mode_t type = (mode_t)kind << 12; /* as DTTOIF of <dirent.h> has it */
        if (kind != 0 && look != AT_ALL && !(look == AT_FILES && type == S_IFREG)) { /* DT_UNKNOWN: it does not say */
            next->status.st_mode = type;
            next++;
            continue;
        }
        if (fstatat(fd, name, &next->status, AT_SYMLINK_NOFOLLOW) < 0) {
            *error = errno;
            *blamed = name;
            free(found);
            return NULL;
        }
        next++;
    }
    return found;
}

/* Raise OSError with that number; it names what is to blame, if that is known. */
static PyObject *raise_for(int error, const char *blamed)
{
    PyObject *name = blamed ? PyUnicode_DecodeFSDefault(blamed) : NULL;
    errno = error;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    Py_XDECREF(name);
    return NULL;
}

enum { NAME_MOST = 255 }; /* bytes */

/* Tell whether it is a regular file, and its name is of any user's files and the same in any encoding. */
static int is_plain(const named *n)
{
    const char *end = n->name;
    while ((unsigned char)(*end - 1) < 0x7f) /* neither its end nor the beginning of more than ASCII */
        end++;
    return S_ISREG(n->status.st_mode) && *end == 0 && strncmp(n->name, "..", 2) != 0 && end - n->name <= NAME_MOST;
}

enum {
    PAGES_MOST = 1024,      /* pages (of one directory or of several) that are listed in one go, */
    PAGE_LEAST = 32 * 1024, /* bytes that one is given room for, */
    NAMES_MANY = 4096,      /* and names after which no more are */
};

/* Some names of a directory, the last ones if there are none. */
typedef struct {
    Py_ssize_t directory;
    named *names; /* NULL: it could not be listed */
    size_t count;
    int error;
} page;

/* What is being listed. */
typedef struct {
    int top_fd;
    file *directories; /* as far as they are names, below the top */
    Py_ssize_t count, next;
    int fd; /* of the next one, if it is open; else -1 */
    enum look look;
    char *listing;
    page *pages;
    size_t used; /* pages */
} listing_of;

static page list_page(listing_of *l, char *listing, size_t *room)
{
    page found = {.directory = l->next};
    const char *blamed = NULL, *name = l->directories[l->next].name;
    if (l->fd < 0)
        l->fd = open_retrying(l->top_fd, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (l->fd < 0)
        found.error = errno;
    else
        found.names = list_names(l->fd, l->look, listing, room, &found.count, &found.error, &blamed);
    if (!found.names)
        found.count = 0;
    if (!found.count) { /* its end, or an error */
        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
        l->next++;
    }
    return found;
}

/* List some pages, without the GIL. */
static void list_pages(listing_of *l)
{
    size_t names = 0, room = LISTING;
    for (l->used = 0; l->next < l->count && l->used < PAGES_MOST && room >= PAGE_LEAST && names < NAMES_MANY;) {
        page one = list_page(l, l->listing + LISTING - room, &room);
        l->pages[l->used++] = one;
        names += one.count;
    }
}

/* Put a page's names where they belong; `path` has room for a name after the directory's. 0, or -1 with an exception. */
static int sort_out(const page *one, char *path, size_t prefix, PyObject *nothing, PyObject *files, PyObject *others)
{
    int failed = 0, plain = 0;
    for (size_t i = 0; i < one->count && !failed; i++) {
        const named *n = one->names + i;
        PyObject *stamp = nothing == Py_None ? stamp_of(&n->status) : Py_NewRef(nothing), *key, *item = NULL;
        if (is_plain(n)) {
            size_t size = strlen(n->name);
            memcpy(path + prefix, n->name, size);
            key = PyUnicode_FromStringAndSize(path, (Py_ssize_t)(prefix + size));
            failed = !key || !stamp || PyDict_SetItem(files, key, stamp) < 0;
            plain++;
        } else {
            PyObject *mode = PyLong_FromUnsignedLong(n->status.st_mode & (nothing == Py_None ? ~0u : (unsigned)S_IFMT));
            key = PyUnicode_DecodeFSDefault(n->name);
            item = key && mode && stamp ? PyTuple_Pack(3, key, mode, stamp) : NULL;
            failed = !item || PyList_Append(others, item) < 0;
            Py_XDECREF(mode);
        }
        Py_XDECREF(item);
        Py_XDECREF(key);
        Py_XDECREF(stamp);
    }
    return failed ? -1 : plain;
}

/* Add what a page says of its directory to its [holds plain files, others, error number]; 0, or -1 with an exception. */
static int add_page(const page *one, const char *directory, PyObject *nothing, PyObject *files, PyObject *found)
{
    size_t prefix = strlen(directory);
    char *path = PyMem_Malloc(prefix + 1 + NAME_MOST);
    if (!path) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(path, directory, prefix);
    if (prefix)
        path[prefix++] = '/';
    PyObject *listed = PyList_GetItem(found, one->directory), *error;
    int plain = sort_out(one, path, prefix, nothing, files, PyList_GetItem(listed, 1)), failed = plain < 0;
    if (plain > 0)
        failed = PyList_SetItem(listed, 0, Py_NewRef(Py_True)) < 0;
    if (!failed && !one->names)
        failed = !(error = PyLong_FromLong(one->error)) || PyList_SetItem(listed, 2, error) < 0;
    PyMem_Free(path);
    return -failed;
}

/* For each directory a [False, [], 0]. */
static PyObject *nothing_listed(Py_ssize_t count)
{
    PyObject *found = PyList_New(count);
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *one = Py_BuildValue("[O[]i]", Py_False, 0);
        if (!one || PyList_SetItem(found, i, one) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* list_directories(top_fd, paths, nothing, files) -> list of [holds plain files, others, error number].
 *
 * The path of each plain file gets its stamp in `files`; `others` are (name, mode, stamp) of each other name. If
 * `nothing` is not None it stands for each stamp, and modes are no more than types.
 */
static PyObject *list_directories(PyObject *self, PyObject *arguments)
{
    PyObject *sequence, *nothing, *files, *found = NULL;
    listing_of l = {.fd = -1};
    int failed;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iOOO!", &l.top_fd, &sequence, &nothing, &PyDict_Type, &files))
        return NULL;
    PyObject *paths = PySequence_List(sequence);
    if (!paths)
        return NULL;
    l.count = PyList_Size(paths);
    l.look = nothing == Py_None ? AT_ALL : AT_NONE;
    l.directories = PyMem_Calloc((size_t)l.count + 1, sizeof *l.directories);
    l.listing = PyMem_Malloc(LISTING);
    l.pages = PyMem_Malloc(PAGES_MOST * sizeof *l.pages);
    failed = !l.directories || !l.listing || !l.pages;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < l.count && !failed; i++)
        failed = !(l.directories[i].name = name_of(PyList_GetItem(paths, i), &l.directories[i].encoded));
    if (!failed)
        failed = !(found = nothing_listed(l.count));
    while (!failed && l.next < l.count) {
        Py_BEGIN_ALLOW_THREADS
        list_pages(&l);
        Py_END_ALLOW_THREADS
        for (size_t i = 0; i < l.used; i++) {
            failed = failed || add_page(l.pages + i, l.directories[l.pages[i].directory].name, nothing, files, found) < 0;
            free(l.pages[i].names);
        }
    }
    if (l.fd >= 0)
        close(l.fd);
    free_files(l.directories, l.count);
    PyMem_Free(l.listing);
    PyMem_Free(l.pages);
    Py_DECREF(paths);
    if (failed)
        Py_CLEAR(found);
    return found;
}

enum { TEXT_MOST = 4096 }; /* bytes: one more than Linux keeps of a symbolic link */

/* Read each symbolic link into one growing buffer; its length, or -1, becomes its `st_size`. 0, or -1 without memory. */
static int read_texts(int fd, named *names, size_t count, char **texts)
{
    size_t used = 0, room = 0;
    for (size_t i = 0; i < count; i++) {
        if (!S_ISLNK(names[i].status.st_mode))
            continue;
        if (room - used < TEXT_MOST) {
            room = 2 * room + 16 * TEXT_MOST;
            char *larger = realloc(*texts, room);
            if (!larger)
                return -1;
            *texts = larger;
        }
        ssize_t size = readlinkat(fd, names[i].name, *texts + used, TEXT_MOST);
        names[i].status.st_size = size < TEXT_MOST ? size : -1;
        if (size > 0 && size < TEXT_MOST)
            used += (size_t)size;
    }
    return 0;
}

/* A file's size, a link's text, None of anything else; `*text` is the next link's. */
static PyObject *offered(const struct stat *status, const char **text)
{
    if (S_ISREG(status->st_mode))
        return PyLong_FromLongLong(status->st_size);
    if (!S_ISLNK(status->st_mode) || status->st_size < 0)
        return Py_NewRef(Py_None);
    const char *here = *text;
    *text += status->st_size;
    return PyUnicode_DecodeFSDefaultAndSize(here, (Py_ssize_t)status->st_size);
}

static PyObject *list_of_offered(const named *names, size_t count, const char *text)
{
    static const mode_t types[] = {S_IFREG, S_IFLNK, S_IFDIR}; /* nearly all are: one object for each will do */
    PyObject *kinds[3], *found = PyList_New((Py_ssize_t)count);
    for (int i = 0; i < 3; i++)
        if (!(kinds[i] = PyLong_FromUnsignedLong(types[i])))
            Py_CLEAR(found);
    for (size_t i = 0; found && i < count; i++) {
        mode_t type = names[i].status.st_mode & S_IFMT;
        int known = type == S_IFREG ? 0 : type == S_IFLNK ? 1 : type == S_IFDIR ? 2 : -1;
        PyObject *kind = known < 0 ? PyLong_FromUnsignedLong(type) : Py_NewRef(kinds[known]);
        PyObject *name = PyUnicode_DecodeFSDefault(names[i].name), *what = offered(&names[i].status, &text);
        PyObject *item = kind && name && what ? PyTuple_Pack(3, name, kind, what) : NULL;
        Py_XDECREF(kind);
        Py_XDECREF(name);
        Py_XDECREF(what);
        if (!item || PyList_SetItem(found, (Py_ssize_t)i, item) < 0)
            Py_CLEAR(found);
    }
    for (int i = 0; i < 3; i++)
        Py_XDECREF(kinds[i]);
    return found;
}

/* survey_directory(fd) -> list: the next names in an opened directory; empty at its end.
 *
 * Of (name, the mode's type, a regular file's size or a symbolic link's text or None): None of a link that could not
 * be read, too.
 */
static PyObject *survey_directory(PyObject *self, PyObject *arguments)
{
    size_t count = 0, room = LISTING;
    int fd, error = 0, failed = 0;
    const char *blamed = NULL;
    char *texts = NULL;
    PyObject *found = NULL;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "i", &fd))
        return NULL;
    char *listing = PyMem_Malloc(LISTING);
    if (!listing)
        return PyErr_NoMemory();
    named *names;
    Py_BEGIN_ALLOW_THREADS /* a file server may hang */
    names = list_names(fd, AT_FILES, listing, &room, &count, &error, &blamed);
    failed = names ? read_texts(fd, names, count, &texts) : 0;
    Py_END_ALLOW_THREADS
    if (!names)
        raise_for(error, blamed);
    else
        found = failed ? PyErr_NoMemory() : list_of_offered(names, count, texts);
    free(texts);
    free(names);
    PyMem_Free(listing);
    return found;
}

typedef struct {
    const char *name; /* lives as long as `encoded` */
    PyObject *encoded;
    unsigned long long inode;
    long long size, mtime, ctime;
} stamped;

static void unlink_if_same(int dir_fd, const stamped *s)
{
    struct stat now;
    if (fstatat(dir_fd, s->name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == s->inode && now.st_size == s->size &&
        nanoseconds(&now.st_mtim) == s->mtime && nanoseconds(&now.st_ctim) == s->ctime)
        unlinkat(dir_fd, s->name, 0);
}

/* unlink_files(dir_fd, [(name, stamp)]): unlink each that still has its stamp; failing is no error. */
static PyObject *unlink_files(PyObject *self, PyObject *arguments)
{
    PyObject *sequence;
    int dir_fd;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iO", &dir_fd, &sequence))
        return NULL;
    PyObject *items = PySequence_List(sequence);
    if (!items)
        return NULL;
    Py_ssize_t count = PyList_Size(items), parsed = 0;
    stamped *files = PyMem_Calloc((size_t)count + 1, sizeof *files);
    if (!files)
        PyErr_NoMemory();
    for (; files && parsed < count; parsed++) {
        stamped *s = files + parsed;
        if (!PyArg_ParseTuple(PyList_GetItem(items, parsed), "O&(KLLL)", PyUnicode_FSConverter, &s->encoded, &s->inode,
                              &s->size, &s->mtime, &s->ctime))
            break;
        s->name = PyBytes_AsString(s->encoded);
    }
    if (files && parsed == count) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            unlink_if_same(dir_fd, files + i);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t i = 0; files && i < count; i++)
        Py_XDECREF(files[i].encoded);
    PyMem_Free(files);
    Py_DECREF(items);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- many symbolic links ------------------------------------------------------------------------------- */

typedef struct {
    const char *name, *text; /* live as long as their keepers */
    PyObject *name_keeper, *text_keeper;
} symlink_to;

static void free_symlinks(symlink_to *links, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; links && i < count; i++) {
        Py_XDECREF(links[i].name_keeper);
        Py_XDECREF(links[i].text_keeper);
    }
    PyMem_Free(links);
}

/* make_links(dir_fd, [(name, text)]): make symbolic links, each new; OSError names the one that could not be made. */
static PyObject *make_links(PyObject *self, PyObject *arguments)
{
    PyObject *sequence;
    int dir_fd, error = 0;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iO", &dir_fd, &sequence))
        return NULL;
    PyObject *items = PySequence_List(sequence);
    if (!items)
        return NULL;
    Py_ssize_t count = PyList_Size(items), parsed = 0, at = 0;
    symlink_to *links = PyMem_Calloc((size_t)count + 1, sizeof *links);
    if (!links)
        PyErr_NoMemory();
    for (; links && parsed < count; parsed++) {
        PyObject *item = PyList_GetItem(items, parsed), *name = PyTuple_GetItem(item, 0), *text = PyTuple_GetItem(item, 1);
        if (!name || !text || !(links[parsed].name = name_of(name, &links[parsed].name_keeper)) ||
            !(links[parsed].text = name_of(text, &links[parsed].text_keeper)))
            break;
    }
    if (links && parsed == count) {
        Py_BEGIN_ALLOW_THREADS
        for (; at < count && !error; at++)
            if (symlinkat(links[at].text, dir_fd, links[at].name) < 0)
                error = errno;
        Py_END_ALLOW_THREADS
    }
    if (error) {
        PyObject *name = PyUnicode_DecodeFSDefault(links[at - 1].name);
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
        Py_XDECREF(name);
    }
    free_symlinks(links, count);
    Py_DECREF(items);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the module --------------------------------------------------------------------------------------- */

static PyMethodDef METHODS[] = {
    {"md5_start", md5_start, METH_O, NULL},
    {"md5_update", md5_update, METH_VARARGS, NULL},
    {"md5_finish", md5_finish, METH_O, NULL},
    {"read_files", read_files, METH_VARARGS, NULL},
    {"digest_files", digest_files, METH_VARARGS, NULL},
    {"write_files", write_files, METH_VARARGS, NULL},
    {"list_directories", list_directories, METH_VARARGS, NULL},
    {"survey_directory", survey_directory, METH_VARARGS, NULL},
    {"unlink_files", unlink_files, METH_VARARGS, NULL},
    {"make_links", make_links, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&MODULE);
}
