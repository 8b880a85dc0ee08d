/* What many manifests add up to, and where their links go, in one call without the interpreter's lock.
 *
 * Understands the manifests that gobblerd and the Go service write: an object of objects with `size`, `md5sum`
 * and `link`, plain ASCII without escapes, paths in ascending order (so that none is there twice). Whatever is
 * not exactly that gives None, and is for the caller to parse in full: this never says that a manifest is wrong.
 */

#include "c/manifests.h"

#define RECENT 16 /* targets that are made once for many links */

/* A tuple of these, which it takes over; NULL if any of them is, or none can be made. */
static PyObject *tuple_of(Py_ssize_t many, PyObject **parts)
{
    PyObject *tuple = PyTuple_New(many);
    for (Py_ssize_t at = 0; at < many; at++) /* not by a format, which takes twice as long */
        if (!tuple || !parts[at]) {
            Py_CLEAR(tuple);
            Py_XDECREF(parts[at]);
        } else if (PyTuple_SetItem(tuple, at, parts[at]) < 0)
            Py_CLEAR(tuple);
    return tuple;
}

static PyObject *string_of(const text *t)
{
    return PyUnicode_FromStringAndSize((const char *)t->start, (Py_ssize_t)t->length);
}

static PyObject *target_of(const found_link *link)
{
    PyObject *parts[PARTS + 1], *ancestor[PARTS];
    for (int at = 0; at < PARTS; at++)
        parts[at] = string_of(&link->parent[at]);
    for (int at = 0; link->has_ancestor && at < PARTS; at++)
        ancestor[at] = string_of(&link->ancestor[at]);
    parts[PARTS] = link->has_ancestor ? tuple_of(PARTS, ancestor) : Py_NewRef(Py_None);
    return tuple_of(PARTS + 1, parts);
}

static int are_same(const text *left, const text *right)
{
    for (int part = 0; part < PARTS; part++)
        if (left[part].length != right[part].length || memcmp(left[part].start, right[part].start, left[part].length))
            return 0;
    return 1;
}

/* The last targets that were made: links of many versions go to few files. */
typedef struct {
    const found_link *links[RECENT];
    PyObject *targets[RECENT];
    size_t next;
} recent;

static PyObject *recent_target_of(const found_link *link, recent *known)
{
    for (size_t at = 0; at < RECENT && known->targets[at]; at++)
        if (known->links[at]->has_ancestor == link->has_ancestor && are_same(known->links[at]->parent, link->parent) &&
            (!link->has_ancestor || are_same(known->links[at]->ancestor, link->ancestor)))
            return Py_NewRef(known->targets[at]);
    PyObject *made = target_of(link);
    if (made) {
        size_t at = known->next++ % RECENT;
        Py_XDECREF(known->targets[at]);
        known->targets[at] = Py_NewRef(made);
        known->links[at] = link;
    }
    return made;
}

static PyObject *links_of(const links_wanted *wanted, recent *known)
{
    PyObject *found = PyList_New((Py_ssize_t)wanted->many);
    for (size_t at = 0; found && at < wanted->many; at++) {
        const found_link *link = &wanted->all[at];
        PyObject *item = tuple_of(3, (PyObject *[]){string_of(&link->path), PyLong_FromLongLong(link->size),
                                                    recent_target_of(link, known)});
        if (!item || PyList_SetItem(found, (Py_ssize_t)at, item) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* `known` is for links, and NULL for sums. */
static PyObject *result_of(const manifest *m, recent *known)
{
    if (!m->is_known)
        return Py_NewRef(Py_None);
    PyObject *what = known ? links_of(&m->wanted, known) : PyLong_FromLongLong(m->total);
    return tuple_of(2, (PyObject *[]){stamp_of(&m->status), what});
}

/* Take the paths; with an exception set if any is none. */
static manifest *manifests_at(PyObject *paths, Py_ssize_t *many)
{
    *many = PySequence_Size(paths);
    manifest *all = *many < 0 ? NULL : calloc(*many ? (size_t)*many : 1, sizeof *all);
    if (!all && *many >= 0)
        PyErr_NoMemory();
    for (Py_ssize_t at = 0; all && at < *many && !PyErr_Occurred(); at++) {
        PyObject *path = PySequence_GetItem(paths, at);
        all[at].name = path ? name_of(path, &all[at].path) : NULL;
        Py_XDECREF(path);
    }
    return all;
}

static PyObject *results(manifest *all, Py_ssize_t many, int with_links)
{
    recent known = {.next = 0};
    PyObject *found = PyErr_Occurred() ? NULL : PyList_New(many);
    for (Py_ssize_t at = 0; found && at < many; at++) {
        PyObject *result = result_of(all + at, with_links ? &known : NULL);
        if (!result || PyList_SetItem(found, at, result) < 0)
            Py_CLEAR(found);
    }
    for (size_t at = 0; at < RECENT; at++)
        Py_XDECREF(known.targets[at]);
    for (Py_ssize_t at = 0; all && at < many; at++) {
        Py_XDECREF(all[at].path);
        free(all[at].texts);
        free(all[at].wanted.all);
    }
    free(all);
    return found;
}

/* count(paths): for each the stamp (inode, size, mtime, ctime) and the bytes of what is no link, or None. */
static PyObject *count(PyObject *self, PyObject *paths)
{
    (void)self;
    Py_ssize_t many;
    manifest *all = manifests_at(paths, &many);
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        work_on(all, many, NULL);
        Py_END_ALLOW_THREADS
    }
    return results(all, many, 0);
}

/* links(paths, projects): for each the stamp and its links whose parent or ancestor is in one of the
 * projects (bytes), as (path, size, (project, asset, version, path, ancestor or None)), or None. */
static PyObject *links(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *paths, *names;
    if (!PyArg_ParseTuple(args, "OO!", &paths, &PyTuple_Type, &names))
        return NULL;
    Py_ssize_t many, many_names = PyTuple_Size(names);
    text *projects = calloc(many_names ? (size_t)many_names : 1, sizeof *projects);
    if (!projects)
        return PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < many_names; at++) {
        char *start;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(names, at), &start, &length) < 0) {
            free(projects);
            return NULL;
        }
        projects[at] = (text){(const uint8_t *)start, (size_t)length};
    }
    links_wanted wanted = {.projects = projects, .many_projects = (size_t)many_names};
    manifest *all = manifests_at(paths, &many);
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        work_on(all, many, &wanted);
        Py_END_ALLOW_THREADS
    }
    free(projects);
    return results(all, many, 1);
}

