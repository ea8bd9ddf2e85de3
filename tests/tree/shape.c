/* A tree of processes in a given shape, each of which tells its own CPU clock when it ends.
 *
 *   shape TRUTH_FD HOLD_FD SCRIPT [ID]
 *
 * A script is a row of words:
 *   b20      burn 20 ms of this thread's CPU time          h      tell the clock, then wait for HOLD_FD's end
 *   w        wait for all threads and children             u3     wait until three clocks have been told
 *   i        ignore SIGCHLD                                c      SA_NOCLDWAIT: children leave no zombie
 *   (...)    fork a child that does ...                    [...]  the same, but it execs itself first;
 *   {...}    the same as a double-forked daemon                   [@/path ...] execs another copy
 *   <...>    do ... here                                   t(...) a thread that does ..., joined by w or the end
 *   e        exec this program anew with the rest          z      end without telling (as if killed)
 * A number before a bracket repeats it: 200<[b1]w> are 200 tiny children in turn; t9(b1) are nine threads.
 *
 * Each process writes one line "ID nanoseconds" at its end, and one at each h. The ID lives through an exec.
 * What the first process used before its main is not its own, but its launcher's, and is left out.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *program, *truth_name, *hold_name;
static int truth, hold;
static char id[64];
static long long base_ns;

static void run(const char *from, const char *to);

static long long clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void be_born(void) {
    snprintf(id, sizeof id, "%d.%lld", (int)getpid(), clock_ns(CLOCK_MONOTONIC));
    base_ns = 0;
}

static void tell(void) {
    char line[128];
    int length = snprintf(line, sizeof line, "%s %lld\n", id, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - base_ns);
    if (write(truth, line, length) != length) abort();
}

static void burn(long long ms) {
    long long until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ms * 1000000;
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < until)
        for (volatile int i = 0; i < 2000; i++) {}
}

static void wait_for_all(void) {
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {}
}

static void wait_for_clocks(long long count) {
    for (int patience = 6000; patience > 0; patience--) {
        static char text[1 << 20];
        ssize_t size = pread(truth, text, sizeof text, 0);
        long long lines = 0;
        for (ssize_t i = 0; i < size; i++) lines += text[i] == '\n';
        if (lines >= count) return;
        usleep(10000);
    }
    fprintf(stderr, "shape: %lld clocks were never told\n", count);
    abort();
}

static void hold_on(void) {
    char byte;
    tell();
    while (read(hold, &byte, 1) < 0 && errno == EINTR) {}
}

static void no_zombies(void) {
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &action, NULL);
}

static void exec_anew(const char *from, const char *to) {
    char script[1 << 16], state[128], path[4096];
    snprintf(path, sizeof path, "%s", program);
    if (*from == '@') {
        size_t length = strcspn(from + 1, " ");
        snprintf(path, sizeof path, "%.*s", (int)length, from + 1);
        from += 1 + length;
    }
    snprintf(script, sizeof script, "%.*s", (int)(to - from), from);
    snprintf(state, sizeof state, "%s %lld", id, base_ns);
    execl(path, path, truth_name, hold_name, script, state, NULL);
    perror(path);
    _exit(1);
}

static _Noreturn void live(const char *from, const char *to, int execs) {
    be_born();
    if (execs) exec_anew(from, to);
    run(from, to);
    tell();
    _exit(0);
}

static void fork_one(const char *from, const char *to, int execs) {
    pid_t pid = fork();
    if (pid < 0) { perror("fork"); abort(); }
    if (pid == 0) live(from, to, execs);
}

static void fork_daemon(const char *from, const char *to) {
    pid_t pid = fork();
    if (pid < 0) { perror("fork"); abort(); }
    if (pid == 0) {
        be_born();
        setsid();
        fork_one(from, to, 0);
        tell();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

struct part { const char *from, *to; pthread_t thread; };

static void *run_part(void *argument) {
    struct part *part = argument;
    run(part->from, part->to);
    return NULL;
}

static const char *closing(const char *at) {
    int depth = 0;
    do {
        depth += strchr("([{<", *at) != NULL;
        depth -= strchr(")]}>", *at) != NULL;
        at++;
    } while (depth);
    return at - 1;
}

static void run(const char *at, const char *to) {
    struct part parts[256];
    int threads = 0;
    while (at < to) {
        int is_thread = 0;
        long long number = 1;
        char word = *at++;
        if (word == ' ') continue;
        if (word == 't') { is_thread = 1; word = *at++; }
        if (isdigit(word)) { number = strtoll(at - 1, (char **)&at, 10); word = *at++; }
        else if (isdigit(*at) && strchr("bu", word)) number = strtoll(at, (char **)&at, 10);
        if (strchr("([{<", word)) {
            const char *from = at, *end = closing(at - 1);
            for (; number > 0; number--) {
                if (is_thread) {
                    struct part *part = &parts[threads++];
                    part->from = from, part->to = end;
                    if (pthread_create(&part->thread, NULL, run_part, part)) abort();
                } else if (word == '<') run(from, end);
                else if (word == '{') fork_daemon(from, end);
                else fork_one(from, end, word == '[');
            }
            at = end + 1;
        }
        else if (word == 'b') burn(number);
        else if (word == 'w') {
            while (threads > 0) pthread_join(parts[--threads].thread, NULL);
            wait_for_all();
        }
        else if (word == 'h') hold_on();
        else if (word == 'u') wait_for_clocks(number);
        else if (word == 'i') signal(SIGCHLD, SIG_IGN);
        else if (word == 'c') no_zombies();
        else if (word == 'e') exec_anew(at, to);
        else if (word == 'z') _exit(0);
        else { fprintf(stderr, "shape: what is '%c'?\n", word); abort(); }
    }
    while (threads > 0) pthread_join(parts[--threads].thread, NULL);
}

int main(int count, char **words) {
    long long start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (count < 4) { fprintf(stderr, "usage: shape TRUTH_FD HOLD_FD SCRIPT\n"); return 2; }
    program = words[0], truth_name = words[1], hold_name = words[2];
    truth = atoi(truth_name), hold = atoi(hold_name);
    if (count > 4) sscanf(words[4], "%63s %lld", id, &base_ns);
    else { be_born(); base_ns = start_ns; }
    run(words[3], words[3] + strlen(words[3]));
    tell();
    return 0;
}
