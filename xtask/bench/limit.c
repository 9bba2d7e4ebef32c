/* The floor under every supervisor: keeps N copies of a program running and does nothing else.
 *   limit vfork|fork|spawn N PROGRAM [ARGUMENT...]
 * SIGTERM ends the children, reaps them, and ends this program. */
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static pid_t *children;
static int count;
static volatile sig_atomic_t stopping;
static sigset_t blocked, open_mask;

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
    for (int i = 0; i < count; i++)
        if (children[i] > 0)
            kill(children[i], SIGTERM);
}

static void start(int index, const char *way, char **command)
{
    pid_t child;
    /* The handler must not run between the birth of a child and the note of its pid. */
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    if (strcmp(way, "spawn") == 0) {
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        posix_spawnattr_setsigmask(&attributes, &open_mask);
        if (posix_spawn(&child, command[0], NULL, &attributes, command, environ) != 0)
            exit(4);
    } else {
        child = strcmp(way, "vfork") == 0 ? vfork() : fork();
        if (child == 0) {
            sigprocmask(SIG_SETMASK, &open_mask, NULL);
            execv(command[0], command);
            _exit(127);
        }
        if (child < 0)
            exit(4);
    }
    children[index] = child;
    sigprocmask(SIG_SETMASK, &open_mask, NULL);
}

int main(int argument_count, char **arguments)
{
    if (argument_count < 4)
        return 2;
    count = atoi(arguments[2]);
    children = calloc(count, sizeof *children);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    signal(SIGTERM, stop);
    for (int i = 0; i < count && !stopping; i++)
        start(i, arguments[1], arguments + 3);
    for (;;) {
        pid_t ended = waitpid(-1, NULL, 0);
        if (ended < 0 && stopping)
            return 0;
        for (int i = 0; i < count; i++)
            if (ended > 0 && children[i] == ended) {
                children[i] = 0;
                if (!stopping)
                    start(i, arguments[1], arguments + 3);
                break;
            }
    }
}
