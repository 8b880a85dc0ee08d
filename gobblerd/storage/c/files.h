/* Files by their names in opened directories. */

#ifndef GOBBLERD_FILES_H
#define GOBBLERD_FILES_H

#include "extension.h"
#include "xxh3.h"

typedef struct {
    int dir_fd;
    const char *name; /* lives as long as `encoded` */
    PyObject *encoded;
    size_t size, offset; /* where its bytes lie in the buffer */
    struct stat status;
    int is_regular, done;
    uint8_t md5[16];
    u128 xxh;
} file;

void free_files(file *files, Py_ssize_t count);

/* The files of a list of (dir_fd, name, size), one after another in a buffer of `room` bytes. */
file *files_of(PyObject *sequence, Py_ssize_t *count, Py_ssize_t room);

/* Open a file and look at it; -1 if it is no regular file that can be opened. */
int open_regular(file *f, int flags);

/* Read so many bytes from a place in a file; less at its end or at an error, which is in errno. */
size_t read_fully(int fd, uint8_t *buffer, size_t size, uint64_t from);

/* Read an opened file to its place in the buffer, if it does not change meanwhile. */
void read_opened(file *f, int fd, uint8_t *buffer);

/* Read one file if all is as it should be; whatever is not is left to the caller's slow way. */
void read_one(file *f, int flags, long owner, uint8_t *buffer);

#endif
