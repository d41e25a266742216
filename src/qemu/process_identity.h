/* SPDX-License-Identifier: MIT */
/*
 * A process under a name that nobody else has, on any host, ever: HOST/BOOT-NAMESPACE/PID.START. Who reads such a name on the same host, in the same process
 * namespace, can tell whether that process lives. Pure calls to the kernel, any thread.
 */
#ifndef GW_QEMU_PROCESS_IDENTITY_H
#define GW_QEMU_PROCESS_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

enum { GW__IDENTITY_BYTES = 160 };
enum gw__process_seen { GW__PROCESS_ELSEWHERE, GW__PROCESS_LIVES, GW__PROCESS_DEAD };

/*
 * Is this a thread of it? A number may have gone to another process since, or be that of a program that only passes on what a QEMU says. `thread` as the
 * process itself knows it, which may be in a namespace of its own.
 */
bool gw__process_has_thread(pid_t pid, pid_t thread);
/* There the numbers of processes and threads mean the same as here. false: they do not, or that cannot be seen. */
bool gw__process_is_in_our_namespace(pid_t pid);
/* -ESRCH: there is no such process. */
int gw__process_identity(pid_t pid, char name[GW__IDENTITY_BYTES], struct gw__error *error);
/* ELSEWHERE: of another host, or one that cannot be seen from here. A name may have more after another '/'. */
enum gw__process_seen gw__process_look(const char *name);

#endif
