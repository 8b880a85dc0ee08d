/* What directories hold. */

#include "native.h"

#include <sys/syscall.h>

#include "files.h"

enum { LISTING = 128 * 1024 }; /* bytes of a directory that are asked for at a time: some thousand names */

/* What getdents64(2) writes. */
typedef struct {
    uint64_t inode;
    int64_t next;
    unsigned short length;
    unsigned char kind;
    char name[];
} entry;

typedef struct {
    const char *name; /* in the listing */
    struct stat status; /* of what is not looked at no more than the type of `st_mode` */
} named;

enum look { AT_NONE, AT_ALL, AT_FILES }; /* what is looked at; where a filesystem tells no types all is */

/* List (and look at) some names; NULL with an error number, and with the name where one is to blame.
 *
 * `*room` is the listing's, and then what it has left.
 */
static named *list_names(int fd, enum look look, char *listing, size_t *room, size_t *count, int *error,
                         const char **blamed)
{
    long size;
    *count = 0;
    do {
        size = syscall(SYS_getdents64, fd, listing, *room);
        for (long at = 0; at < size; at += ((entry *)(listing + at))->length) {
            const char *name = ((entry *)(listing + at))->name;
            *count += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        }
    } while ((size > 0 && *count == 0) || (size < 0 && errno == EINTR));
    if (size < 0 && errno == ENOENT) /* the directory itself was removed: readdir(3) says that this is its end */
        size = 0;
    named *found = size < 0 ? NULL : malloc((*count + 1) * sizeof *found), *next = found;
    *error = size < 0 ? errno : ENOMEM;
    *room -= size < 0 ? 0 : (size_t)size;
    for (long at = 0; found && at < size; at += ((entry *)(listing + at))->length) {
        const char *name = ((entry *)(listing + at))->name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        next->name = name;
        unsigned char kind = ((entry *)(listing + at))->kind;
        mode_t type = (mode_t)kind << 12; /* as DTTOIF of <dirent.h> has it */
        if (kind != 0 && look != AT_ALL && !(look == AT_FILES && type == S_IFREG)) { /* DT_UNKNOWN: it does not say */
            next->status.st_mode = type;
            next++;
            continue;
        }
        if (fstatat(fd, name, &next->status, AT_SYMLINK_NOFOLLOW) < 0) {
            *error = errno;
            *blamed = name;
            free(found);
            return NULL;
        }
        next++;
    }
    return found;
}

enum { NAME_MOST = 255 }; /* bytes */

/* Tell whether it is a regular file, and its name is of any user's files and the same in any encoding. */
static int is_plain(const named *n)
{
    const char *end = n->name;
    while ((unsigned char)(*end - 1) < 0x7f) /* neither its end nor the beginning of more than ASCII */
        end++;
    return S_ISREG(n->status.st_mode) && *end == 0 && strncmp(n->name, "..", 2) != 0 && end - n->name <= NAME_MOST;
}

enum {
    PAGES_MOST = 1024,      /* pages (of one directory or of several) that are listed in one go, */
    PAGE_LEAST = 32 * 1024, /* bytes that one is given room for, */
    NAMES_MANY = 4096,      /* and names after which no more are */
};

/* Some names of a directory, the last ones if there are none. */
typedef struct {
    Py_ssize_t directory;
    named *names; /* NULL: it could not be listed */
    size_t count;
    int error;
} page;

/* What is being listed. */
typedef struct {
    int top_fd;
    file *directories; /* as far as they are names, below the top */
    Py_ssize_t count, next;
    int fd; /* of the next one, if it is open; else -1 */
    enum look look;
    char *listing;
    page *pages;
    size_t used; /* pages */
} listing_of;

