/* Many small files, read, written or removed in one go. */

#include "native.h"

#include "files.h"

void free_files(file *files, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; files && i < count; i++)
        Py_XDECREF(files[i].encoded);
    PyMem_Free(files);
}

file *files_of(PyObject *sequence, Py_ssize_t *count, Py_ssize_t room)
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

int open_regular(file *f, int flags)
{
    int fd = open_retrying(f->dir_fd, f->name, flags, 0);
    if (fd >= 0 && (fstat(fd, &f->status) != 0 || !S_ISREG(f->status.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

size_t read_fully(int fd, uint8_t *buffer, size_t size, uint64_t from)
{
    size_t done = 0;
    errno = 0;
    while (done < size) {
        ssize_t got = pread(fd, buffer + done, size - done, (off_t)(from + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    return done;
}

void read_opened(file *f, int fd, uint8_t *buffer)
{
    struct stat after;
    f->done = read_fully(fd, buffer + f->offset, f->size, 0) == f->size && fstat(fd, &after) == 0 && is_same(&f->status, &after);
}

void read_one(file *f, int flags, long owner, uint8_t *buffer)
{
    int fd = open_regular(f, flags);
    if (fd < 0)
        return;
    if ((size_t)f->status.st_size == f->size && (owner < 0 || f->status.st_uid == (uid_t)owner))
        read_opened(f, fd, buffer);
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
