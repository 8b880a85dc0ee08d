/* Many small files, read, hashed, written or removed in one go. */

#include "native.h"

#include "files.h"
#include "md5.h"

void free_files(file *files, Py_ssize_t count)
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

/* read_files(files, buffer, flags, owner) -> list: a stamp for each file that was read, None for the others. */
PyObject *read_files(PyObject *self, PyObject *arguments)
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

/* The MD5 of each file that was read; what `streams`, `pieces`, `todo` and `padding` point to has room for all. */
static void digest_all(const file *files, Py_ssize_t count, const uint8_t *buffer, stream *streams, piece *pieces,
                       work *todo, uint8_t *padding)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        start_stream(streams + i);
        pieces[i] = (piece){buffer + files[i].offset, files[i].done ? files[i].size : 0};
    }
    update_streams(streams, pieces, (size_t)count, todo);
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
PyObject *digest_files(PyObject *self, PyObject *arguments)
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
    piece *pieces = files ? PyMem_Calloc(room, sizeof *pieces) : NULL;
    work *todo = files ? PyMem_Calloc(room, sizeof *todo) : NULL;
    uint8_t *padding = files ? PyMem_Malloc(2 * BLOCK * room) : NULL;
    if (streams && pieces && todo && padding) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            read_one(files + i, flags, owner, buffer.buf);
        digest_all(files, count, buffer.buf, streams, pieces, todo, padding);
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
    PyMem_Free(pieces);
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
PyObject *write_files(PyObject *self, PyObject *arguments)
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
    if (error)
        raise_for(error, files[at - 1].name);
    free_files(files, count);
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&wanted);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- removing ----------------------------------------------------------------------------------------- */

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
PyObject *unlink_files(PyObject *self, PyObject *arguments)
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
