/* The service that `cargo xtask bench` supervises: it says when its first instruction ran.
 *   child exit FILE    appends one record and ends with 1 at once
 *   child hold FILE    appends one record and waits for a signal, like sleep(1)
 * A record is three numbers of 64 bits in the machine's order: pid, CLOCK_MONOTONIC ns of the first instruction of
 * main, and of the last one before _exit (0 for hold). One write of 24 bytes to a file opened with O_APPEND is whole. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

int main(int count, char **arguments)
{
    int64_t record[3] = { 0, now(), 0 };
    if (count != 3)
        return 2;
    int file = open(arguments[2], O_WRONLY | O_APPEND | O_CLOEXEC);
    record[0] = getpid();
    if (strcmp(arguments[1], "exit") == 0) {
        record[2] = now();
        _exit(write(file, record, sizeof record) == sizeof record ? 1 : 3);
    }
    if (write(file, record, sizeof record) != sizeof record)
        _exit(3);
    close(file);
    for (;;)
        pause();
}
