/* The names in a directory as JSON, a page at a time, read and put in order without the interpreter's lock.
 *
 * The rules are those of listing.py, which has the same in Python: nothing is followed, hidden names and names
 * that are not UTF-8 are left out, files and directories are in order by name (bytes of UTF-8 have the order of
 * the characters). The text is what msgspec makes of the names.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAPSULE "gobblerd.registry._names.directory"

typedef struct {
    size_t start, length; /* of the name among all names; of a directory that is listed as one: with its `/` */
    const char *name;     /* the same, once all names are there */
    uint64_t key;         /* of the order */
    int is_directory, is_ascii;
} item;

typedef struct {
    char *bytes;
    size_t length, room;
} growing;

typedef struct {
    item *items;
    size_t count, room;
    growing names;
    const item **order;
} page;

/* ---- reading ------------------------------------------------------------------------------------------ */

static int append(growing *to, const char *bytes, size_t length)
{
    if (to->length + length > to->room) {
        size_t room = (to->length + length) * 2 + 4096;
        char *moved = realloc(to->bytes, room);
        if (!moved)
            return -1;
        to->bytes = moved;
        to->room = room;
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    return 0;
}

static int is_ascii(const char *name)
{
    for (; *name; name++)
        if (*name & 0x80)
            return 0;
    return 1;
}

/* 1: a directory, 0: anything else, or gone by now; -1 with errno. */
static int judge(DIR *directory, const struct dirent *entry)
{
    struct stat status;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISDIR(status.st_mode);
    return errno == ENOENT ? 0 : -1;
}

static int keep(page *to, const struct dirent *entry, int is_directory)
{
    if (to->count == to->room) {
        size_t room = to->room * 2 + 64;
        item *moved = realloc(to->items, room * sizeof *moved);
        if (!moved)
            return -1;
        to->items = moved;
        to->room = room;
    }
    item *kept = to->items + to->count++;
    kept->start = to->names.length;
    kept->length = strlen(entry->d_name);
    kept->is_directory = is_directory;
    kept->is_ascii = is_ascii(entry->d_name);
    return append(&to->names, entry->d_name, kept->length + 1);
}

/* Read the next `most` names, hidden ones too; 0, or an error number. */
static int read_page(DIR *directory, size_t most, page *to)
{
    while (to->count < most) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (!entry)
            return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int is_directory = judge(directory, entry);
        if (is_directory < 0)
            return errno;
        if (keep(to, entry, is_directory) < 0)
            return ENOMEM;
    }
    return 0;
}

/* ---- order and text ----------------------------------------------------------------------------------- */

static size_t common_start(const item *one, const item *other, size_t most)
{
    size_t at = 0;
    while (at < most && at < one->length && at < other->length && one->name[at] == other->name[at])
        at++;
    return at;
}

/* Eight bytes behind what all names begin with, so that most comparisons are of two numbers. */
static void give_keys(page *to)
{
    size_t skipped = to->count ? to->items[0].length : 0;
    for (size_t i = 0; i < to->count; i++)
        skipped = common_start(to->items, to->items + i, skipped);
    for (size_t i = 0; i < to->count; i++) {
        item *one = to->items + i;
        one->key = 0;
        for (size_t at = skipped; at < skipped + 8; at++)
            one->key = one->key << 8 | (at < one->length ? (unsigned char)one->name[at] : 0);
    }
}

static int by_name(const void *one, const void *other)
{
    const item *a = *(const item *const *)one, *b = *(const item *const *)other;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    size_t common = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->name, b->name, common);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* 0, or -1: no memory. */
static int put_in_order(page *of)
{
    of->order = malloc((of->count + 1) * sizeof *of->order);
    if (!of->order)
        return -1;
    for (size_t i = 0; i < of->count; i++)
        of->order[i] = of->items + i;
    give_keys(of);
    qsort(of->order, of->count, sizeof *of->order, by_name);
    return 0;
}

static int append_escaped(growing *to, const char *bytes, size_t length)
{
    static const char hexadecimal[] = "0123456789abcdef";
    size_t plain = 0;
    for (size_t at = 0; at < length; at++) {
        unsigned char c = (unsigned char)bytes[at];
        char escape[6] = {'\\', 0, '0', '0', 0, 0};
        size_t size = 2;
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        switch (c) {
        case '\b': escape[1] = 'b'; break;
        case '\t': escape[1] = 't'; break;
        case '\n': escape[1] = 'n'; break;
        case '\f': escape[1] = 'f'; break;
        case '\r': escape[1] = 'r'; break;
        case '"':
        case '\\': escape[1] = (char)c; break;
        default:
            escape[1] = 'u';
            escape[4] = hexadecimal[c >> 4];
            escape[5] = hexadecimal[c & 15];
            size = 6;
        }
        if (append(to, bytes + plain, at - plain) < 0 || append(to, escape, size) < 0)
            return -1;
        plain = at + 1;
    }
    return append(to, bytes + plain, length - plain);
}