static page list_page(listing_of *l, char *listing, size_t *room)
{
    page found = {.directory = l->next};
    const char *blamed = NULL, *name = l->directories[l->next].name;
    if (l->fd < 0)
        l->fd = open_retrying(l->top_fd, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (l->fd < 0)
        found.error = errno;
    else
        found.names = list_names(l->fd, l->look, listing, room, &found.count, &found.error, &blamed);
    if (!found.names)
        found.count = 0;
    if (!found.count) { /* its end, or an error */
        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
        l->next++;
    }
    return found;
}

/* List some pages, without the GIL. */
static void list_pages(listing_of *l)
{
    size_t names = 0, room = LISTING;
    for (l->used = 0; l->next < l->count && l->used < PAGES_MOST && room >= PAGE_LEAST && names < NAMES_MANY;) {
        page one = list_page(l, l->listing + LISTING - room, &room);
        l->pages[l->used++] = one;
        names += one.count;
    }
}

/* Put a page's names where they belong; `path` has room for a name after the directory's. 0, or -1 with an exception. */
static int sort_out(const page *one, char *path, size_t prefix, PyObject *nothing, PyObject *files, PyObject *others)
{
    int failed = 0, plain = 0;
    for (size_t i = 0; i < one->count && !failed; i++) {
        const named *n = one->names + i;
        PyObject *stamp = nothing == Py_None ? stamp_of(&n->status) : Py_NewRef(nothing), *key, *item = NULL;
        if (is_plain(n)) {
            size_t size = strlen(n->name);
            memcpy(path + prefix, n->name, size);
            key = PyUnicode_FromStringAndSize(path, (Py_ssize_t)(prefix + size));
            failed = !key || !stamp || PyDict_SetItem(files, key, stamp) < 0;
            plain++;
        } else {
            PyObject *mode = PyLong_FromUnsignedLong(n->status.st_mode & (nothing == Py_None ? ~0u : (unsigned)S_IFMT));
            key = PyUnicode_DecodeFSDefault(n->name);
            item = key && mode && stamp ? PyTuple_Pack(3, key, mode, stamp) : NULL;
            failed = !item || PyList_Append(others, item) < 0;
            Py_XDECREF(mode);
        }
        Py_XDECREF(item);
        Py_XDECREF(key);
        Py_XDECREF(stamp);
    }
    return failed ? -1 : plain;
}

/* Add what a page says of its directory to its [holds plain files, others, error number]; 0, or -1 with an exception. */
static int add_page(const page *one, const char *directory, PyObject *nothing, PyObject *files, PyObject *found)
{
    size_t prefix = strlen(directory);
    char *path = PyMem_Malloc(prefix + 1 + NAME_MOST);
    if (!path) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(path, directory, prefix);
    if (prefix)
        path[prefix++] = '/';
    PyObject *listed = PyList_GetItem(found, one->directory), *error;
    int plain = sort_out(one, path, prefix, nothing, files, PyList_GetItem(listed, 1)), failed = plain < 0;
    if (plain > 0)
        failed = PyList_SetItem(listed, 0, Py_NewRef(Py_True)) < 0;
    if (!failed && !one->names)
        failed = !(error = PyLong_FromLong(one->error)) || PyList_SetItem(listed, 2, error) < 0;
    PyMem_Free(path);
    return -failed;
}

/* For each directory a [False, [], 0]. */
static PyObject *nothing_listed(Py_ssize_t count)
{
    PyObject *found = PyList_New(count);
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *one = Py_BuildValue("[O[]i]", Py_False, 0);
        if (!one || PyList_SetItem(found, i, one) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* list_directories(top_fd, paths, nothing, files) -> list of [holds plain files, others, error number].
 *
 * The path of each plain file gets its stamp in `files`; `others` are (name, mode, stamp) of each other name. If
 * `nothing` is not None it stands for each stamp, and modes are no more than types.
 */
PyObject *list_directories(PyObject *self, PyObject *arguments)
{
    PyObject *sequence, *nothing, *files, *found = NULL;
    listing_of l = {.fd = -1};
    int failed;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iOOO!", &l.top_fd, &sequence, &nothing, &PyDict_Type, &files))
        return NULL;
    PyObject *paths = PySequence_List(sequence);
    if (!paths)
        return NULL;
    l.count = PyList_Size(paths);
    l.look = nothing == Py_None ? AT_ALL : AT_NONE;
    l.directories = PyMem_Calloc((size_t)l.count + 1, sizeof *l.directories);
    l.listing = PyMem_Malloc(LISTING);
    l.pages = PyMem_Malloc(PAGES_MOST * sizeof *l.pages);
    failed = !l.directories || !l.listing || !l.pages;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < l.count && !failed; i++)
        failed = !(l.directories[i].name = name_of(PyList_GetItem(paths, i), &l.directories[i].encoded));
    if (!failed)
        failed = !(found = nothing_listed(l.count));
    while (!failed && l.next < l.count) {
        Py_BEGIN_ALLOW_THREADS
        list_pages(&l);
        Py_END_ALLOW_THREADS
        for (size_t i = 0; i < l.used; i++) {
            failed = failed || add_page(l.pages + i, l.directories[l.pages[i].directory].name, nothing, files, found) < 0;
            free(l.pages[i].names);
        }
    }
    if (l.fd >= 0)
        close(l.fd);
    free_files(l.directories, l.count);
    PyMem_Free(l.listing);
    PyMem_Free(l.pages);
    Py_DECREF(paths);
    if (failed)
        Py_CLEAR(found);
    return found;
}

enum { TEXT_MOST = 4096 }; /* bytes: one more than Linux keeps of a symbolic link */

/* Read each symbolic link into one growing buffer; its length, or -1, becomes its `st_size`. 0, or -1 without memory. */
static int read_texts(int fd, named *names, size_t count, char **texts)
{
    size_t used = 0, room = 0;
    for (size_t i = 0; i < count; i++) {
        if (!S_ISLNK(names[i].status.st_mode))
            continue;
        if (room - used < TEXT_MOST) {
            room = 2 * room + 16 * TEXT_MOST;
            char *larger = realloc(*texts, room);
            if (!larger)
                return -1;
            *texts = larger;
        }
        ssize_t size = readlinkat(fd, names[i].name, *texts + used, TEXT_MOST);
        names[i].status.st_size = size < TEXT_MOST ? size : -1;
        if (size > 0 && size < TEXT_MOST)
            used += (size_t)size;
    }
    return 0;
}

/* A file's size, a link's text, None of anything else; `*text` is the next link's. */
static PyObject *offered(const struct stat *status, const char **text)
{
    if (S_ISREG(status->st_mode))
        return PyLong_FromLongLong(status->st_size);
    if (!S_ISLNK(status->st_mode) || status->st_size < 0)
        return Py_NewRef(Py_None);
    const char *here = *text;
    *text += status->st_size;
    return PyUnicode_DecodeFSDefaultAndSize(here, (Py_ssize_t)status->st_size);
}

static PyObject *list_of_offered(const named *names, size_t count, const char *text)
{
    static const mode_t types[] = {S_IFREG, S_IFLNK, S_IFDIR}; /* nearly all are: one object for each will do */
    PyObject *kinds[3], *found = PyList_New((Py_ssize_t)count);
    for (int i = 0; i < 3; i++)
        if (!(kinds[i] = PyLong_FromUnsignedLong(types[i])))
            Py_CLEAR(found);
    for (size_t i = 0; found && i < count; i++) {
        mode_t type = names[i].status.st_mode & S_IFMT;
        int known = type == S_IFREG ? 0 : type == S_IFLNK ? 1 : type == S_IFDIR ? 2 : -1;
        PyObject *kind = known < 0 ? PyLong_FromUnsignedLong(type) : Py_NewRef(kinds[known]);
        PyObject *name = PyUnicode_DecodeFSDefault(names[i].name), *what = offered(&names[i].status, &text);
        PyObject *item = kind && name && what ? PyTuple_Pack(3, name, kind, what) : NULL;
        Py_XDECREF(kind);
        Py_XDECREF(name);
        Py_XDECREF(what);
        if (!item || PyList_SetItem(found, (Py_ssize_t)i, item) < 0)
            Py_CLEAR(found);
    }
    for (int i = 0; i < 3; i++)
        Py_XDECREF(kinds[i]);
    return found;
}

/* survey_directory(fd) -> list: the next names in an opened directory; empty at its end.
 *
 * Of (name, the mode's type, a regular file's size or a symbolic link's text or None): None of a link that could not
 * be read, too.
 */
PyObject *survey_directory(PyObject *self, PyObject *arguments)
{
    size_t count = 0, room = LISTING;
    int fd, error = 0, failed = 0;
    const char *blamed = NULL;
    char *texts = NULL;
    PyObject *found = NULL;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "i", &fd))
        return NULL;
    char *listing = PyMem_Malloc(LISTING);
    if (!listing)
        return PyErr_NoMemory();
    named *names;
    Py_BEGIN_ALLOW_THREADS /* a file server may hang */
    names = list_names(fd, AT_FILES, listing, &room, &count, &error, &blamed);
    failed = names ? read_texts(fd, names, count, &texts) : 0;
    Py_END_ALLOW_THREADS
    if (!names)
        raise_for(error, blamed);
    else
        found = failed ? PyErr_NoMemory() : list_of_offered(names, count, texts);
    free(texts);
    free(names);
    PyMem_Free(listing);
    return found;
}
