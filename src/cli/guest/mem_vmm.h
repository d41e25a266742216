/* SPDX-License-Identifier: MIT */
/* A VMM whose only guest is the mem guest, on top of the public API for live guests as any VMM would be: `godwit guest run`. One thread. */
#ifndef GW_CLI_GUEST_MEM_VMM_H
#define GW_CLI_GUEST_MEM_VMM_H

#include <godwit-unstable.h>

#include "cli/ui/command_ctx.h"
#include "guest/mem/mem_guest.h"

struct gw__mem_vmm_opts {
	struct gw__mem_guest_opts mem; /* without its hooks */
	const char *machine, *block;
	bool no_device; /* RAM alone: for a destination that knows no section of ours */
	bool told;      /* the guest reports its writes, instead of a tracker that notices them */
	const char *control;
	const char *incoming; /* URI, or NULL; file: a guest out of an image */
	bool lazy;            /* of an image: run before its memory is here */
	struct gw_link_opts link;
	uint32_t channels;
};

/* Runs until it is told to stop, or a signal comes. The exit status. */
int gw__mem_vmm_run(struct gw__command_ctx *ctx, const struct gw__mem_vmm_opts *o);

#endif
