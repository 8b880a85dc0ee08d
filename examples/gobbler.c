/* A complete client of gobblerd in C; needs libc only (cc -O2 -o gobbler-c gobbler.c).
 *
 *   gobbler-c request ACTION [FILE]                     ask for an action; its JSON document is read
 *                                                       from FILE or standard input
 *   gobbler-c upload DIRECTORY PROJECT ASSET VERSION    make a new version of a directory
 *
 * GOBBLER_STAGING  the staging directory that gobblerd watches (required)
 * GOBBLER_TIMEOUT  seconds to wait for the answer (default 600)
 *
 * Prints the response. Exit code: 0 done, 1 refused, 2 wrong usage, 3 no staging directory,
 * 4 not answered in time (the request stays, and is answered when the daemon gets to it).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DONE, REFUSED, USAGE, UNREACHABLE, TIMED_OUT };

static char temporary[PATH_MAX], request[PATH_MAX], copied[PATH_MAX]; /* to be removed at the end */
static const char *from; /* the directory being copied */
static volatile sig_atomic_t stopped; /* the signal that asked us to stop */

static void fail(int code, const char *format, ...) {
    va_list facts;
    if (stopped) exit(128 + stopped);
    va_start(facts, format);
    fputs("gobbler-c: ", stderr);
    vfprintf(stderr, format, facts);
    fputc('\n', stderr);
    va_end(facts);
    exit(code);
}

static void join(char *path, const char *directory, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX) fail(USAGE, "%s: too long", name);
}

