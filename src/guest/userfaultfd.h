/* SPDX-License-Identifier: MIT */
/* How a userfaultfd is had. */
#ifndef GW_GUEST_USERFAULTFD_H
#define GW_GUEST_USERFAULTFD_H

#include <stdbool.h>

/*
 * Non-blocking, closed on exec, its API not agreed on; -1 with errno, EPERM: it is not permitted. `user_mode_is_enough`: faults of the kernel (KVM,
 * system calls) need not be answered, which needs no privilege.
 */
int gw__userfaultfd_open(bool user_mode_is_enough);

#endif
