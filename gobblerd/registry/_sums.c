/* Adding up the sizes of manifests, many in one call without the interpreter's lock.
 *
 * Understands the manifests that gobblerd and the Go service write: an object of objects with `size`, `md5sum`
 * and `link`, plain ASCII without escapes, paths in ascending order (so that none is there twice). Whatever is
 * not exactly that gives None, and is for the caller to parse in full: this never says that a manifest is wrong.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST (512 << 20) /* bytes of one manifest: some 5,000,000 entries */
#define DEEPEST 3       /* of the objects in a link */
#define DIGITS 18       /* of a size: cannot overflow */

typedef struct {
    const uint8_t *at, *end;
} cursor;

typedef struct {
    const uint8_t *start;
    size_t length;
} text;

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

static int take(cursor *c, uint8_t wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted)
        return 0;
    c->at++;
    return 1;
}

static int take_text(cursor *c, text *found)
{
    if (!take(c, '"'))
        return 0;
    found->start = c->at;
    while (c->at < c->end && *c->at >= 0x20 && *c->at < 0x80 && *c->at != '"' && *c->at != '\\')
        c->at++;
    found->length = (size_t)(c->at - found->start);
    return c->at < c->end && *c->at++ == '"';
}

static int take_number(cursor *c, int64_t *found)
{
    int digits = 0;
    skip_space(c);
    int is_zero = c->at < c->end && *c->at == '0';
    for (*found = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9' && digits <= DIGITS; digits++)
        *found = *found * 10 + (*c->at++ - '0');
    return digits > 0 && digits <= DIGITS && !(is_zero && digits > 1);
}

/* An object of texts, and of such objects. */
static int skip_link(cursor *c, int depth)
{
    text ignored;
    if (depth == DEEPEST || !take(c, '{'))
        return 0;
    if (take(c, '}'))
        return 1;
    do {
        if (!take_text(c, &ignored) || !take(c, ':'))
            return 0;
        skip_space(c);
        if (c->at < c->end && *c->at == '{' ? !skip_link(c, depth + 1) : !take_text(c, &ignored))
            return 0;
    } while (take(c, ','));
    return take(c, '}');
}

static int is(const text *found, const char *wanted)
{
    return found->length == strlen(wanted) && !memcmp(found->start, wanted, found->length);
}

/* One entry; adds its size to the total if it is no link. */
static int take_entry(cursor *c, int64_t *total)
{
    int64_t size = 0;
    int sizes = 0, sums = 0, links = 0;
    text key, sum;
    if (!take(c, '{'))
        return 0;
    do {
        if (!take_text(c, &key) || !take(c, ':'))
            return 0;
        if (is(&key, "size") ? sizes++ || !take_number(c, &size)
            : is(&key, "md5sum") ? sums++ || !take_text(c, &sum)
            : is(&key, "link") ? links++ || !skip_link(c, 0)
                               : 1)
            return 0;
    } while (take(c, ','));
    return take(c, '}') && (links || !__builtin_add_overflow(*total, size, total));
}

static int is_after(const text *now, const text *before)
{
    size_t common = now->length < before->length ? now->length : before->length;
    int order = memcmp(now->start, before->start, common);
    return order > 0 || (order == 0 && now->length > before->length);
}

static int add_up(const uint8_t *data, size_t length, int64_t *total)
{
    cursor c = {data, data + length};
    text path, before = {NULL, 0};
    *total = 0;
    if (!take(&c, '{'))
        return 0;
    if (!take(&c, '}')) {
        do {
            if (!take_text(&c, &path) || (before.start && !is_after(&path, &before)) || !take(&c, ':') ||
                !take_entry(&c, total))
                return 0;
            before = path;
        } while (take(&c, ','));
        if (!take(&c, '}'))
            return 0;
    }
    skip_space(&c);
    return c.at == c.end;
}

typedef struct {
    PyObject *path; /* bytes */
    const char *name;
    struct stat status;
    int64_t total;
    int is_known;
} manifest;

/* Read the whole file; 0 if it is not of the size that it had when it was opened. */
static int read_whole(int fd, uint8_t *buffer, size_t size)
{
    size_t done = 0;
    while (done <= size) {
        ssize_t got = read(fd, buffer + done, size + 1 - done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return done == size;
        else if (errno != EINTR)
            return 0;
    }
    return 0;
}

static void count_one(manifest *m, uint8_t **buffer, size_t *room)
{
    int fd = open(m->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    if (!fstat(fd, &m->status) && S_ISREG(m->status.st_mode) && m->status.st_size <= MOST) {
        size_t size = (size_t)m->status.st_size;
        if (size >= *room) {
            free(*buffer);
            *room = size + 4096;
            *buffer = malloc(*room);
        }
        if (!*buffer)
            *room = 0;
        else
            m->is_known = read_whole(fd, *buffer, size) && add_up(*buffer, size, &m->total);
    }
    close(fd);
}

static PyObject *result_of(const manifest *m)
{
    const struct stat *s = &m->status;
    if (!m->is_known)
        return Py_NewRef(Py_None);
    return Py_BuildValue("((KLLL)L)", (unsigned long long)s->st_ino, (long long)s->st_size,
                         (long long)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec,
                         (long long)s->st_ctim.tv_sec * 1000000000 + s->st_ctim.tv_nsec, (long long)m->total);
}

/* count(paths): for each the stamp (inode, size, mtime, ctime) and the bytes of what is no link, or None. */
static PyObject *count(PyObject *self, PyObject *paths)
{
    (void)self;
    Py_ssize_t many = PySequence_Size(paths), at = 0;
    if (many < 0)
        return NULL;
    PyObject *found = PyList_New(many);
    manifest *all = calloc(many ? (size_t)many : 1, sizeof *all);
    if (found && !all)
        PyErr_NoMemory();
    for (; found && all && at < many; at++) {
        PyObject *path = PySequence_GetItem(paths, at);
        if (!path || !PyUnicode_FSConverter(path, &all[at].path)) {
            Py_XDECREF(path);
            break;
        }
        Py_DECREF(path);
        all[at].name = PyBytes_AsString(all[at].path);
    }
    if (found && all && at == many) {
        uint8_t *buffer = NULL;
        size_t room = 0;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t each = 0; each < many; each++)
            count_one(all + each, &buffer, &room);
        free(buffer);
        Py_END_ALLOW_THREADS
        for (Py_ssize_t each = 0; each < many; each++) {
            PyObject *result = result_of(all + each);
            if (!result || PyList_SetItem(found, each, result) < 0)
                break;
        }
    }
    for (Py_ssize_t each = 0; all && each < many; each++)
        Py_XDECREF(all[each].path);
    free(all);
    if (PyErr_Occurred()) {
        Py_XDECREF(found);
        return NULL;
    }
    return found;
}

static PyMethodDef METHODS[] = {{"count", count, METH_O, NULL}, {NULL, NULL, 0, NULL}};
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
