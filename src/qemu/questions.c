/* SPDX-License-Identifier: MIT */
/* What is asked of a QEMU without changing anything. */
#include <errno.h>

#include "qemu/clone.h"
#include "qemu/destination.h"
#include "qemu/driver.h"

enum { CONNECT_MS = 10000 };

/* Those that map the image make the plan that of a clone; none is no failure. */
static int mark_mapped(struct gw__qmp *q, const gw_info *info, struct gw__qemu_destination *there, struct gw__error *error)
{
	struct gw__clone clone = GW__CLONE_INIT;
	struct gw_info_summary s = GW_INIT(s);
	struct gw__error none = {0};
	gw_info_summary(info, &s);
	int r = s.clonable ? gw__clone_open(&clone, s.path, &none) : -EOPNOTSUPP;
	if (!r)
		r = gw__clone_find_mapped(&clone, q, info, there, &none);
	gw__clone_close(&clone);
	return r == -EREMOTEIO || r == -ECONNRESET ? gw__error_set(error, r, "%s", none.text) : 0;
}

int gw_qemu_plan_restore(gw_qemu *qemu, const char *monitor, const gw_info *info, bool remote, struct gw_restore_plan *plan)
{
	struct gw__qmp *q = NULL;
	struct gw__qmp_settings *now = NULL;
	struct gw__qemu_destination there = {0};
	gw__error_clear(&qemu->error);
	int r = gw__qmp_open(monitor, CONNECT_MS, &q, &qemu->error);
	if (!r)
		r = gw__qemu_destination_waits(q, &qemu->error);
	if (!r)
		r = gw__qmp_settings_save(q, &now, &qemu->error);
	if (!r)
		r = gw__qemu_destination_ask(q, now, &there, &qemu->error);
	if (!r && !remote)
		r = mark_mapped(q, info, &there, &qemu->error);
	there.d.same_host &= !remote;
	if (!r)
		r = gw_plan_restore(info, &there.d, plan);
	if (r)
		gw__error_set(&qemu->error, r, "the plan cannot be made: its struct has no size");
	gw__qemu_destination_fini(&there);
	gw__qmp_settings_free(now);
	gw__qmp_close(q);
	return r;
}

int gw_qemu_may_userfaultfd(gw_qemu *qemu, const char *monitor, enum gw_qemu_userfaultfd *may, uint32_t *uid)
{
	static const enum gw_qemu_userfaultfd rights[] = {[GW__USERFAULTFD_UNKNOWN] = GW_QEMU_USERFAULTFD_UNKNOWN,
		[GW__USERFAULTFD_ALLOWED] = GW_QEMU_USERFAULTFD_ALLOWED,
		[GW__USERFAULTFD_FORBIDDEN] = GW_QEMU_USERFAULTFD_FORBIDDEN};
	struct gw__qmp *q = NULL;
	uid_t user = 0;
	gw__error_clear(&qemu->error);
	int r = gw__qmp_open(monitor, CONNECT_MS, &q, &qemu->error);
	if (!r)
		*may = rights[gw__qmp_userfaultfd_right(q, &user)];
	*uid = user;
	gw__qmp_close(q);
	return r;
}
