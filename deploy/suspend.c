/* As if the machine were suspended while a process stands still: to be preloaded (LD_PRELOAD).
 *
 * Linux stops CLOCK_MONOTONIC while a machine is suspended, and lets CLOCK_BOOTTIME and CLOCK_REALTIME go on. No program
 * can bring that about for another one, short of a time namespace, which has to be made before it starts, and by root. So
 * this keeps the process's CLOCK_MONOTONIC back, by what the file says that ONCEWARD_SUSPEND_CLOCK names: nanoseconds, as
 * a signed 64-bit number of the machine's byte order. Behind it stands the id of the process that reads it.
 *
 *     cc -shared -fPIC -O2 -o suspend.so deploy/suspend.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

struct clock {
    int64_t behind;
    int64_t reader;
};

static struct clock nowhere;
static volatile struct clock *shared = &nowhere;
/* Resolved once, by whoever comes first: all of them find the same. */
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static long (*real_syscall)(long, ...);

static void resolve(void) {
    real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ONCEWARD_SUSPEND_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    resolve();
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) {
        shared = mapped;
        shared->reader = getpid();
    }
}

/* Later or earlier by nanoseconds. */
static struct timespec shift(struct timespec time, int64_t by) {
    int64_t all = time.tv_sec * SECOND + time.tv_nsec + by;
    return (struct timespec){.tv_sec = all / SECOND, .tv_nsec = all % SECOND};
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_clock_gettime)
        resolve();
    int failed = real_clock_gettime(clock, time);
    int stands_still = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE;
    if (!failed && stands_still)
        *time = shift(*time, -shared->behind);
    return failed;
}

/* Rust's standard library waits by futex until a moment of CLOCK_MONOTONIC, which the kernel takes for one of its own: a
 * thread that waits for a time would find it over at once, and again and again. */
long syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (!real_syscall)
        resolve();
    struct timespec until;
    int until_monotonic = number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET &&
                          !(a[1] & FUTEX_CLOCK_REALTIME) && a[3];
    if (until_monotonic) {
        until = shift(*(const struct timespec *)a[3], shared->behind);
        a[3] = (long)&until;
    }
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
