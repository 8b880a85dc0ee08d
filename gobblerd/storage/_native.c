/* Checksums of many byte strings and files side by side, and the system calls for many names in one go.
 *
 * Everything here works without the interpreter's lock, and everything has a twin in Python (lanes.py, batches.py)
 * that is used where this module could not be built; the same tests run against both.
 */

#include "c/native.h"

static PyMethodDef METHODS[] = {
    {"md5_start", md5_start, METH_O, NULL},
    {"md5_update", md5_update, METH_VARARGS, NULL},
    {"md5_finish", md5_finish, METH_O, NULL},
    {"read_files", read_files, METH_VARARGS, NULL},
    {"digest_files", digest_files, METH_VARARGS, NULL},
    {"digest_names", digest_names, METH_VARARGS, NULL},
    {"xxh3_128", xxh3_128, METH_O, NULL},
    {"sums_start", sums_start, METH_O, NULL},
    {"hash_files", hash_files, METH_VARARGS, NULL},
    {"sums_of", sums_of, METH_VARARGS, NULL},
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
