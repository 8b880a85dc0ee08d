/* Reading many manifests, an asset's one after the other. */

#include "manifests.h"

#define MOST (512 << 20)      /* bytes of one manifest: some 5,000,000 entries */
#define MOST_LINKS (16 << 20)  /* the same where links are kept: each takes several times its length */
#define SPARE 4096            /* room for a manifest that is larger than the one before */

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

void work_on(manifest *all, Py_ssize_t many, const links_wanted *wanted)
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

void look_at(manifest *all, Py_ssize_t many)
{
    asset held = {0};
    for (manifest *m = all; m < all + many; m++) {
        const char *name = name_in(&held, m->name);
        m->is_known = !fstatat(held.fd, name, &m->status, 0);
    }
    let_go(&held);
}

int are_unchanged(const manifest *all, Py_ssize_t many, const long long (*known)[4])
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
