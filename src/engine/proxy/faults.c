/* SPDX-License-Identifier: MIT */
/* Which faults hold for which channel. See faults.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/proxy/faults.h"
#include "wire/multifd.h"

static const char MULTIFD[] = "multifd";

static bool fits_channel(const char *wanted, const char *channel)
{
	if (!wanted || !strcmp(wanted, channel))
		return true;
	return !strcmp(wanted, MULTIFD) && !strncmp(channel, MULTIFD, sizeof MULTIFD - 1);
}

static bool fits(const struct gw__fault *f, enum gw__fault_kind kind, const char *channel, enum gw__proxy_direction d)
{
	return f->kind == kind && (f->direction == GW__PROXY_NEITHER || f->direction == d) && fits_channel(f->channel, channel);
}

int gw__faults_find(const struct gw__faults *f, enum gw__fault_kind kind, const char *channel, enum gw__proxy_direction d)
{
	for (unsigned i = 0; i < f->n; i++)
		if (!f->spent[i] && fits(&f->v[i], kind, channel, d))
			return (int)i;
	return -1;
}

int gw__faults_slow(const struct gw__faults *f, const char *channel, enum gw__proxy_direction d, struct gw__chan **from,
	struct gw__error *error)
{
	int r = 0;
	for (unsigned i = 0; !r && i < f->n; i++)
		if (fits(&f->v[i], GW__FAULT_RATE, channel, d))
			r = gw__chan_limit_rate(from, f->v[i].amount, error);
	return r;
}

static bool is_channel(const char *name)
{
	static const char *const names[] = {"main", "recovery", "preempt", MULTIFD, "tls", "unknown"};
	char *end;
	for (unsigned i = 0; i < GW__LEN(names); i++)
		if (!strcmp(names[i], name))
			return true;
	if (strncmp(name, MULTIFD, sizeof MULTIFD - 1) || name[sizeof MULTIFD - 1] < '0' || name[sizeof MULTIFD - 1] > '9')
		return false;
	return strtoul(name + sizeof MULTIFD - 1, &end, 10) < GW__MULTIFD_CHANNELS_MAX && !*end;
}

static int check(const struct gw__fault *f, struct gw__error *error)
{
	if (f->channel && !is_channel(f->channel))
		return gw__error_set(error, -EINVAL,
			"there is no channel \"%.40s\"; expected main, recovery, preempt, multifd, multifd0 to multifd254, tls or unknown",
			f->channel);
	if (f->kind == GW__FAULT_CUT_AT && (!f->message || !gw__message_exists(f->message)))
		return gw__error_set(error, -EINVAL, "there is no message \"%.40s\"; godwit-proxy(1) lists them",
			f->message ? f->message : "");
	if (f->kind != GW__FAULT_CUT_AFTER && !f->amount)
		return gw__error_set(error, -EINVAL,
			f->kind == GW__FAULT_RATE ? "a rate of 0 bytes per second lets nothing through" : "messages are counted from 1");
	return 0;
}

int gw__faults_check(const struct gw__fault *v, unsigned n, struct gw__error *error)
{
	if (n > GW__FAULTS_MAX)
		return gw__error_set(error, -EINVAL, "%u cuts and rates are too many, at most %d can be", n, GW__FAULTS_MAX);
	int r = 0;
	for (unsigned i = 0; !r && i < n; i++)
		r = check(&v[i], error);
	return r;
}
