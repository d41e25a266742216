/* SPDX-License-Identifier: MIT */
/*
 * A QMP client: what drives a real QEMU (docs/spec/channels.md 5). Blocking with limits; one thread.
 *
 * It is not an event loop: events that arrive while a reply is awaited are kept in a bounded queue (oldest dropped).
 * Everything QEMU says is hostile: lines are bounded, JSON depth and types are checked.
 */
#ifndef GW_QMP_QMP_H
#define GW_QMP_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct gw__qmp;

/*
 * Connect and negotiate capabilities. `address`: a socket path, `unix:PATH` or `tcp:HOST:PORT`. QEMU serves one client
 * per socket: if the greeting does not come in time the sentence says that somebody else probably holds it.
 */
int gw__qmp_open(const char *address, int timeout_ms, struct gw__qmp **q, struct gw__why *why);
int gw__qmp_take_fd(int fd, int timeout_ms, struct gw__qmp **q, struct gw__why *why);
void gw__qmp_close(struct gw__qmp *q); /* NULL is fine */
bool gw__qmp_can_pass_fds(const struct gw__qmp *q); /* a unix socket */
int gw__qmp_fd(const struct gw__qmp *q);

/* From the greeting: 100*major + minor, e.g. 1001 for 10.1, and the package text. */
int gw__qmp_version(const struct gw__qmp *q);
const char *gw__qmp_version_text(const struct gw__qmp *q);

/*
 * Execute a command. `arguments` is taken over (may be NULL). 0 and `*result` (owned by the caller; NULL pointer: not
 * wanted); -EREMOTEIO with QEMU's own words when it answered with an error; -ETIMEDOUT; -ECONNRESET when QEMU went away.
 */
int gw__qmp_call(struct gw__qmp *q, const char *command, json_t *arguments, json_t **result, struct gw__why *why);
/* The same, passing a descriptor with the command (getfd, add-fd). The descriptor stays ours. */
int gw__qmp_call_fd(struct gw__qmp *q, const char *command, json_t *arguments, int fd, json_t **result, struct gw__why *why);
/* The next event, waiting at most `timeout_ms` (0: do not wait): 0 and *event (owned), GW__SHORT when none came. */
int gw__qmp_event(struct gw__qmp *q, int timeout_ms, json_t **event, struct gw__why *why);

/* Migration, in QEMU's terms. Names QEMU may report but we do not know are kept as text and count as "still running". */
struct gw__qmp_migration {
	char status[48]; /* "" when nothing ever ran */
	char error[512]; /* error-desc, or "" */
	bool ended, completed, failed, cancelled;
	uint64_t total_bytes, remaining_bytes, transferred_bytes, dirty_pages_rate, page_bytes;
	uint64_t passes;
	uint64_t downtime_ms, total_ms;
	double mbps;
	char address[256]; /* destination: the socket it listens on, as a URI; "" if none */
};
int gw__qmp_query_migrate(struct gw__qmp *q, struct gw__qmp_migration *m, struct gw__why *why);

struct gw__qmp_status {
	char name[48]; /* "running", "paused", "inmigrate", "postmigrate", ... */
	bool running;
};
int gw__qmp_query_status(struct gw__qmp *q, struct gw__qmp_status *s, struct gw__why *why);

/*
 * Migration settings we change and must put back: take a snapshot of every capability and of the parameters we touch,
 * set what a list says, restore. A capability this QEMU does not know is an error in `set` only if asked to be on.
 */
struct gw__qmp_settings; /* a snapshot */
int gw__qmp_settings_save(struct gw__qmp *q, struct gw__qmp_settings **s, struct gw__why *why);
int gw__qmp_settings_restore(struct gw__qmp *q, const struct gw__qmp_settings *s, struct gw__why *why);
void gw__qmp_settings_free(struct gw__qmp_settings *s);

struct gw__qmp_capability {
	const char *name;
	bool on;
};
int gw__qmp_set_capabilities(struct gw__qmp *q, const struct gw__qmp_capability *caps, unsigned n, struct gw__why *why);
/* Switch off every capability that is on in `now`, so that a left-over setting cannot surprise us. */
int gw__qmp_clear_capabilities(struct gw__qmp *q, const struct gw__qmp_settings *now, struct gw__why *why);
bool gw__qmp_settings_has(const struct gw__qmp_settings *s, const char *capability); /* QEMU knows it */
bool gw__qmp_settings_on(const struct gw__qmp_settings *s, const char *capability);

/* What a destination is, to compare with an image before anything is sent. */
struct gw__qmp_machine {
	char machine[256];    /* the versioned name, e.g. "pc-i440fx-10.0", resolved from an alias */
	uint64_t ram_bytes;   /* base memory of query-memory-size-summary */
};
int gw__qmp_query_machine(struct gw__qmp *q, struct gw__qmp_machine *m, struct gw__why *why);

#endif