/* Write the names, but for directories where they are gone into, each behind the prefix; 0 or -1: no memory. */
static int write_names(const page *from, const char *prefix, size_t length, int deep, growing *text)
{
    growing start = {0};
    int failed = append(&start, ",\"", 2) < 0 || append_escaped(&start, prefix, length) < 0;
    for (size_t i = 0; !failed && i < from->count; i++) {
        const item *one = from->order[i];
        if (one->is_directory && deep)
            continue;
        size_t comma = text->length == 0;
        failed = append(text, start.bytes + comma, start.length - comma) < 0 ||
                 append_escaped(text, one->name, one->length) < 0 || append(text, "\"", 1) < 0;
    }
    free(start.bytes);
    return failed ? -1 : 0;
}

/* ---- what Python calls -------------------------------------------------------------------------------- */

static void close_directory(PyObject *capsule)
{
    closedir(PyCapsule_GetPointer(capsule, CAPSULE));
}

/* opened(fd) -> a directory of which pages are read; the descriptor stays the caller's. */
static PyObject *opened(PyObject *self, PyObject *argument)
{
    (void)self;
    long fd = PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    int mine = fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
    DIR *directory = mine < 0 ? NULL : fdopendir(mine);
    if (!directory) {
        PyErr_SetFromErrno(PyExc_OSError);
        if (mine >= 0)
            close(mine);
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(directory, CAPSULE, close_directory);
    if (!capsule)
        closedir(directory);
    return capsule;
}

/* 1: readers may see it; 0: it is hidden, or no text; -1: an exception. */
static int is_visible(const item *one, const char *const *hidden)
{
    if (!one->is_ascii) {
        PyObject *text = PyUnicode_DecodeUTF8(one->name, (Py_ssize_t)one->length, NULL);
        if (!text && !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            return -1;
        PyErr_Clear();
        Py_XDECREF(text);
        return text != NULL;
    }
    for (; *hidden; hidden++)
        if (one->name[0] == **hidden && strcmp(one->name, *hidden) == 0)
            return 0;
    return 1;
}

/* Return the bytes of a tuple, and NULL after the last; NULL with an exception. */
static const char **bytes_of(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    const char **all = PyMem_Calloc((size_t)count + 1, sizeof *all);
    if (!all)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; all && i < count; i++)
        if (!(all[i] = PyBytes_AsString(PyTuple_GetItem(tuple, i)))) {
            PyMem_Free(all);
            return NULL;
        }
    return all;
}

/* Leave out what readers may not see, and give listed directories their `/`; -1: an exception. */
static int choose(page *of, PyObject *hidden, int deep)
{
    size_t kept = 0;
    const char **names = bytes_of(hidden);
    for (size_t i = 0; names && i < of->count; i++) {
        item *one = of->items + i;
        one->name = of->names.bytes + one->start;
        int visible = is_visible(one, names);
        if (visible < 0)
            break;
        if (!visible)
            continue;
        if (one->is_directory && !deep) /* in place of the NUL */
            of->names.bytes[one->start + one->length++] = '/';
        of->items[kept++] = *one;
    }
    PyMem_Free(names);
    of->count = kept;
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *directories_of(const page *of, int deep)
{
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found && deep && i < of->count; i++) {
        const item *one = of->order[i];
        if (!one->is_directory)
            continue;
        PyObject *name = PyUnicode_DecodeFSDefaultAndSize(one->name, (Py_ssize_t)one->length);
        if (!name || PyList_Append(found, name) < 0)
            Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

/* next_page(directory, prefix, hidden, most, deep) -> (text, directories), None at the end.
 *
 * `deep`: directories are not in the text, but in a list. OSError where it cannot be read. */
static PyObject *next_page(PyObject *self, PyObject *arguments)
{
    PyObject *capsule, *hidden, *found = NULL;
    const char *prefix;
    Py_ssize_t length, most;
    int deep;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Oy#O!np", &capsule, &prefix, &length, &PyTuple_Type, &hidden, &most, &deep))
        return NULL;
    DIR *directory = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!directory)
        return NULL;
    page one = {0};
    growing text = {0};
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = read_page(directory, (size_t)most, &one);
    Py_END_ALLOW_THREADS
    if (failed) {
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
    } else if (one.count == 0)
        found = Py_NewRef(Py_None);
    else if (choose(&one, hidden, deep) == 0) {
        Py_BEGIN_ALLOW_THREADS
        failed = put_in_order(&one) < 0 || write_names(&one, prefix, (size_t)length, deep, &text) < 0;
        Py_END_ALLOW_THREADS
        PyObject *directories = failed ? PyErr_NoMemory() : directories_of(&one, deep);
        if (directories)
            found = Py_BuildValue("y#N", text.bytes ? text.bytes : "", (Py_ssize_t)text.length, directories);
    }
    free(text.bytes);
    free(one.items);
    free(one.order);
    free(one.names.bytes);
    return found;
}

static PyMethodDef METHODS[] = {
    {"opened", opened, METH_O, NULL},
    {"next_page", next_page, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_names",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__names(void)
{
    return PyModuleDef_Init(&MODULE);
}
