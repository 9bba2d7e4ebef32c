/* The floor of log capture for `cargo xtask bench --only logs`: copies stdin to a file and does nothing a logger is for.
 *   mincap FILE         copies
 *   mincap stamp FILE   puts the time of the read in front of each line, with nanoseconds, as the CRI format does
 * No rotation, no recovery, one stream; a read is 64 KiB, which is what a pipe holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { READ = 65536, STAMP = 40 };

static void write_all(int file, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t done = write(file, bytes, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            _exit(3);
        bytes += done;
        length -= (size_t)done;
    }
}

static void stamp_now(char *stamp)
{
    char text[64];
    struct timespec time;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &time);
    gmtime_r(&time.tv_sec, &parts);
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, sizeof text - length, ".%09ldZ stdout F ", time.tv_nsec);
    memcpy(stamp, text, STAMP);
}

int main(int count, char **arguments)
{
    static char in[READ], out[READ * (STAMP + 1)];
    if (count < 2)
        return 2;
    int stamped = strcmp(arguments[1], "stamp") == 0;
    int file = open(arguments[count - 1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0)
        return 3;
    int in_line = 0;
    for (;;) {
        ssize_t length = read(STDIN_FILENO, in, sizeof in);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return length < 0 ? 3 : 0;
        if (!stamped) {
            write_all(file, in, (size_t)length);
            continue;
        }
        char stamp[STAMP];
        stamp_now(stamp);
        char *to = out;
        const char *from = in, *end = in + length;
        while (from < end) {
            const char *newline = memchr(from, '\n', (size_t)(end - from));
            const char *next = newline ? newline + 1 : end;
            if (!in_line) {
                memcpy(to, stamp, STAMP);
                to += STAMP;
            }
            memcpy(to, from, (size_t)(next - from));
            to += next - from;
            in_line = newline == NULL;
            from = next;
        }
        write_all(file, out, (size_t)(to - out));
    }
}