/* stamps(paths): for each the stamp of what is there, or None. */
static PyObject *stamps(PyObject *self, PyObject *paths)
{
    (void)self;
    Py_ssize_t many;
    manifest *all = manifests_at(paths, &many);
    PyObject *found = PyErr_Occurred() ? NULL : PyList_New(many);
    if (found) {
        Py_BEGIN_ALLOW_THREADS
        look_at(all, many);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t at = 0; found && at < many; at++) {
        PyObject *stamp = all[at].is_known ? stamp_of(&all[at].status) : Py_NewRef(Py_None);
        if (!stamp || PyList_SetItem(found, at, stamp) < 0)
            Py_CLEAR(found);
    }
    for (Py_ssize_t at = 0; all && at < many; at++)
        Py_XDECREF(all[at].path);
    free(all);
    return found;
}

/* Take the stamps of a list; NULL with an exception set if any is none. */
static long long (*stamps_of(PyObject *list, Py_ssize_t many))[4]
{
    long long(*known)[4] = PyMem_Calloc((size_t)many + 1, sizeof *known);
    if (!known)
        PyErr_NoMemory();
    else if (PyList_Size(list) != many)
        PyErr_SetString(PyExc_ValueError, "as many stamps as paths are needed");
    for (Py_ssize_t at = 0; known && at < many && !PyErr_Occurred(); at++) {
        PyObject *stamp = PyList_GetItem(list, at);
        for (int part = 0; stamp && part < 4 && !PyErr_Occurred(); part++) {
            PyObject *value = PyTuple_GetItem(stamp, part);
            if (value) /* an inode may have all 64 bits */
                known[at][part] = part ? PyLong_AsLongLong(value) : (long long)PyLong_AsUnsignedLongLong(value);
        }
    }
    if (PyErr_Occurred()) {
        PyMem_Free(known);
        known = NULL;
    }
    return known;
}

/* unchanged(paths, stamps): whether each path still has its stamp; both are lists. */
static PyObject *unchanged(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *paths, *list;
    Py_ssize_t many;
    int same = 0;
    if (!PyArg_ParseTuple(args, "OO!", &paths, &PyList_Type, &list))
        return NULL;
    manifest *all = manifests_at(paths, &many);
    long long(*known)[4] = PyErr_Occurred() ? NULL : stamps_of(list, many);
    if (known) {
        Py_BEGIN_ALLOW_THREADS
        same = are_unchanged(all, many, known);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(known);
    for (Py_ssize_t at = 0; all && at < many; at++)
        Py_XDECREF(all[at].path);
    free(all);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(same);
}

static PyMethodDef METHODS[] = {
    {"unchanged", unchanged, METH_VARARGS, NULL},
    {"count", count, METH_O, NULL},
    {"links", links, METH_VARARGS, NULL},
    {"stamps", stamps, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_sums",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__sums(void)
{
    return PyModuleDef_Init(&MODULE);
}
