/* The system calls for one small file, in one go: a request makes a few dozen of them, and each one made from
 * Python lets go of the interpreter's lock and takes it again.
 *
 * Everything here works without that lock, and has a twin in Python (single.py) that is used where this module
 * could not be built; the same tests run against both. What changes the disk is announced to the interpreter's
 * audit hooks by single.py, as `os.open` does.
 */

#include "c/extension.h"

#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>

#define LOST " (deleted)" /* proc(5): how the path of an open file ends that has no name any more */

enum { HANDLE_MOST = 128 }; /* MAX_HANDLE_SZ */

/* Read up to `most` bytes, or less at the end of the file; -1 with errno. */
static ssize_t read_fully(int fd, char *buffer, size_t most)
{
    size_t done = 0;
    while (done < most) {
        ssize_t got = read(fd, buffer + done, most - done);
        if (got == 0)
            break;
        if (got > 0)
            done += (size_t)got;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)done;
}

static PyObject *failure(int error, PyObject *name)
{
    errno = error;
    return name ? PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name) : PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

/* All bytes of a file, in `*buffer`, which is to be freed; -1 with errno, which `*opened` tells more of. */
static ssize_t slurp(const char *path, char **buffer, int *opened)
{
    struct stat status;
    size_t room = 0, size = 0;
    ssize_t got = -1;
    int error, fd = open_retrying(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    *buffer = NULL;
    *opened = fd >= 0;
    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0)
        do { /* once, unless it grows meanwhile, or has no size (as in /proc) */
            char *larger;
            room = room ? 2 * room : (size_t)status.st_size + 1;
            larger = realloc(*buffer, room);
            if (!larger) {
                errno = ENOMEM;
                got = -1;
                break;
            }
            *buffer = larger;
            got = read_fully(fd, *buffer + size, room - size);
            size += got > 0 ? (size_t)got : 0;
        } while (got >= 0 && size == room);
    error = errno;
    close(fd);
    errno = error;
    return got < 0 ? -1 : (ssize_t)size;
}

/* read_file(path) -> bytes; OSError. */
static PyObject *read_file(PyObject *self, PyObject *path)
{
    PyObject *encoded, *found = NULL;
    char *buffer;
    ssize_t size;
    int opened, error;
    (void)self;
    if (!PyUnicode_FSConverter(path, &encoded))
        return NULL;
    const char *name = PyBytes_AsString(encoded);
    Py_BEGIN_ALLOW_THREADS
    size = slurp(name, &buffer, &opened);
    error = errno;
    Py_END_ALLOW_THREADS
    found = size < 0 ? failure(error, opened ? NULL : path) : PyBytes_FromStringAndSize(buffer, size);
    free(buffer);
    Py_DECREF(encoded);
    return found;
}

typedef struct {
    struct stat status;
    struct {
        unsigned int bytes;
        int type;
        unsigned char handle[HANDLE_MOST];
    } handle; /* struct file_handle */
    char *body; /* to be freed */
    int is_whole;
} whole;

static int has_lost_its_name(int fd)
{
    char link[32], path[PATH_MAX + sizeof LOST];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    size_t ending = strlen(LOST);
    return length < 0 || (size_t)length == sizeof path ||
           ((size_t)length >= ending && memcmp(path + length - ending, LOST, ending) == 0);
}

/* The order matters: links are counted first, then the name is asked for. */
static void read_opened(int fd, long long most, int wants_handle, whole *w)
{
    struct stat after;
    int mount;
    if (fstat(fd, &w->status) < 0 || !S_ISREG(w->status.st_mode) || w->status.st_nlink != 1 ||
        w->status.st_size > most || has_lost_its_name(fd))
        return;
    w->handle.bytes = HANDLE_MOST;
    if (!wants_handle || name_to_handle_at(fd, "", (struct file_handle *)&w->handle, &mount, AT_EMPTY_PATH) < 0)
        w->handle.bytes = 0, wants_handle = 0;
    w->body = malloc((size_t)w->status.st_size + 1);
    if (!w->body || read_fully(fd, w->body, (size_t)w->status.st_size + 1) != w->status.st_size)
        return;
    w->is_whole = fstat(fd, &after) == 0 && is_same(&w->status, &after);
}

/* read_whole(dir_fd, name, flags, most, wants_handle) -> (inode, mode, links, uid, size, mtime, ctime), handle, body
 *
 * None unless it is a regular file of at most `most` bytes with one name, that did not change meanwhile.
 */
