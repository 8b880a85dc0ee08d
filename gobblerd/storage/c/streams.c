/* Python's streams of MD5 (lanes.py). */

#include "native.h"

#include "md5.h"

/* The buffers of a sequence; NULL with an exception. Give back with `release`. */
static Py_buffer *acquire(PyObject *sequence, Py_ssize_t *count)
{
    PyObject *items = PySequence_List(sequence);
    if (!items)
        return NULL;
    *count = PyList_Size(items);
    Py_buffer *views = PyMem_Calloc((size_t)*count + 1, sizeof *views);
    if (!views)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; views && i < *count; i++)
        if (PyObject_GetBuffer(PyList_GetItem(items, i), views + i, PyBUF_SIMPLE) < 0) {
            while (i-- > 0)
                PyBuffer_Release(views + i);
            PyMem_Free(views);
            views = NULL;
        }
    Py_DECREF(items);
    return views;
}

static void release(Py_buffer *views, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++)
        PyBuffer_Release(views + i);
    PyMem_Free(views);
}

/* md5_start(count) -> bytearray: the states of so many streams. */
PyObject *md5_start(PyObject *self, PyObject *argument)
{
    Py_ssize_t count = PyLong_AsSsize_t(argument);
    (void)self;
    if (count == -1 && PyErr_Occurred())
        return NULL;
    if (count < 0 || count > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(stream)) {
        PyErr_SetString(PyExc_ValueError, "no such number of streams");
        return NULL;
    }
    PyObject *states = PyByteArray_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(stream));
    if (!states)
        return NULL;
    stream *streams = (stream *)PyByteArray_AsString(states);
    for (Py_ssize_t i = 0; i < count; i++)
        start_stream(streams + i);
    return states;
}

/* md5_update(states, buffers): add each buffer to its stream. */
PyObject *md5_update(PyObject *self, PyObject *arguments)
{
    Py_buffer states;
    PyObject *sequence;
    Py_ssize_t count;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "w*O", &states, &sequence))
        return NULL;
    Py_buffer *views = acquire(sequence, &count);
    work *todo = views ? PyMem_Calloc((size_t)count + 1, sizeof *todo) : NULL;
    piece *pieces = views ? PyMem_Calloc((size_t)count + 1, sizeof *pieces) : NULL;
    int fits = views && states.len == count * (Py_ssize_t)sizeof(stream);
    if (views && !fits)
        PyErr_SetString(PyExc_ValueError, "as many buffers as streams are needed");
    else if (views && !(todo && pieces))
        PyErr_NoMemory();
    if (fits && todo && pieces) {
        for (Py_ssize_t i = 0; i < count; i++)
            pieces[i] = (piece){views[i].buf, (size_t)views[i].len};
        Py_BEGIN_ALLOW_THREADS
        update_streams(states.buf, pieces, (size_t)count, todo);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(todo);
    PyMem_Free(pieces);
    if (views)
        release(views, count);
    PyBuffer_Release(&states);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* md5_finish(states) -> bytes: the digests one after another, 16 bytes each; the states are left as they were. */
PyObject *md5_finish(PyObject *self, PyObject *argument)
{
    Py_buffer states;
    (void)self;
    if (PyObject_GetBuffer(argument, &states, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t count = (size_t)states.len / sizeof(stream);
    stream *streams = PyMem_Malloc(count * sizeof *streams + 1);
    work *todo = PyMem_Malloc(count * sizeof *todo + 1);
    uint8_t *padding = PyMem_Malloc(2 * BLOCK * count + 1);
    PyObject *digests = NULL;
    if (streams && todo && padding)
        digests = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(16 * count));
    else
        PyErr_NoMemory();
    if (digests) {
        char *out = PyBytes_AsString(digests);
        memcpy(streams, states.buf, count * sizeof *streams);
        Py_BEGIN_ALLOW_THREADS
        finish_streams(streams, count, todo, padding);
        for (size_t i = 0; i < count; i++)
            memcpy(out + 16 * i, streams[i].state, 16);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(streams);
    PyMem_Free(todo);
    PyMem_Free(padding);
    PyBuffer_Release(&states);
    return digests;
}
