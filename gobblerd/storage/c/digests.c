/* Many files, read and hashed in one go. */

#include "digests.h"

#include "files.h"
#include "md5.h"
#include "native.h"

enum {
    GROUP_LEAST = 1 << 18, /* bytes of small files that are read before they are hashed: they are in the cache still; */
    GROUP_MOST = 256,      /* and as many files at the most */
};

/* What it takes to hash so many files. */
typedef struct {
    stream streams[GROUP_MOST];
    piece pieces[GROUP_MOST];
    work todo[GROUP_MOST];
    uint8_t padding[2 * BLOCK * GROUP_MOST];
} group;

static void digest_group(file *files, Py_ssize_t count, uint8_t *buffer, group *g)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        start_stream(g->streams + i);
        g->pieces[i] = (piece){buffer + files[i].offset, files[i].done ? files[i].size : 0};
    }
    update_streams(g->streams, g->pieces, (size_t)count, g->todo);
    finish_streams(g->streams, (size_t)count, g->todo, g->padding);
    for (Py_ssize_t i = 0; i < count; i++)
        if (files[i].done) {
            memcpy(files[i].md5, g->streams[i].state, sizeof files[i].md5);
            files[i].xxh = xxh3_of(buffer + files[i].offset, files[i].size);
        }
}

static int is_full(Py_ssize_t count, size_t bytes)
{
    return count == GROUP_MOST || (count >= LANES && bytes >= GROUP_LEAST);
}

/* Read and hash files of known sizes. */
static void digest_each(file *files, Py_ssize_t count, int flags, long owner, uint8_t *buffer, group *g)
{
    Py_ssize_t first = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        read_one(files + i, flags, owner, buffer);
        if (is_full(i + 1 - first, files[i].offset + files[i].size - files[first].offset)) {
            digest_group(files + first, i + 1 - first, buffer, g);
            first = i + 1;
        }
    }
    digest_group(files + first, count - first, buffer, g);
}

/* Read and hash files of at most `most` bytes for a while; return how many. Of larger ones there is the status alone. */
static Py_ssize_t digest_some(file *files, Py_ssize_t count, int flags, uint8_t *buffer, size_t room, size_t most, group *g)
{
    long long end = nanoseconds_now() + AWHILE;
    Py_ssize_t first = 0, at = 0;
    for (size_t used = 0; at < count && (first < at || at == 0 || nanoseconds_now() < end); at++) {
        file *f = files + at;
        int fd = open_regular(f, flags);
        f->is_regular = fd >= 0;
        if (fd >= 0 && (f->size = (size_t)f->status.st_size) <= most) {
            if (f->size > room - used) {
                digest_group(files + first, at - first, buffer, g);
                first = at;
                used = 0;
            }
            f->offset = used;
            read_opened(f, fd, buffer);
            used += f->size;
        }
        if (fd >= 0)
            close(fd);
        if (is_full(at + 1 - first, used)) {
            digest_group(files + first, at + 1 - first, buffer, g);
            first = at + 1;
            used = 0;
        }
    }
    digest_group(files + first, at - first, buffer, g);
    return at;
}

/* (stamps, MD5s, XXH3s) of files: None and "" twice of what could not be read. */
static PyObject *columns_of(const file *files, Py_ssize_t count)
{
    PyObject *columns[] = {PyList_New(count), PyList_New(count), PyList_New(count)}, *found = NULL;
    int failed = !columns[0] || !columns[1] || !columns[2];
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        const file *f = files + i;
        PyObject *cells[] = {f->done ? stamp_of(&f->status) : Py_NewRef(Py_None),
                             f->done ? hex_of(f->md5) : PyUnicode_FromStringAndSize("", 0),
                             f->done ? hex_of_u128(f->xxh) : PyUnicode_FromStringAndSize("", 0)};
        for (int column = 0; column < 3; column++)
            failed = !cells[column] || PyList_SetItem(columns[column], i, cells[column]) < 0 || failed;
    }
    if (!failed)
        found = PyTuple_Pack(3, columns[0], columns[1], columns[2]);
    for (int column = 0; column < 3; column++)
        Py_XDECREF(columns[column]);
    return found;
}

