/* SPDX-License-Identifier: MIT */
/*
 * The driver of a QEMU as its parts see it: the job it works with, where its words go, and whether it is to stop. Owned by the thread that makes
 * the calls; `cancelled` and the rate are read and written by any.
 */
#ifndef GW_QEMU_DRIVER_H
#define GW_QEMU_DRIVER_H

#include <godwit-qemu.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/math.h"

struct gw_qemu {
	gw_job *job; /* borrowed */
	gw_qemu_log_fn *log;
	void *log_ctx;
	struct gw__error error;          /* of the last call */
	char *path;                      /* that a result of the last call names; NULL: none */
	pid_t child;                     /* a QEMU that was started; 0: none */
	_Atomic(const char *) cancelled; /* the reason; NULL: it is not */
	_Atomic bool rate_known;
	_Atomic uint64_t remaining_bytes, dirty_bytes_per_s;
};

bool gw__qemu_cancelled(const gw_qemu *d);
/* Why the job's last call failed: the reason it was cancelled for, or the job's own sentence. */
const char *gw__qemu_job_error(const gw_qemu *d);

void gw__qemu_warn(const gw_qemu *d, const char *fmt, ...) GW__PRINTF(2, 3);
void gw__qemu_note(const gw_qemu *d, const char *fmt, ...) GW__PRINTF(2, 3);
void gw__qemu_detail(const gw_qemu *d, const char *fmt, ...) GW__PRINTF(2, 3);

/*
 * A call begins: its structs are looked at, and what the last one said is forgotten. 0, or -EINVAL or -E2BIG with a sentence. `o` and `result` point to
 * structs that start with their size, of which `ours` bytes are known; `o` may be NULL. *copy is `o` as far as it goes, zeroed after that.
 */
int gw__qemu_begin(gw_qemu *d, const char *name, const void *o, void *copy, size_t ours, const void *result);
int gw__qemu_copy_opts(const char *name, const void *o, void *copy, size_t ours, struct gw__error *error);
/* A result as far as its owner knows it, which keeps its size. */
void gw__qemu_give_result(void *to, const void *from, size_t ours);

/* The call failed with this sentence; -EIO where nobody has said a code. Returns it. */
int gw__qemu_fail(gw_qemu *d, int code, const char *fmt, ...) GW__PRINTF(3, 4);

#endif
