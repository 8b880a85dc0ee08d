/* What many manifests add up to, and where their links go, in one call without the interpreter's lock.
 *
 * Understands the manifests that gobblerd and the Go service write: an object of objects with `size`, `md5sum`
 * and `link`, plain ASCII without escapes, paths in ascending order (so that none is there twice). Whatever is
 * not exactly that gives None, and is for the caller to parse in full: this never says that a manifest is wrong.
 */
#define _GNU_SOURCE /* O_PATH */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST (512 << 20)       /* bytes of one manifest: some 5,000,000 entries */
#define MOST_LINKS (16 << 20)  /* the same where links are kept: each takes several times its length */
#define SPARE 4096            /* room for a manifest that is larger than the one before */
#define DEEPEST 3              /* of the objects in a link */
#define DIGITS 18              /* of a size: cannot overflow */
#define RECENT 16              /* targets that are made once for many links */
#define PARTS 4                /* of a file's address: project, asset, version, path */

typedef struct {
    const uint8_t *at, *end;
} cursor;

typedef struct {
    const uint8_t *start;
    size_t length;
} text;

typedef struct {
    text path, parent[PARTS], ancestor[PARTS];
    int64_t size;
    int has_ancestor;
} found_link;

/* The links into these projects, as far as they were found. */
typedef struct {
    const text *projects;
    size_t many_projects;
    found_link *all;
    size_t many, room;
} links_wanted;

/* Eight bytes at once, where the first is the lowest: a bit is set in each byte that is what is asked for (and
 * perhaps in later ones, of which nobody asks). */
#define IS_LITTLE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#define EACH(byte) (0x0101010101010101u * (byte))
#define BELOW(word, byte) (((word) - EACH(byte)) & ~(word) & EACH(0x80))
#define EQUALS(word, byte) BELOW((word) ^ EACH(byte), 1)

