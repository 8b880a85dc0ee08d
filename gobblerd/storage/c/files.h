/* Files by their names in opened directories. */

#ifndef GOBBLERD_FILES_H
#define GOBBLERD_FILES_H

#include "extension.h"

typedef struct {
    int dir_fd;
    const char *name; /* lives as long as `encoded` */
    PyObject *encoded;
    size_t size, offset; /* where its bytes lie in the buffer */
    struct stat status;
    int done;
} file;

void free_files(file *files, Py_ssize_t count);

#endif
