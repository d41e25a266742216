/* SPDX-License-Identifier: MIT */
/* From the primary's lease to the new QEMU's; see failover_lease.h. */
#include "qemu/failover_lease.h"

#include <errno.h>
#include <godwit-qemu.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/process_identity.h"
#include "qemu/qemu_process.h"

enum { STEP_MS = 100, GIVE_STEPS = 100 };
extern char **environ;

/* --- the fence --- */

static int run_fence(const char *command, uint64_t generation, struct gw__error *error)
{
	char number[24], text[1100];
	pid_t pid;
	int status = -1;
	snprintf(number, sizeof number, "%" PRIu64, generation);
	snprintf(text, sizeof text, "%.1000s %s", command, number);
	char *const argv[] = {(char *)"sh", (char *)"-c", text, NULL};
	int err = posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ);
	if (err)
		return gw__error_set(error, -EINPROGRESS, "the fence \"%.200s\" cannot be run: %s", text, strerror(err));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status == 0)
		return 0;
	return gw__error_set(error, -EINPROGRESS, "the fence \"%.200s\" ended with %s %d, so the primary may still run the guest", text,
		WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static int check_fence(const char *fence, struct gw__error *error)
{
	if (!fence || (!strncmp(fence, "exec:", 5) && fence[5] && strlen(fence) < 1000))
		return 0;
	return gw__error_set(error, -EINVAL, "\"%.100s\" is not a fence: expected exec:CMD", fence);
}

/* --- the lease --- */

static int settle(struct gw__failover_lease *l, enum gw__lease_wish wish)
{
	gw__lease_set_wish(&l->client.lease, wish);
	for (int i = 0; i < GIVE_STEPS && !gw__lease_is_settled(&l->client.lease); i++) {
		gw__lease_client_step(&l->client, STEP_MS, -1);
		if (l->client.lease.state == GW__LEASE_LOST)
			return -EOWNERDEAD;
	}
	return gw__lease_is_settled(&l->client.lease) ? 0 : -EINPROGRESS;
}

static int open_for(struct gw__failover_lease *l, pid_t pid, const char *mark, struct gw__error *error)
{
	char owner[GW__IDENTITY_BYTES + sizeof GW__LEASE_UNFENCED];
	int r = gw__process_identity(pid, owner, error);
	strcat(owner, r ? "" : mark);
	return r ? r : gw__lease_client_open(&l->client, l->url, owner, 0, error);
}

/* The new record is that of `pid`, of the next generation: from ours, whose owner is alive and says so. */
static int pass_on(struct gw__failover_lease *l, pid_t pid, struct gw__error *error)
{
	struct gw__failover_lease next = {.url = l->url, .taken = true};
	int r = settle(l, GW__LEASE_WISH_FREE);
	if (!r)
		r = open_for(&next, pid, "", error);
	next.client.accepts_unfenced = true; /* it is ours, and was fenced */
	if (!r)
		r = gw__lease_client_take(&next.client, GW__LEASE_NOT_BY_TIME, NULL, NULL, error);
	gw__lease_client_close(&l->client);
	*l = next;
	return r;
}

static int fence(struct gw__failover_lease *l, const char *command, struct gw__error *error)
{
	int r = run_fence(command, l->client.lease.current.generation, error);
	if (!r && pass_on(l, getpid(), error))
		r = gw__error_set(error, -EINPROGRESS, "the primary was fenced, but the lease could not be marked as fenced");
	return r;
}

int gw__failover_lease_take(struct gw__failover_lease *l, const struct gw__failover_lease_opts *o, struct gw__error *error)
{
	enum gw__lease_policy policy = o->primary_is_dead                  ? GW__LEASE_OWNER_IS_DEAD
				       : o->fence || o->accept_split_brain ? GW__LEASE_WAIT_OUT
									   : GW__LEASE_NOT_BY_TIME;
	*l = (struct gw__failover_lease){.url = o->url};
	if (!o->url)
		return 0;
	int r = check_fence(o->fence, error);
	if (!r)
		r = open_for(l, getpid(), o->fence ? GW__LEASE_UNFENCED : "", error);
	l->client.accepts_unfenced = o->fence || o->accept_split_brain;
	if (!r)
		r = gw__lease_client_take(&l->client, policy, o->stopped, o->ctx, error);
	if (r == -EACCES)
		gw__error_advise(error, GW_QEMU_HINT_FENCE);
	if (r == -EPERM)
		gw__error_advise(error, GW_QEMU_HINT_PRIMARY_IS_DEAD);
	l->taken = !r;
	return r || !o->fence ? r : fence(l, o->fence + 5, error);
}

int gw__failover_lease_give(struct gw__failover_lease *l, struct gw__qmp *q, struct gw__error *error)
{
	pid_t qemu;
	int r = l->taken ? gw__qemu_process(q, &qemu, error) : 0;
	if (r || !l->taken)
		return r;
	r = pass_on(l, qemu, error);
	l->given = !r;
	return r ? gw__error_set(error, r, "the lease could not be moved to the new QEMU") : 0;
}

void gw__failover_lease_end(struct gw__failover_lease *l, bool nobody_runs_it)
{
	if (l->taken && nobody_runs_it && l->client.store)
		settle(l, GW__LEASE_WISH_FREE);
	gw__lease_client_close(&l->client);
	*l = (struct gw__failover_lease){0};
}
