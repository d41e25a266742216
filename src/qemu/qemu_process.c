/* SPDX-License-Identifier: MIT */
/* Which process a QEMU is; see qemu_process.h. */
#include "qemu/qemu_process.h"

#include <errno.h>

#include "qemu/monitor_broker.h"
#include "qemu/process_identity.h"

static int ask_thread(struct gw__qmp *q, pid_t *thread, struct gw__error *error)
{
	json_t *cpus = NULL;
	int r = gw__qmp_call(q, "query-cpus-fast", NULL, &cpus, error);
	*thread = (pid_t)json_integer_value(json_object_get(json_array_get(cpus, 0), "thread-id"));
	json_decref(cpus);
	return r;
}

pid_t gw__qemu_cpu_thread(struct gw__qmp *q)
{
	pid_t thread;
	return ask_thread(q, &thread, NULL) ? 0 : thread;
}

int gw__qemu_process(struct gw__qmp *q, pid_t *pid, struct gw__error *error)
{
	pid_t thread, peer = gw__qmp_can_pass_fds(q) ? gw__monitor_broker_peer(gw__qmp_fd(q)) : 0;
	if (peer <= 0)
		return gw__error_set(error, -EOPNOTSUPP,
			"cannot find out which process the QEMU is: that takes a monitor at a unix socket, and a QEMU whose processes can be "
			"seen from here");
	int r = ask_thread(q, &thread, error);
	if (r)
		return r;
	if (!gw__process_is_in_our_namespace(peer) || !gw__process_has_thread(peer, thread)) /* numbers of two namespaces may be equal */
		return gw__error_set(error, -EOPNOTSUPP,
			"process %d listens at this monitor, but the QEMU (thread %d) is another process: use a QMP socket that QEMU itself "
			"opened, not one of a proxy or launcher, from QEMU's process namespace",
			(int)peer, (int)thread);
	*pid = peer;
	return 0;
}
