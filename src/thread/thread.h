/* SPDX-License-Identifier: MIT */
/*
 * The only place where the libraries start threads. Signals are the program's: a handler must not run in a thread that the program does not know, with a
 * stack and locks that are not the program's. So all signals are blocked there, whatever the mask of the caller is, except
 * those for a fault of the thread itself (SIGBUS, SIGSEGV and the like).
 */
#ifndef GW_THREAD_THREAD_H
#define GW_THREAD_THREAD_H

#include <pthread.h>

/* As pthread_create: 0 or a positive errno. The caller's own mask is as it was. */
int gw__thread_start(pthread_t *thread, void *(*run)(void *ctx), void *ctx);
/* For a child of such a thread that is about to start a program, which would inherit the mask. */
void gw__thread_take_signals(void);

#endif
