/* Large files side by side, read and hashed chunk after chunk in one go. */

#include "digests.h"

#include "files.h"
#include "md5.h"
#include "native.h"

/* One file's checksums under way, or made. */
typedef struct {
    stream md5;
    xxh3 x;
    u128 xxh;
} sums;

/* What one of several large files is about in a call. */
typedef struct {
    int fd; /* -1: none */
    int error;
    uint64_t done, size;
    uint8_t *chunk;
} lane;

/* Read a chunk of each; tell whether one is at its end, or failed. */
static int read_chunks(lane *lanes, piece *pieces, Py_ssize_t count, size_t most)
{
    int ended = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        lane *l = lanes + i;
        size_t wanted = l->fd < 0 || l->error ? 0 : l->size - l->done < most ? (size_t)(l->size - l->done) : most;
        pieces[i] = (piece){l->chunk, read_fully(l->fd, l->chunk, wanted, l->done)};
        if (pieces[i].length < wanted) {
            l->error = errno ? errno : ESTALE; /* at an end that was not there before */
            pieces[i].length = 0;
        }
        ended = ended || (l->fd >= 0 && (l->error || l->done + wanted == l->size));
    }
    return ended;
}

static void add_chunk(sums *s, const lane *l, const uint8_t *chunk, size_t size)
{
    int is_end = l->done + size == l->size;
    size_t blocks = (size - (is_end && size)) / XXH_BLOCK, rest = size - XXH_BLOCK * blocks;
    if (is_end && l->size <= SHORT) {
        s->xxh = xxh3_of(chunk, size);
        return;
    }
    if (blocks)
        xxh3_add(&s->x, chunk, blocks);
    if (is_end)
        s->xxh = xxh3_end(&s->x, chunk + XXH_BLOCK * blocks, rest, l->size);
}

/* Read and hash chunk after chunk, until one of the files is at its end, or for a while. */
static void hash_chunks(sums *all, lane *lanes, stream *streams, piece *pieces, work *todo, Py_ssize_t count, size_t most)
{
    uint8_t padding[2 * BLOCK];
    long long end = nanoseconds_now() + AWHILE;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (lanes[i].fd >= 0 && lanes[i].done == 0) {
            start_stream(&all[i].md5);
            xxh3_start(&all[i].x);
        }
        streams[i] = all[i].md5;
    }
    for (int ended = 0; !ended && nanoseconds_now() < end;) {
        ended = read_chunks(lanes, pieces, count, most);
        update_streams(streams, pieces, (size_t)count, todo);
        for (Py_ssize_t i = 0; i < count; i++) {
            if (lanes[i].fd < 0 || lanes[i].error)
                continue;
            add_chunk(all + i, lanes + i, pieces[i].bytes, pieces[i].length);
            lanes[i].done += pieces[i].length;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (lanes[i].fd >= 0 && lanes[i].done == lanes[i].size)
            finish_streams(streams + i, 1, todo, padding);
        all[i].md5 = streams[i];
    }
}

/* sums_start(count) -> bytearray: room for the checksums of so many files. */
PyObject *sums_start(PyObject *self, PyObject *argument)
{
    Py_ssize_t count = PyLong_AsSsize_t(argument);
    (void)self;
    if (count < 0 || count > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(sums)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "no such number of files");
        return NULL;
    }
    PyObject *room = PyByteArray_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(sums));
    if (room)
        memset(PyByteArray_AsString(room), 0, (size_t)count * sizeof(sums));
    return room;
}

/* The files of a list of (fd, done, size), each with its part of the buffer; NULL with an exception. */
static lane *lanes_of(PyObject *list, Py_ssize_t count, uint8_t *buffer, size_t most)
{
    lane *lanes = PyMem_Calloc((size_t)count + 1, sizeof *lanes);
    if (!lanes)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; lanes && i < count; i++) {
        unsigned long long done, size;
        lanes[i].chunk = buffer + (size_t)i * most;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "iKK", &lanes[i].fd, &done, &size)) {
            PyMem_Free(lanes);
            return NULL;
        }
        lanes[i].done = done;
        lanes[i].size = size;
    }
    return lanes;
}

/* hash_files(sums, [(fd, done, size)], buffer) -> list: how many bytes of each are read and hashed now.
 *
 * An error's number less than 0 in place of that; ESTALE for an end that was not there before. Ends when a file
 * does, or after a while. A descriptor of -1 is no file; all that are have to have begun with 0 bytes done.
 */
PyObject *hash_files(PyObject *self, PyObject *arguments)
{
    Py_buffer room, buffer;
    PyObject *list, *found = NULL;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "w*O!w*", &room, &PyList_Type, &list, &buffer))
        return NULL;
    Py_ssize_t count = PyList_Size(list);
    size_t most = (size_t)buffer.len / (size_t)(count ? count : 1) / XXH_BLOCK * XXH_BLOCK;
    lane *lanes = NULL;
    stream *streams = PyMem_Calloc((size_t)count + 1, sizeof *streams);
    piece *pieces = PyMem_Calloc((size_t)count + 1, sizeof *pieces);
    work *todo = PyMem_Calloc((size_t)count + 1, sizeof *todo);
    if (!streams || !pieces || !todo)
        PyErr_NoMemory();
    else if (room.len != count * (Py_ssize_t)sizeof(sums) || !most)
        PyErr_SetString(PyExc_ValueError, "room for the checksums of each file, and for a part of it, is needed");
    else
        lanes = lanes_of(list, count, buffer.buf, most);
    if (lanes) {
        Py_BEGIN_ALLOW_THREADS
        hash_chunks(room.buf, lanes, streams, pieces, todo, count, most);
        Py_END_ALLOW_THREADS
        found = PyList_New(count);
    }
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *done = PyLong_FromLongLong(lanes[i].error ? -lanes[i].error : (long long)lanes[i].done);
        if (!done || PyList_SetItem(found, i, done) < 0)
            Py_CLEAR(found);
    }
    PyMem_Free(lanes);
    PyMem_Free(streams);
    PyMem_Free(pieces);
    PyMem_Free(todo);
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&room);
    return found;
}

/* sums_of(sums, index) -> (md5, xxh128): of a file that was hashed to its end. */
PyObject *sums_of(PyObject *self, PyObject *arguments)
{
    Py_buffer room;
    Py_ssize_t index;
    PyObject *found = NULL;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*n", &room, &index))
        return NULL;
    if (index < 0 || index >= room.len / (Py_ssize_t)sizeof(sums))
        PyErr_SetString(PyExc_IndexError, "no such file");
    else {
        const sums *s = (const sums *)room.buf + index;
        PyObject *md5 = hex_of((const uint8_t *)s->md5.state), *xxh = hex_of_u128(s->xxh);
        found = md5 && xxh ? PyTuple_Pack(2, md5, xxh) : NULL;
        Py_XDECREF(md5);
        Py_XDECREF(xxh);
    }
    PyBuffer_Release(&room);
    return found;
}