static void copy_bytes(int in, int out, const char *path) {
    char buffer[1 << 16];
    ssize_t got;
    while ((got = read(in, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, put; done < got; done += put)
            if ((put = write(out, buffer + done, got - done)) < 0) fail(UNREACHABLE, "%s: %m", path);
    if (got < 0) fail(USAGE, "cannot read %s: %m", path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
    (void)st, (void)type, (void)walk;
    return remove(path);
}

/* A request that has not begun by now is never executed. */
static void withdraw(void) {
    if (*temporary) unlink(temporary);
    if (*request) unlink(request);
    if (*copied) nftw(copied, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void stop(int signal) { stopped = signal; } /* system calls then fail with EINTR */

/* Symbolic links and empty directories stay what they are. */
static int copy_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
    char to[PATH_MAX], link[PATH_MAX];
    if (stopped) return -1;
    if (walk->level == 0) return 0;
    join(to, copied, path + strlen(from) + 1);
    if (type == FTW_D) return mkdir(to, 0755);
    if (type == FTW_SL) {
        ssize_t length = readlink(path, link, sizeof link - 1);
        link[length > 0 ? length : 0] = 0;
        return symlink(link, to);
    }
    if (type != FTW_F || !S_ISREG(st->st_mode)) fail(USAGE, "cannot copy %s: it is no readable file", path);
    int in = open(path, O_RDONLY | O_NOFOLLOW), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (in < 0 || out < 0) fail(USAGE, "cannot copy %s: %m", path);
    copy_bytes(in, out, path);
    return close(in) | close(out);
}

static void put_string(FILE *out, const char *text) { /* as JSON */
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        if ((unsigned char)*text < 32) fprintf(out, "\\u%04x", *text);
        else fputc(*text, out);
    }
    fputc('"', out);
}

/* Open a new temporary file in staging; what is written there is dropped by drop(). */
static FILE *begin(const char *staging) {
    join(temporary, staging, "new-XXXXXX");
    int fd = mkstemp(temporary);
    if (fd < 0 || fchmod(fd, 0644)) fail(UNREACHABLE, "cannot write into %s: %m", staging); /* was 0600 */
    return fdopen(fd, "w");
}

static const char *drop(FILE *file, const char *staging, const char *action) {
    static char name[NAME_MAX];
    snprintf(name, sizeof name, "request-%s-%s-%lld-%d", action, strrchr(temporary, '-') + 1,
             (long long)time(NULL), (int)getpid());
    join(request, staging, name);
    if (fclose(file) || rename(temporary, request)) fail(UNREACHABLE, "cannot write %s: %m", request);
    *temporary = 0;
    return name;
}

static const char *upload(const char *staging, char **given) {
    const char *keys[] = {"project", "asset", "version"};
    size_t length = strlen(given[0]);
    while (length > 1 && given[0][length - 1] == '/') given[0][--length] = 0;
    join(copied, staging, "upload-XXXXXX");
    if (!mkdtemp(copied) || chmod(copied, 0755)) fail(UNREACHABLE, "cannot write into %s: %m", staging);
    from = given[0];
    if (nftw(from, copy_one, 16, FTW_PHYS)) fail(USAGE, "cannot copy %s: %m", from);
    FILE *file = begin(staging);
    fputs("{\"source\":", file);
    put_string(file, strrchr(copied, '/') + 1);
    for (int i = 0; i < 3; i++) {
        fprintf(file, ",\"%s\":", keys[i]);
        put_string(file, given[i + 1]);
    }
    fputc('}', file);
    return drop(file, staging, "upload");
}

static const char *ask(const char *staging, const char *action, const char *path) {
    int in = path ? open(path, O_RDONLY) : STDIN_FILENO;
    if (in < 0) fail(USAGE, "cannot read %s: %m", path);
    FILE *file = begin(staging);
    copy_bytes(in, fileno(file), path ? path : "standard input");
    return drop(file, staging, action);
}

/* Wait for the response, print it, and tell whether it is a success. */
static int wait_for(const char *name, const char *staging) {
    char responses[PATH_MAX], answer[PATH_MAX], begins[64] = "";
    const char *timeout = getenv("GOBBLER_TIMEOUT"), *next = begins;
    time_t deadline = time(NULL) + (timeout ? atol(timeout) : 600);
    long pause = 20; /* milliseconds */
    int fd;
    join(responses, staging, "responses");
    join(answer, responses, name);
    while ((fd = open(answer, O_RDONLY)) < 0) {
        if (stopped) exit(128 + stopped);
        if (time(NULL) >= deadline) {
            *request = *copied = 0; /* whoever answers later will need these */
            fail(TIMED_OUT, "no answer to %s yet: is gobblerd running and watching %s?\nIt will be in %s", name,
                 staging, answer);
        }
        nanosleep(&(struct timespec){pause / 1000, pause % 1000 * 1000000}, NULL);
        pause = pause * 3 / 2 < 2000 ? pause * 3 / 2 : 2000;
        DIR *again = opendir(responses); /* makes NFS look again */
        if (again) closedir(again);
    }
    if (pread(fd, begins, sizeof begins - 1, 0) < 0) fail(UNREACHABLE, "cannot read %s: %m", answer);
    copy_bytes(fd, STDOUT_FILENO, answer);
    if (write(STDOUT_FILENO, "\n", 1) < 0) return UNREACHABLE;
    next += strspn(next, "{ \n");
    next += strncmp(next, "\"status\":", 9) ? 0 : 9;
    next += strspn(next, " ");
    return strncmp(next, "\"SUCCESS\"", 9) ? REFUSED : DONE;
}

int main(int count, char **given) {
    const char *staging = getenv("GOBBLER_STAGING"), *verb = count > 2 ? given[1] : "";
    char responses[PATH_MAX];
    int uploads = !strcmp(verb, "upload") && count == 6;
    if (!uploads && (strcmp(verb, "request") || count > 4))
        fail(USAGE, "usage: gobbler-c request ACTION [FILE] | gobbler-c upload DIRECTORY PROJECT ASSET VERSION");
    if (!staging || !*staging)
        fail(UNREACHABLE, "set GOBBLER_STAGING to the staging directory that gobblerd watches");
    join(responses, staging, "responses");
    if (access(responses, X_OK)) fail(UNREACHABLE, "%s is not the staging directory of a gobblerd", staging);
    umask(022); /* the daemon must be able to read what we write */
    atexit(withdraw);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    return wait_for(uploads ? upload(staging, given + 2) : ask(staging, given[2], given[3]), staging);
}
