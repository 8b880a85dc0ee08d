/* Many manifests, opened, read and added up without the interpreter's lock. */

#ifndef GOBBLERD_MANIFESTS_H
#define GOBBLERD_MANIFESTS_H

#include "../../storage/c/extension.h"
#include "scan.h"

typedef struct {
    PyObject *path; /* or its bytes: what `name` lives in */
    const char *name;
    struct stat status;
    int64_t total;
    int is_known;
    uint8_t *texts; /* what the links point into */
    links_wanted wanted;
} manifest;

/* Read each manifest and add it up; its links are kept if they are `wanted` (NULL: none is). */
void work_on(manifest *all, Py_ssize_t many, const links_wanted *wanted);

/* Look at each; `is_known` says whether it is there. */
void look_at(manifest *all, Py_ssize_t many);

/* Compare what is there now with a stamp for each; 0 at the first that is another. */
int are_unchanged(const manifest *all, Py_ssize_t many, const long long (*known)[4]);

#endif
