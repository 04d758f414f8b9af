/*
 * What glibc alone has, so that musl's loader, which ends a program for one name that it doesn't know, finds nothing
 * missing. There is no driver under musl, so no more is wanted there than to be in nobody's way.
 */
#include "libc.h"

#include <dlfcn.h>
#include <stddef.h>

typedef int (*at_fork)(void (*)(void), void (*)(void), void (*)(void));

extern void *__dso_handle __attribute__((visibility("hidden")));
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *) __attribute__((weak));

/* glibc's pthread_atfork is part of whoever calls it, and needs a name that musl hasn't. */
void gpumax_in_child(void (*handler)(void))
{
	at_fork other;

	if (__register_atfork) {
		__register_atfork(NULL, NULL, handler, &__dso_handle);
		return;
	}
	*(void **)&other = dlsym(RTLD_DEFAULT, "pthread_atfork");
	if (other)
		other(NULL, NULL, handler);
}