/* digest_files(files, buffer, flags, owner) -> (stamps, md5sums, xxh128s): as `read_files`, and what it hashes to. */
PyObject *digest_files(PyObject *self, PyObject *arguments)
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
    group *g = files ? PyMem_Malloc(sizeof *g) : NULL;
    if (g) {
        Py_BEGIN_ALLOW_THREADS
        digest_each(files, count, flags, owner, buffer.buf, g);
        Py_END_ALLOW_THREADS
        found = columns_of(files, count);
    } else if (files)
        PyErr_NoMemory();
    PyMem_Free(g);
    free_files(files, count);
    PyBuffer_Release(&buffer);
    return found;
}

enum { UNREAD, HASHED, LARGE }; /* what became of a file, for Python */

/* What Python keeps of a file's status: inode, size, mtime and ctime. */
typedef struct {
    uint64_t inode;
    int64_t size, mtime, ctime;
} raw_stamp;

static uint8_t state_of(const file *f, size_t most)
{
    return f->done ? HASHED : f->is_regular && f->size > most ? LARGE : UNREAD;
}

/* (states, stamps, MD5s, XXH3s) of files, each as bytes. */
static PyObject *raw_columns_of(const file *files, Py_ssize_t count, size_t most)
{
    Py_ssize_t widths[] = {1, sizeof(raw_stamp), 16, 16};
    PyObject *columns[4], *found = NULL;
    int failed = 0;
    for (int column = 0; column < 4; column++)
        failed = !(columns[column] = PyBytes_FromStringAndSize(NULL, count * widths[column])) || failed;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        const file *f = files + i;
        const struct stat *s = &f->status;
        uint64_t xxh[] = {__builtin_bswap64(f->xxh.high), __builtin_bswap64(f->xxh.low)};
        raw_stamp stamp = {s->st_ino, s->st_size, nanoseconds(&s->st_mtim), nanoseconds(&s->st_ctim)};
        PyBytes_AsString(columns[0])[i] = (char)state_of(f, most);
        memcpy(PyBytes_AsString(columns[1]) + sizeof stamp * (size_t)i, &stamp, sizeof stamp);
        memcpy(PyBytes_AsString(columns[2]) + 16 * i, f->md5, sizeof f->md5);
        memcpy(PyBytes_AsString(columns[3]) + 16 * i, xxh, sizeof xxh);
    }
    if (!failed)
        found = PyTuple_Pack(4, columns[0], columns[1], columns[2], columns[3]);
    for (int column = 0; column < 4; column++)
        Py_XDECREF(columns[column]);
    return found;
}

/* digest_names(top_fd, paths, buffer, flags, most) -> (states, stamps, md5s, xxh128s) of the first of them, as bytes.
 *
 * At least one, and as many as can be read in a while; of a file of more than `most` bytes there is only the stamp.
 * Bytes, and no object for anything: most callers only compare them.
 */
PyObject *digest_names(PyObject *self, PyObject *arguments)
{
    PyObject *paths, *found = NULL;
    Py_buffer buffer;
    int top_fd, flags, failed;
    Py_ssize_t most;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iO!w*in", &top_fd, &PyList_Type, &paths, &buffer, &flags, &most))
        return NULL;
    Py_ssize_t count = PyList_Size(paths);
    file *files = PyMem_Calloc((size_t)count + 1, sizeof *files);
    group *g = PyMem_Malloc(sizeof *g);
    failed = !files || !g;
    if (failed)
        PyErr_NoMemory();
    else if (most <= 0 || most > buffer.len) {
        PyErr_SetString(PyExc_ValueError, "the buffer has no room for a file");
        failed = 1;
    }
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        files[i].dir_fd = top_fd;
        failed = !(files[i].name = name_of(PyList_GetItem(paths, i), &files[i].encoded));
    }
    if (!failed) {
        Py_ssize_t read;
        Py_BEGIN_ALLOW_THREADS
        read = digest_some(files, count, flags, buffer.buf, (size_t)buffer.len, (size_t)most, g);
        Py_END_ALLOW_THREADS
        found = raw_columns_of(files, read, (size_t)most);
    }
    PyMem_Free(g);
    free_files(files, count);
    PyBuffer_Release(&buffer);
    return found;
}

/* xxh3_128(bytes) -> str: in hex. */
PyObject *xxh3_128(PyObject *self, PyObject *argument)
{
    Py_buffer view;
    u128 found;
    (void)self;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    found = xxh3_of(view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return hex_of_u128(found);
}
