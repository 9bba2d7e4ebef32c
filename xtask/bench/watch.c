/* The stopwatch of `cargo xtask bench`: what must be timed to the microsecond and without disturbing the machine.
 *   watch start FILE PROGRAM [ARGUMENT...]    appends a record (see child.c) and becomes the program
 *   watch kill FILE COUNT SETTLE_US LIMIT_S   COUNT times: waits for a new record, waits SETTLE_US, kills that pid and
 *                                             prints the ns until the next record's first instruction
 *   watch stop LIMIT_S signal NUMBER PID      reads pids from stdin, sends the signal, prints the ns from just before it
 *   watch stop LIMIT_S run COMMAND [ARGUMENT...]    until every pid has ended; or runs a command instead
 * No step polls the process table: inotify and pidfds wake it. Exit 5: the limit passed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int left_ms(int64_t deadline)
{
    int64_t left = (deadline - now()) / 1000000;
    return left > 0 ? (int)left : 0;
}

static int start(char **arguments)
{
    int64_t record[3] = { getpid(), 0, 0 };
    int file = open(arguments[0], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    record[1] = now();
    if (write(file, record, sizeof record) != sizeof record)
        return 3;
    execvp(arguments[1], arguments + 1);
    perror(arguments[1]);
    return 4;
}

/* Waits until the file holds more than `seen` records and reads the last one; returns the number, 0 at the deadline. */
static int64_t next_record(int file, int notices, int64_t seen, int64_t deadline, int64_t record[3])
{
    char notice[4096];
    for (;;) {
        struct stat status;
        fstat(file, &status);
        int64_t records = status.st_size / 24;
        if (records > seen)
            return pread(file, record, 24, (records - 1) * 24) == 24 ? records : 0;
        struct pollfd wait = { .fd = notices, .events = POLLIN };
        if (poll(&wait, 1, left_ms(deadline)) <= 0)
            return 0;
        if (read(notices, notice, sizeof notice) < 0)
            return 0;
    }
}

static int kill_again_and_again(char **arguments)
{
    int file = open(arguments[0], O_RDONLY | O_CLOEXEC);
    int notices = inotify_init1(IN_CLOEXEC);
    int64_t seen = 0, record[3], deadline = now() + atoll(arguments[3]) * INT64_C(1000000000);
    if (file < 0 || inotify_add_watch(notices, arguments[0], IN_MODIFY) < 0)
        return 3;
    seen = next_record(file, notices, seen, deadline, record);
    for (int done = 0; done < atoi(arguments[1]); done++) {
        if (seen == 0)
            return 5;
        usleep(atoi(arguments[2]));
        int64_t killed = now();
        if (kill((pid_t)record[0], SIGKILL) != 0)
            return 6;
        seen = next_record(file, notices, seen, deadline, record);
        if (seen != 0)
            printf("%lld\n", (long long)(record[1] - killed));
        fflush(stdout);
    }
    return 0;
}

static int stop(char **arguments)
{
    enum { MOST = 16384 };
    static int handles[MOST];
    int count = 0;
    long pid;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    while (scanf("%ld", &pid) == 1) {
        if (count == MOST)
            return 3;
        int handle = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
        if (handle >= 0) /* one that is gone already needs no waiting */
            handles[count++] = handle;
    }
    int64_t begun = now(), deadline = begun + atoll(arguments[0]) * INT64_C(1000000000);
    pid_t command = 0;
    if (strcmp(arguments[1], "signal") == 0) {
        if (kill(atoi(arguments[3]), atoi(arguments[2])) != 0)
            return 4;
    } else if (posix_spawnp(&command, arguments[2], NULL, NULL, arguments + 2, environ) != 0) {
        return 4;
    }
    for (int i = 0; i < count; i++) {
        struct pollfd wait = { .fd = handles[i], .events = POLLIN };
        if (poll(&wait, 1, left_ms(deadline)) <= 0)
            return 5;
    }
    printf("%lld\n", (long long)(now() - begun));
    if (command > 0)
        waitpid(command, NULL, 0);
    return 0;
}

int main(int count, char **arguments)
{
    if (count >= 4 && strcmp(arguments[1], "start") == 0)
        return start(arguments + 2);
    if (count == 6 && strcmp(arguments[1], "kill") == 0)
        return kill_again_and_again(arguments + 2);
    if (count >= 5 && strcmp(arguments[1], "stop") == 0)
        return stop(arguments + 2);
    return 2;
}
