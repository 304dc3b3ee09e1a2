/* Preloaded into a process: the thread whose number is in FAIL_THREAD cannot be made, as on a machine at its limit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

static int made;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    const char *failing = getenv("FAIL_THREAD");
    if (failing && __sync_add_and_fetch(&made, 1) == atoi(failing)) return EAGAIN;
    return real(thread, attributes, run, argument);
}
