/* One pass over a manifest's bytes. */

#include "scan.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST 3 /* of the objects in a link */
#define DIGITS 18 /* of a size: cannot overflow */

typedef struct {
    const uint8_t *at, *end;
} cursor;

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

static int is_at_digit(const cursor *c)
{
    return c->at < c->end && *c->at >= '0' && *c->at <= '9';
}

static int take_number(cursor *c, int64_t *found)
{
    int digits = 0;
    skip_space(c);
    int is_zero = c->at < c->end && *c->at == '0';
    for (*found = 0; is_at_digit(c) && digits < DIGITS; digits++)
        *found = *found * 10 + (*c->at++ - '0');
    return digits > 0 && !is_at_digit(c) && !(is_zero && digits > 1);
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

int add_up(const uint8_t *data, size_t length, int64_t *total, links_wanted *wanted)
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
