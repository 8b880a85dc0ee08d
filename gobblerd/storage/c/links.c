/* Many symbolic links in one go. */

#include "native.h"

typedef struct {
    const char *name, *text; /* live as long as their keepers */
    PyObject *name_keeper, *text_keeper;
} symlink_to;

static void free_symlinks(symlink_to *links, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; links && i < count; i++) {
        Py_XDECREF(links[i].name_keeper);
        Py_XDECREF(links[i].text_keeper);
    }
    PyMem_Free(links);
}

/* make_links(dir_fd, [(name, text)]): make symbolic links, each new; OSError names the one that could not be made. */
PyObject *make_links(PyObject *self, PyObject *arguments)
{
    PyObject *sequence;
    int dir_fd, error = 0;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iO", &dir_fd, &sequence))
        return NULL;
    PyObject *items = PySequence_List(sequence);
    if (!items)
        return NULL;
    Py_ssize_t count = PyList_Size(items), parsed = 0, at = 0;
    symlink_to *links = PyMem_Calloc((size_t)count + 1, sizeof *links);
    if (!links)
        PyErr_NoMemory();
    for (; links && parsed < count; parsed++) {
        PyObject *item = PyList_GetItem(items, parsed), *name = PyTuple_GetItem(item, 0), *text = PyTuple_GetItem(item, 1);
        if (!name || !text || !(links[parsed].name = name_of(name, &links[parsed].name_keeper)) ||
            !(links[parsed].text = name_of(text, &links[parsed].text_keeper)))
            break;
    }
    if (links && parsed == count) {
        Py_BEGIN_ALLOW_THREADS
        for (; at < count && !error; at++)
            if (symlinkat(links[at].text, dir_fd, links[at].name) < 0)
                error = errno;
        Py_END_ALLOW_THREADS
    }
    if (error)
        raise_for(error, links[at - 1].name);
    free_symlinks(links, count);
    Py_DECREF(items);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}