static PyObject *read_whole(PyObject *self, PyObject *arguments)
{
    int dir_fd, flags, wants_handle, fd;
    long long most;
    PyObject *encoded, *found = NULL;
    whole w = {.is_whole = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iO&iLp", &dir_fd, PyUnicode_FSConverter, &encoded, &flags, &most, &wants_handle))
        return NULL;
    const char *name = PyBytes_AsString(encoded);
    Py_BEGIN_ALLOW_THREADS
    fd = open_retrying(dir_fd, name, flags, 0);
    if (fd >= 0) {
        read_opened(fd, most, wants_handle, &w);
        close(fd);
    }
    Py_END_ALLOW_THREADS
    const struct stat *s = &w.status;
    if (w.is_whole)
        found = Py_BuildValue(
            "(KkkkLLL)y#y#", (unsigned long long)s->st_ino, (unsigned long)s->st_mode, (unsigned long)s->st_nlink,
            (unsigned long)s->st_uid, (long long)s->st_size, nanoseconds(&s->st_mtim), nanoseconds(&s->st_ctim),
            (const char *)&w.handle.type, (Py_ssize_t)(w.handle.bytes ? w.handle.bytes + sizeof(int) : 0), w.body,
            (Py_ssize_t)s->st_size);
    else
        found = Py_NewRef(Py_None);
    free(w.body);
    Py_DECREF(encoded);
    return found;
}

/* has_directory(parent, name) -> bool; OSError, also where there is no such parent. */
static PyObject *has_directory(PyObject *self, PyObject *arguments)
{
    PyObject *parent, *encoded_parent, *encoded_name;
    struct stat status;
    int fd, failed = 1, error;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO&", &parent, PyUnicode_FSConverter, &encoded_name))
        return NULL;
    if (!PyUnicode_FSConverter(parent, &encoded_parent)) {
        Py_DECREF(encoded_name);
        return NULL;
    }
    const char *path = PyBytes_AsString(encoded_parent), *name = PyBytes_AsString(encoded_name);
    Py_BEGIN_ALLOW_THREADS
    fd = open_retrying(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd >= 0)
        failed = fstatat(fd, name, &status, 0) < 0;
    error = errno;
    if (fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS
    Py_DECREF(encoded_parent);
    Py_DECREF(encoded_name);
    if (failed && !(fd >= 0 && error == ENOENT))
        return failure(error, fd < 0 ? parent : NULL);
    return PyBool_FromLong(!failed && S_ISDIR(status.st_mode));
}

/* statx(2) by its number, since not every C library has it, and what is wanted of its answer. */
typedef struct {
    uint32_t mask, blocksize;
    uint64_t attributes;
    uint32_t links, uid, gid;
    uint16_t mode, spare;
    uint64_t until_mount[14];
    uint64_t mount;
    uint64_t rest[13];
} statx_answer;

enum { STATX_BASIC = 0x7FF, STATX_MOUNT = 0x1000 };

/* 0 or an error number; ENOSYS also where the kernel is too old to tell the mount. */
static int ask_statx(const char *path, int flags, statx_answer *answer)
{
#ifdef SYS_statx
    if (syscall(SYS_statx, AT_FDCWD, path, flags, STATX_BASIC | STATX_MOUNT, answer) < 0)
        return errno;
    return answer->mask & STATX_MOUNT ? 0 : ENOSYS;
#else
    (void)path, (void)flags, (void)answer;
    return ENOSYS;
#endif
}

/* standing(path, follow) -> (mode, uid, attributes, mount), None where nothing is, () where it cannot be told; OSError. */
static PyObject *standing(PyObject *self, PyObject *arguments)
{
    int follow, error;
    PyObject *path, *keeper = NULL;
    statx_answer answer = {0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Op", &path, &follow))
        return NULL;
    const char *name = name_of(path, &keeper);
    if (!name)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = ask_statx(name, follow ? 0 : AT_SYMLINK_NOFOLLOW, &answer);
    Py_END_ALLOW_THREADS
    Py_DECREF(keeper);
    if (error == ENOENT || error == ENOTDIR)
        Py_RETURN_NONE;
    if (error == ENOSYS || error == EPERM) /* an old kernel, or a sandbox that does not know the call */
        return PyTuple_New(0);
    if (error)
        return failure(error, path);
    return Py_BuildValue(
        "(IIKK)", (unsigned int)answer.mode, (unsigned int)answer.uid, (unsigned long long)answer.attributes,
        (unsigned long long)answer.mount);
}

/* ---- locking and writing ------------------------------------------------------------------------------ */

/* flocked(path, flags, mode, operation) -> (fd, mode), or None where somebody else has the lock; OSError. */
static PyObject *flocked(PyObject *self, PyObject *arguments)
{
    int flags, mode, operation, fd, failed, error = 0;
    PyObject *path, *encoded;
    struct stat status;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Oiii", &path, &flags, &mode, &operation) ||
        !PyUnicode_FSConverter(path, &encoded))
        return NULL;
    const char *name = PyBytes_AsString(encoded);
    Py_BEGIN_ALLOW_THREADS
    fd = open_retrying(AT_FDCWD, name, flags, (mode_t)mode);
    failed = fd < 0;
    if (!failed) {
        do
            failed = flock(fd, operation);
        while (failed && errno == EINTR);
        failed = failed || fstat(fd, &status) < 0;
    }
    error = errno;
    if (failed && fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS
    Py_DECREF(encoded);
    if (!failed)
        return Py_BuildValue("ik", fd, (unsigned long)status.st_mode);
    if (fd >= 0 && (error == EWOULDBLOCK || error == EACCES))
        Py_RETURN_NONE;
    return failure(error, fd < 0 ? path : NULL);
}

/* Give a file its mode, its blocks and its bytes; 0 or an error number. */
static int fill(int fd, mode_t mode, int preallocates, const char *data, size_t size)
{
    int error = fchmod(fd, mode) < 0 ? errno : 0;
    while (!error && preallocates && size) {
        error = posix_fallocate(fd, 0, (off_t)size);
        if (error != EINTR)
            break;
        error = 0;
    }
    for (size_t done = 0; !error && done < size;) {
        ssize_t put = write(fd, data + done, size - done);
        if (put >= 0)
            done += (size_t)put;
        else if (errno != EINTR)
            error = errno;
    }
    return error;
}

/* write_opened(dir_fd, path, flags, mode, preallocates, data) -> fd, to be closed; OSError. */
static PyObject *write_opened(PyObject *self, PyObject *arguments)
{
    int dir_fd, flags, mode, preallocates, fd, error;
    PyObject *path, *encoded;
    Py_buffer data;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iOiipy*", &dir_fd, &path, &flags, &mode, &preallocates, &data))
        return NULL;
    if (!PyUnicode_FSConverter(path, &encoded)) {
        PyBuffer_Release(&data);
        return NULL;
    }
    const char *name = PyBytes_AsString(encoded);
    Py_BEGIN_ALLOW_THREADS
    fd = open_retrying(dir_fd, name, flags, (mode_t)mode);
    error = fd < 0 ? errno : fill(fd, (mode_t)mode, preallocates, data.buf, (size_t)data.len);
    if (error && fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    Py_DECREF(encoded);
    return error ? failure(error, fd < 0 ? path : NULL) : PyLong_FromLong(fd);
}

/* ---- writing back ------------------------------------------------------------------------------------- */

enum { FILES_MOST = 256 };

static void write_back_all(const int *fds, int *errors, Py_ssize_t count)
{
    const unsigned int write = SYNC_FILE_RANGE_WRITE;
    const unsigned int wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    for (Py_ssize_t i = 1; i < count; i++)
        sync_file_range(fds[i], 0, 0, write); /* an error is told by the second call as well */
    for (Py_ssize_t i = 0; i < count; i++)
        errors[i] = sync_file_range(fds[i], 0, 0, wait) < 0 ? errno : 0;
}

/* write_back(fds) -> list: an error number or 0 for each, once their bytes are on the device. */
static PyObject *write_back(PyObject *self, PyObject *sequence)
{
    int fds[FILES_MOST], errors[FILES_MOST];
    PyObject *items = PySequence_List(sequence), *found = NULL;
    (void)self;
    if (!items)
        return NULL;
    Py_ssize_t count = PyList_Size(items);
    if (count > FILES_MOST)
        PyErr_SetString(PyExc_ValueError, "too many files at once");
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        fds[i] = (int)PyLong_AsLong(PyList_GetItem(items, i));
    Py_DECREF(items);
    if (PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    write_back_all(fds, errors, count);
    Py_END_ALLOW_THREADS
    found = PyList_New(count);
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *error = PyLong_FromLong(errors[i]);
        if (!error || PyList_SetItem(found, i, error) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* ---- the module --------------------------------------------------------------------------------------- */

static PyMethodDef METHODS[] = {
    {"read_file", read_file, METH_O, NULL},
    {"read_whole", read_whole, METH_VARARGS, NULL},
    {"has_directory", has_directory, METH_VARARGS, NULL},
    {"standing", standing, METH_VARARGS, NULL},
    {"flocked", flocked, METH_VARARGS, NULL},
    {"write_opened", write_opened, METH_VARARGS, NULL},
    {"write_back", write_back, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_single",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__single(void)
{
    return PyModuleDef_Init(&MODULE);
}
