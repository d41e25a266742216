/* SPDX-License-Identifier: MIT */
/*
 * The KVM example with a fault: its dirty_take never reports the page of the counter, which the guest writes all the time. Its destination must find out. The linker
 * puts this between the example and the library (--wrap), so that the example has nothing of it.
 */
#include "../../examples/kvm/vm.h"

#include <godwit-unstable.h>

enum { COUNTER_PAGE = 5, NUMBERS = 16 };

int __real_gw_guest_new(gw_guest **guest, const struct gw_guest_ops *ops, const struct gw_guest_opts *o, void *ctx);
int __wrap_gw_guest_new(gw_guest **guest, const struct gw_guest_ops *ops, const struct gw_guest_opts *o, void *ctx);

/* A bit that is set already is of a page that the library still has to send: it stays. */
static int take_but_one(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap)
{
	uint64_t before = bitmap[0], bit = UINT64_C(1) << COUNTER_PAGE;
	int r = dirty_take(ctx, block, first, pages, bitmap);
	if (first == 0)
		bitmap[0] = (bitmap[0] & ~bit) | (before & bit);
	return r;
}

/* When the library calls it, each page has been read. A guest that got no processor since then has written nothing to forget, so this waits for some numbers. */
static int pause_later(void *ctx, enum gw_why why)
{
	(void)why;
	int r = guest_count_on(ctx, NUMBERS);
	return r ? r : vm_pause(ctx);
}

int __wrap_gw_guest_new(gw_guest **guest, const struct gw_guest_ops *ops, const struct gw_guest_opts *o, void *ctx)
{
	struct gw_guest_ops slow = *ops;
	struct gw_guest_opts forgetful = *o;
	slow.pause = pause_later;
	forgetful.dirty_take = take_but_one;
	return __real_gw_guest_new(guest, &slow, &forgetful, ctx);
}
