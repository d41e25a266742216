/* SPDX-License-Identifier: MIT */
/*
 * Is the image still the one that a QEMU has pages of? See postcopy_session.h. A guest that got pages of two moments is a ruin that runs.
 *
 * What makes the guest has a digest, and the file has a length; both are remembered, by the monitor broker
 * too. So is the time it was written to last, which is only told. Where nobody remembers, the names and sizes of QEMU's RAM blocks are all there is to compare.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "qemu/destination.h"
#include "qemu/postcopy_session.h"

static int say_other(struct gw__postcopy_session *l)
{
	return gw__error_set(&l->error, -ESTALE,
		"%s is not the image any more that this QEMU has pages of, and the two must not be mixed: bring that one back", l->path);
}

/*
 * A copy is another file, and as good. Of the same file the length counts; another time alone does not, when what makes the guest is the
 * same: storage that was restarted or restored changes it.
 */
static int check_file(struct gw__postcopy_session *l)
{
	char file[sizeof l->file], written[sizeof l->written];
	struct stat st;
	if (stat(l->path, &st))
		return gw__error_errno(&l->error, errno, "cannot look at %s", l->path);
	snprintf(file, sizeof file, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	snprintf(written, sizeof written, "%jd:%jd.%09ld", (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	bool same_file = !strcmp(l->file, file);
	if (same_file && strtoll(l->written, NULL, 10) != (long long)st.st_size)
		return gw__error_set(&l->error, -ESTALE,
			"%s was written to after this QEMU got pages of it: it has %jd bytes, expected %lld; restore the original file",
			l->path, (intmax_t)st.st_size, strtoll(l->written, NULL, 10));
	if (same_file && strcmp(l->written, written))
		gw__qemu_warn(l->driver,
			"%s has another date than when this QEMU got pages of it, but is the image of the same guest, and is served. If "
			"its pages were changed, stop and serve an older copy",
			l->path);
	snprintf(l->file, sizeof l->file, "%s", file);
	snprintf(l->written, sizeof l->written, "%s", written);
	return 0;
}

static const struct gw__qmp_block *find(const struct gw__postcopy_session *l, const char *name)
{
	for (unsigned i = 0; i < l->blocks_n; i++)
		if (!strcmp(l->blocks[i].name, name))
			return &l->blocks[i];
	return NULL;
}

static int check_blocks(struct gw__postcopy_session *l, const gw_info *info)
{
	struct gw_info_block b = GW_INIT(b);
	for (uint32_t i = 0; !gw_info_block(info, i, &b); i++) {
		const struct gw__qmp_block *q = b.ignored ? NULL : find(l, b.name);
		if (b.ignored || (q && q->used_bytes == b.used_bytes))
			continue;
		if (!q)
			return gw__error_set(&l->error, -ESTALE, "%s is the image of another guest: this QEMU has no RAM block \"%s\"",
				l->path, b.name);
		return gw__error_set(&l->error, -ESTALE,
			"%s is the image of another guest: its RAM block \"%s\" has %" PRIu64 " bytes, QEMU's has %" PRIu64, l->path,
			b.name, b.used_bytes, q->used_bytes);
	}
	return 0;
}

static int check(struct gw__postcopy_session *l, const gw_info *info, bool resume)
{
	struct gw_info_summary sum = GW_INIT(sum);
	gw_info_summary(info, &sum);
	if (l->fingerprint[0] && strcmp(l->fingerprint, sum.fingerprint))
		return say_other(l);
	int r = check_file(l);
	if (!r && resume && !l->fingerprint[0] && l->blocks_asked)
		r = check_blocks(l, info);
	if (!r)
		memcpy(l->fingerprint, sum.fingerprint, sizeof l->fingerprint);
	return r;
}

/* A QEMU that has nothing yet must be able to take it: with other memory or another machine it would end itself. */
static int check_fits(struct gw__postcopy_session *l, const gw_info *info)
{
	struct gw__qmp_settings *now = NULL;
	int r = gw__qmp_settings_save(l->qmp, &now, &l->error);
	if (!r)
		r = gw__qemu_destination_fits(l->qmp, now, info, &l->error);
	gw__qmp_settings_free(now);
	l->refused |= r == -EINVAL;
	return r;
}

int gw__postcopy_session_check_image(struct gw__postcopy_session *l, bool resume)
{
	struct gw_inspect_opts o = GW_INIT(o);
	gw_info *info = NULL;
	o.offset = l->offset;
	int r = gw_inspect(l->driver->job, l->path, &o, &info);
	if (r)
		return gw__error_set(&l->error, r, "%s", gw_job_error(l->driver->job));
	r = check(l, info, resume);
	l->refused |= r == -ESTALE;
	if (!r && !resume)
		r = check_fits(l, info);
	gw_info_free(info);
	return r;
}