static uint64_t eight_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static void skip_space(cursor *c)
{
    if (c->at < c->end && *c->at == '\n')
        c->at++;
    while (c->end - c->at >= 8 && eight_at(c->at) == EACH(' '))
        c->at += 8;
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

/* Go to the first byte that is not of a plain text. */
static void skip_plain(cursor *c)
{
    while (IS_LITTLE && c->end - c->at >= 8) {
        uint64_t word = eight_at(c->at);
        uint64_t found = BELOW(word, 0x20) | EQUALS(word, '"') | EQUALS(word, '\\') | (word & EACH(0x80));
        if (found) {
            c->at += __builtin_ctzll(found) / 8;
            return;
        }
        c->at += 8;
    }
    while (c->at < c->end && *c->at >= 0x20 && *c->at < 0x80 && *c->at != '"' && *c->at != '\\')
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
    skip_plain(c);
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

/* An object of the four texts of an address, each there once; a parent may have an ancestor besides. */
static int take_address(cursor *c, text *parts, found_link *with_ancestor)
{
    static const char *const NAMES[PARTS] = {"project", "asset", "version", "path"};
    int seen = 0, at;
    text key;
    if (!take(c, '{'))
        return 0;
    do {
        if (!take_text(c, &key) || !take(c, ':'))
            return 0;
        for (at = 0; at < PARTS && !is(&key, NAMES[at]); at++)
            ;
        if (at < PARTS ? (seen & 1 << at || !take_text(c, &parts[at]))
                       : (!with_ancestor || with_ancestor->has_ancestor++ || !is(&key, "ancestor") ||
                          !take_address(c, with_ancestor->ancestor, NULL)))
            return 0;
        seen |= 1 << at;
    } while (take(c, ','));
    return take(c, '}') && (seen & ((1 << PARTS) - 1)) == (1 << PARTS) - 1;
}

static int is_wanted(const links_wanted *wanted, const found_link *link)
{
    for (size_t at = 0; at < wanted->many_projects; at++) {
        const text *project = &wanted->projects[at];
        for (int which = 0; which <= !!link->has_ancestor; which++) {
            const text *there = which ? link->ancestor : link->parent;
            if (there->length == project->length && !memcmp(there->start, project->start, project->length))
                return 1;
        }
    }
    return 0;
}

static int keep_link(links_wanted *wanted, const found_link *link)
{
    if (!is_wanted(wanted, link))
        return 1;
    if (wanted->many == wanted->room) {
        size_t room = wanted->room ? wanted->room * 2 : 16;
        found_link *all = realloc(wanted->all, room * sizeof *all);
        if (!all)
            return 0;
        wanted->all = all;
        wanted->room = room;
    }
    wanted->all[wanted->many++] = *link;
    return 1;
}

/* One entry; adds its size to the total if it is no link, else keeps the link if it is wanted. */
static int take_entry(cursor *c, const text *path, int64_t *total, links_wanted *wanted)
{
    int sizes = 0, sums = 0, links = 0;
    text key, sum;
    found_link link = {.path = *path};
    if (!take(c, '{'))
        return 0;
    do {
        if (!take_text(c, &key) || !take(c, ':'))
            return 0;
        if (is(&key, "size")     ? sizes++ || !take_number(c, &link.size)
            : is(&key, "md5sum") ? sums++ || !take_text(c, &sum)
            : is(&key, "link")   ? links++ || !(wanted ? take_address(c, link.parent, &link) : skip_link(c, 0))
                                 : 1)
            return 0;
    } while (take(c, ','));
    if (!take(c, '}'))
        return 0;
    return links ? !wanted || keep_link(wanted, &link) : !__builtin_add_overflow(*total, link.size, total);
}

static int is_after(const text *now, const text *before)
{
    size_t common = now->length < before->length ? now->length : before->length;
    int order = memcmp(now->start, before->start, common);
    return order > 0 || (order == 0 && now->length > before->length);
}

static int add_up(const uint8_t *data, size_t length, int64_t *total, links_wanted *wanted)
{
    cursor c = {data, data + length};
    text path, before = {NULL, 0};
    *total = 0;
    if (!take(&c, '{'))
        return 0;
    if (!take(&c, '}')) {
        do {
            if (!take_text(&c, &path) || (before.start && !is_after(&path, &before)) || !take(&c, ':') ||
                !take_entry(&c, &path, total, wanted))
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
    PyObject *path; /* or its bytes: what `name` lives in */
    const char *name;
    struct stat status;
    int64_t total;
    int is_known;
    uint8_t *texts; /* what the links point into */
    links_wanted wanted;
} manifest;

/* An asset's directory, held open while its manifests follow each other: half of an open is finding the way. */
typedef struct {
    const char *path; /* of the manifest that it was opened for */
    size_t length;    /* of the directory's own path */
    int fd;
} asset;

/* The length of the path without its last two names; 0: it has no more. */
static size_t length_of_asset(const char *path)
{
    size_t at = strlen(path), names = 0;
    while (at && !(path[at] == '/' && ++names == 2))
        at--;
    return at;
}

/* Return how the manifest is called in the asset, which is opened if it is another one than before. */
static const char *name_in(asset *held, const char *path)
{
    size_t length = length_of_asset(path);
    if (!held->path || held->length != length || memcmp(held->path, path, length) != 0) {
        char *directory = length ? strndup(path, length) : NULL;
        if (held->path && held->fd >= 0)
            close(held->fd);
        held->fd = directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : AT_FDCWD;
        if (held->fd < 0)
            held->fd = AT_FDCWD;
        held->path = path;
        held->length = length;
        free(directory);
    }
    return held->fd < 0 ? path : path + length + 1;
}

static void let_go(const asset *held)
{
    if (held->path && held->fd >= 0)
        close(held->fd);
}

/* Read the whole file; 0 if it is not of the size that it had when it was opened. */
static int read_whole(int fd, uint8_t *buffer, size_t size)
{
    size_t done = 0;
    while (done <= size) {
        ssize_t got = read(fd, buffer + done, size + 1 - done);
        if (got > 0)
            done += (size_t)got;
        if (got >= 0 && done == size) /* one byte more was asked for, and is not there */
            return 1;
        if (got > 0)
            continue;
        if (got == 0)
            return 0;
        if (errno != EINTR)
            return 0;
    }
    return 0;
}

/* Open and read a manifest of at most so many bytes; 1 if they are in the buffer, which grows as needed. */
static int read_one(manifest *m, asset *held, uint8_t **buffer, size_t *room, off_t most)
{
    const char *name = name_in(held, m->name);
    int is_read = 0, fd = openat(held->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    if (!fstat(fd, &m->status) && S_ISREG(m->status.st_mode) && m->status.st_size <= most) {
        size_t size = (size_t)m->status.st_size;
        if (size >= *room) {
            free(*buffer);
            *room = size + SPARE;
            *buffer = malloc(*room);
        }
        if (!*buffer)
            *room = 0;
        else
            is_read = read_whole(fd, *buffer, size);
    }
    close(fd);
    return is_read;
}

static size_t move_text(text *one, uint8_t *to)
{
    if (to) {
        memcpy(to, one->start, one->length);
        one->start = to;
    }
    return one->length;
}

/* Move the texts of a link to where they stay; return their length. Without `to` only that. */
static size_t move_texts(found_link *link, uint8_t *to)
{
    size_t length = move_text(&link->path, to);
    for (int part = 0; part < PARTS; part++)
        length += move_text(&link->parent[part], to ? to + length : NULL);
    for (int part = 0; link->has_ancestor && part < PARTS; part++)
        length += move_text(&link->ancestor[part], to ? to + length : NULL);
    return length;
}

/* Copy what the links point into, so that the next manifest can be read into the same buffer. */
static int keep_texts(manifest *m)
{
    size_t length = 0;
    for (size_t at = 0; at < m->wanted.many; at++)
        length += move_texts(&m->wanted.all[at], NULL);
    uint8_t *next = m->texts = malloc(length + 1);
    for (size_t at = 0; next && at < m->wanted.many; at++)
        next += move_texts(&m->wanted.all[at], next);
    return next != NULL;
}

static void work_on(manifest *all, Py_ssize_t many, const links_wanted *wanted)
{
    uint8_t *buffer = NULL;
    size_t room = 0;
    asset held = {0};
    for (manifest *m = all; m < all + many; m++) {
        if (wanted)
            m->wanted = *wanted;
        if (read_one(m, &held, &buffer, &room, wanted ? MOST_LINKS : MOST))
            m->is_known = add_up(buffer, (size_t)m->status.st_size, &m->total, wanted ? &m->wanted : NULL) &&
                          (!m->wanted.many || keep_texts(m));
    }
    free(buffer);
    let_go(&held);
}

static void look_at(manifest *all, Py_ssize_t many)
{
    asset held = {0};
    for (manifest *m = all; m < all + many; m++) {
        const char *name = name_in(&held, m->name);
        m->is_known = !fstatat(held.fd, name, &m->status, 0);
    }
    let_go(&held);
}

static long long nanoseconds(const struct timespec *time)
{
    return (long long)time->tv_sec * 1000000000 + time->tv_nsec;
}

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

static PyObject *stamp_of(const struct stat *s)
{
    return tuple_of(4, (PyObject *[]){PyLong_FromUnsignedLongLong(s->st_ino), PyLong_FromLongLong(s->st_size),
                                      PyLong_FromLongLong(nanoseconds(&s->st_mtim)),
                                      PyLong_FromLongLong(nanoseconds(&s->st_ctim))});
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

/* What a path is for the kernel; `*keeper` keeps it alive. NULL with an exception. */
static const char *name_of(PyObject *path, PyObject **keeper)
{
    Py_ssize_t size;
    const char *name = PyUnicode_Check(path) ? PyUnicode_AsUTF8AndSize(path, &size) : NULL;
    if (name && size == PyUnicode_GetLength(path) && strlen(name) == (size_t)size) { /* ASCII: the same in any encoding */
        *keeper = Py_NewRef(path);
        return name;
    }
    PyErr_Clear();
    return PyUnicode_FSConverter(path, keeper) ? PyBytes_AsString(*keeper) : NULL;
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

/* Compare what is there now with a stamp for each; 0 at the first that is another. */
static int are_unchanged(const manifest *all, Py_ssize_t many, const long long (*known)[4])
{
    asset held = {0};
    Py_ssize_t at = 0;
    for (; at < many; at++) {
        struct stat now;
        const char *name = name_in(&held, all[at].name);
        if (fstatat(held.fd, name, &now, 0) || (long long)now.st_ino != known[at][0] || now.st_size != known[at][1] ||
            nanoseconds(&now.st_mtim) != known[at][2] || nanoseconds(&now.st_ctim) != known[at][3])
            break;
    }
    let_go(&held);
    return at == many;
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
