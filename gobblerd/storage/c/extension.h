/* What several of the extensions need, between the kernel and the interpreter. */

#ifndef GOBBLERD_EXTENSION_H
#define GOBBLERD_EXTENSION_H

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a path is for the kernel; `*keeper` keeps it alive, and is the caller's to let go of. NULL with an exception. */
static inline const char *name_of(PyObject *text, PyObject **keeper)
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

static inline int open_retrying(int dir_fd, const char *name, int flags, mode_t mode)
{
    int fd;
    do
        fd = openat(dir_fd, name, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static inline int is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static inline long long nanoseconds(const struct timespec *time)
{
    return (long long)time->tv_sec * 1000000000LL + time->tv_nsec;
}

/* What a file is known again by: inode, size, mtime and ctime; NULL with an exception. */
static inline PyObject *stamp_of(const struct stat *status)
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

/* Raise OSError with that number; it names what is to blame, if that is known. */
static inline PyObject *raise_for(int error, const char *blamed)
{
    PyObject *name = blamed ? PyUnicode_DecodeFSDefault(blamed) : NULL;
    errno = error;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    Py_XDECREF(name);
    return NULL;
}

#endif
