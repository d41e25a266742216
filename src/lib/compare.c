/* SPDX-License-Identifier: MIT */
/* gw_compare: two kept guests, whatever form each has. */
#include <errno.h>

#include "engine/files/compare.h"
#include "lib/started.h"

struct compare_args {
	const char *a, *b;
	gw_difference_fn *fn;
	void *ctx;
};

static int compare(gw_job *job, void *args)
{
	struct compare_args *given = args, c = *given;
	struct gw__stored_guest kept_a = {0}, kept_b = {0};
	int r = gw__job_begin(job, 0);
	if (!r)
		r = gw__take_difference_fn(job, &c.fn, &c.ctx);
	if (!r)
		r = GW__NEED(job, c.a);
	if (!r)
		r = GW__NEED(job, c.b);
	if (!r)
		r = gw__stored_guest_open(&job->run, c.a, 0, &kept_a);
	if (!r)
		r = gw__stored_guest_open(&job->run, c.b, 0, &kept_b);
	if (!r)
		r = gw__stored_guest_as_image(&job->run, &kept_a);
	if (!r)
		r = gw__stored_guest_as_image(&job->run, &kept_b);
	if (!r)
		r = gw__compare_images(&job->run, kept_a.image, kept_b.image, NULL, c.fn, c.ctx);
	gw__stored_guest_close(&kept_a);
	gw__stored_guest_close(&kept_b);
	return r;
}

int gw_compare(gw_job *job, const char *a, const char *b, gw_difference_fn *fn, void *ctx)
{
	const struct compare_args args = {a, b, fn, ctx};
	return gw__call(job, compare, &args, sizeof args);
}
