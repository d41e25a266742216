/* SPDX-License-Identifier: MIT */
/* The public face of src/plan/combine, and how the calls ask it; see capability_rules.h. */
#include "lib/combine.h"

#include <assert.h>
#include <errno.h>

static_assert((int)GW_OPERATION_SAVE == (int)GW__OPERATION_SAVE && (int)GW_OPERATION_RECEIVE == (int)GW__OPERATION_RECEIVE &&
		      (int)GW_OPERATION_SEND == (int)GW__OPERATION_SEND &&
		      (int)GW_OPERATION_RESTORE_DIRECT == (int)GW__OPERATION_RESTORE_DIRECT &&
		      (int)GW_OPERATION_RESTORE_STREAM == (int)GW__OPERATION_RESTORE_STREAM &&
		      (int)GW_OPERATION_CONVERT == (int)GW__OPERATION_CONVERT &&
		      (int)GW_OPERATION_QEMU_SOURCE == (int)GW__OPERATION_QEMU_SOURCE &&
		      (int)GW_OPERATION_QEMU_DESTINATION == (int)GW__OPERATION_QEMU_DESTINATION,
	"the public operations are the planner's");

uint64_t gw__ability_of_uri(const struct gw__uri *uri)
{
	static const enum gw__ability of[] = {
		[GW__URI_TCP] = GW__ABILITY_TCP,
		[GW__URI_UNIX] = GW__ABILITY_UNIX,
		[GW__URI_VSOCK] = GW__ABILITY_VSOCK,
		[GW__URI_FD] = GW__ABILITY_FD,
		[GW__URI_FILE] = GW__ABILITY_FILE,
		[GW__URI_EXEC] = GW__ABILITY_EXEC,
	};
	return GW__ABILITY_BIT(of[uri->kind]);
}

uint64_t gw__ability_of_link(const struct gw_link_opts *link) { return GW__OPT(link, tls) ? GW__ABILITY_BIT(GW__ABILITY_TLS) : 0; }

int gw__job_check_devices(gw_job *job, const struct gw__image *image)
{
	if (!image || !image->config.memory_only)
		return 0;
	return gw__error_set(&job->run.error, -EOPNOTSUPP,
		"%s holds the memory of a guest without its devices (godwit drain): it can only complete a QEMU that has the guest already and waits in "
		"postcopy-paused, with godwit serve",
		image->path);
}

int gw__job_allow(gw_job *job, enum gw__operation op, uint64_t wanted)
{
	const struct gw__rule *r = gw__capability_check(op, wanted, 0);
	return r ? gw__error_set(&job->run.error, -EOPNOTSUPP, "%s", r->reason) : 0;
}

static void rule_out(const struct gw__rule *r, struct gw_rule *rule)
{
	struct gw_rule out = {
		.with = r->with,
		.any = r->any,
		.unless = r->unless,
		.operations = r->operations,
		.first = r->first,
		.last = r->last,
		.found = gw__capability_found(r->found),
		.reason = r->reason,
	};
	gw__struct_out(rule, rule ? rule->size : 0, &out, sizeof out);
}

int gw_plan_combination(enum gw_operation op, const char *const *abilities, unsigned qemu, struct gw_rule *refusal)
{
	uint64_t wanted = 0;
	int bad = abilities ? GW__CHECK(refusal, NULL) : -EINVAL;
	if (bad || !gw__capability_operation(op))
		return bad ? bad : -EINVAL;
	for (; *abilities; abilities++) {
		int a = gw__capability_find(*abilities);
		if (a < 0)
			return -EINVAL;
		wanted |= GW__ABILITY_BIT(a);
	}
	const struct gw__rule *r = gw__capability_check((enum gw__operation)op, wanted, qemu);
	if (!r)
		return 0;
	rule_out(r, refusal);
	return -EOPNOTSUPP;
}

int gw_plan_rule(uint32_t i, struct gw_rule *rule)
{
	const struct gw__rule *r = gw__capability_rule(i);
	int bad = rule ? GW__CHECK(rule, NULL) : -EINVAL;
	if (bad || !r)
		return bad ? bad : -ERANGE;
	rule_out(r, rule);
	return 0;
}

const char *gw_plan_ability(uint32_t i) { return gw__capability_ability(i); }
const char *gw_plan_operation(uint32_t i) { return gw__capability_operation(i); }
