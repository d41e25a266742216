/* SPDX-License-Identifier: MIT */
/*
 * Files that a QEMU is handed to write to: an fdset of its, known by a mark of ours, so that whoever cleans up needs no number. What QEMU has open of a
 * set that was removed it closes when its migration is over. Owns nothing; the thread that has the monitor.
 */
#ifndef GW_QEMU_FILE_SET_H
#define GW_QEMU_FILE_SET_H

#include "qmp/qmp.h"

/* Both write-only; direct_fd -1: none. QEMU has its own then. *id: it opens "/dev/fdset/ID". */
int gw__file_set_hand(struct gw__qmp *q, int fd, int direct_fd, json_int_t *id, struct gw__error *error);
/* All that were ever handed, also by somebody who died. None is fine. */
int gw__file_set_remove(struct gw__qmp *q, struct gw__error *error);

#endif
