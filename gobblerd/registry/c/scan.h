/* The texts, sizes and links of one manifest's bytes; nothing here knows of Python. */

#ifndef GOBBLERD_SCAN_H
#define GOBBLERD_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum { PARTS = 4 }; /* of a file's address: project, asset, version, path */

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

/* Add up the sizes of what is no link, and keep the links that are wanted (NULL: none is); 0 if the bytes are not
 * a manifest as gobblerd and the Go service write it, or memory ends. */
int add_up(const uint8_t *data, size_t length, int64_t *total, links_wanted *wanted);

#endif
