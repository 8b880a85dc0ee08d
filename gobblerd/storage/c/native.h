/* The functions of `_native` (what each does is said where it is; `../_native.pyi` has their types). */

#ifndef GOBBLERD_NATIVE_H
#define GOBBLERD_NATIVE_H

#include "extension.h"

PyObject *md5_start(PyObject *self, PyObject *argument);
PyObject *md5_update(PyObject *self, PyObject *arguments);
PyObject *md5_finish(PyObject *self, PyObject *argument);
PyObject *read_files(PyObject *self, PyObject *arguments);
PyObject *digest_files(PyObject *self, PyObject *arguments);
PyObject *digest_names(PyObject *self, PyObject *arguments);
PyObject *xxh3_128(PyObject *self, PyObject *argument);
PyObject *sums_start(PyObject *self, PyObject *argument);
PyObject *hash_files(PyObject *self, PyObject *arguments);
PyObject *sums_of(PyObject *self, PyObject *arguments);
PyObject *write_files(PyObject *self, PyObject *arguments);
PyObject *unlink_files(PyObject *self, PyObject *arguments);
PyObject *list_directories(PyObject *self, PyObject *arguments);
PyObject *survey_directory(PyObject *self, PyObject *arguments);
PyObject *make_links(PyObject *self, PyObject *arguments);

#endif
