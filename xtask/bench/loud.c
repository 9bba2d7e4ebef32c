/* The service whose output `cargo xtask bench --only logs` has captured, and the judge of what came of it.
 *   loud write LINES FILE           writes LINES numbered lines of 100 bytes as fast as it can
 *   loud pace LINES PER_SECOND FILE the same at a pace; each line tells when it was written
 *   loud check LINES                reads lines from stdin, of whatever stamps stand in front of them, and wants to find
 *                                   exactly those that `write` wrote: every byte, in order, none missing, none twice
 * `write` and `pace` append a record to FILE when they are done: pid, CLOCK_MONOTONIC ns before the first write and after
 * the last, as child.c does; then they wait for a signal. Exit 2: wrong usage; 3: a write failed; 1: a line is wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A block holds so many lines that each line's last three digits never change within it. */
enum { LINE = 100, BLOCK = 1000, HIGH = 9, LOW = 3 };

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* The line's number, twelve digits, of which the first nine are the block's; then what a web server might say. */
static void lay_out(char *line, int low)
{
    static const char words[] = " GET /basket/checkout?item=4711 HTTP/1.1 200 5123 12ms client=10.0.0.7 agent=bench/1.0";
    memset(line, '.', LINE);
    memcpy(line, "000000000", HIGH);
    line[HIGH] = (char)('0' + low / 100);
    line[HIGH + 1] = (char)('0' + low / 10 % 10);
    line[HIGH + 2] = (char)('0' + low % 10);
    memcpy(line + HIGH + LOW, words, sizeof words - 1);
    line[LINE - 1] = '\n';
}

static void high_digits(char *digits, uint64_t block)
{
    for (int place = HIGH - 1; place >= 0; place--) {
        digits[place] = (char)('0' + block % 10);
        block /= 10;
    }
}

static void number_block(char *lines, uint64_t block)
{
    char digits[HIGH];
    high_digits(digits, block);
    for (int line = 0; line < BLOCK; line++)
        memcpy(lines + line * LINE, digits, HIGH);
}

static void write_all(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t done = write(STDOUT_FILENO, bytes, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            _exit(3);
        bytes += done;
        length -= (size_t)done;
    }
}

static char block_lines[BLOCK * LINE];

static void prepare(void)
{
    for (int line = 0; line < BLOCK; line++)
        lay_out(block_lines + line * LINE, line);
}

static void write_fast(uint64_t lines)
{
    for (uint64_t block = 0; block * BLOCK < lines; block++) {
        uint64_t left = lines - block * BLOCK;
        number_block(block_lines, block);
        write_all(block_lines, (left < BLOCK ? left : BLOCK) * LINE);
    }
}

static void write_paced(uint64_t lines, int64_t per_second)
{
    int64_t begun = now(CLOCK_MONOTONIC);
    char line[LINE + 1];
    for (uint64_t number = 0; number < lines; number++) {
        int64_t due = begun + (int64_t)number * 1000000000 / per_second;
        struct timespec until = { due / 1000000000, due % 1000000000 };
        if (due > now(CLOCK_MONOTONIC))
            while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) { }
        snprintf(line, sizeof line, "%012" PRIu64 " @%020" PRId64 "@ %063d\n", number, now(CLOCK_REALTIME), 0);
        write_all(line, LINE);
    }
}

static int report(const char *path, int64_t first)
{
    int64_t record[3] = { getpid(), first, now(CLOCK_MONOTONIC) };
    int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (write(file, record, sizeof record) != sizeof record)
        return 3;
    close(file);
    for (;;)
        pause();
}

static int check(uint64_t lines)
{
    char *line = NULL;
    size_t room = 0;
    uint64_t number = 0;
    ssize_t length;
    prepare();
    while ((length = getline(&line, &room, stdin)) > 0) {
        char *wanted = block_lines + number % BLOCK * LINE;
        if (number % BLOCK == 0)
            number_block(block_lines, number / BLOCK);
        if (number >= lines || length < LINE || memcmp(line + length - LINE, wanted, LINE) != 0) {
            fprintf(stderr, "line %" PRIu64 " of %" PRIu64 " is wrong: %s", number, lines, line);
            return 1;
        }
        number++;
    }
    if (number != lines) {
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " lines are there\n", number, lines);
        return 1;
    }
    return 0;
}

int main(int count, char **arguments)
{
    if (count < 3)
        return 2;
    uint64_t lines = strtoull(arguments[2], NULL, 10);
    if (strcmp(arguments[1], "check") == 0 && count == 3)
        return check(lines);
    prepare();
    int64_t first = now(CLOCK_MONOTONIC);
    if (strcmp(arguments[1], "write") == 0 && count == 4) {
        write_fast(lines);
        return report(arguments[3], first);
    }
    if (strcmp(arguments[1], "pace") == 0 && count == 5) {
        write_paced(lines, strtoll(arguments[3], NULL, 10));
        return report(arguments[4], first);
    }
    return 2;
}
