/* SPDX-License-Identifier: MIT */
/* gw_compare: two kept guests, whatever form each has. */
#include "engine/files/compare.h"
#include "lib/job.h"

int gw_compare(gw_job *job, const char *a, const char *b, gw_difference_fn *fn, void *ctx)
{
	struct gw__stored_guest kept_a = {0}, kept_b = {0};
	int r = gw__job_begin(job, 0);
	if (!r)
		r = gw__stored_guest_open(&job->run, a, 0, &kept_a);
	if (!r)
		r = gw__stored_guest_open(&job->run, b, 0, &kept_b);
	if (!r)
		r = gw__stored_guest_as_image(&job->run, &kept_a);
	if (!r)
		r = gw__stored_guest_as_image(&job->run, &kept_b);
	if (!r)
		r = gw__compare_images(&job->run, kept_a.image, kept_b.image, fn, ctx);
	gw__stored_guest_close(&kept_a);
	gw__stored_guest_close(&kept_b);
	return r;
}
