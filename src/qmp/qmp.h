/* SPDX-License-Identifier: MIT */
/*
 * A QMP client: what drives a real QEMU (docs/spec/channels.md 5). Blocking with limits; one thread.
 *
 * It is not an event loop: events that arrive while a reply is awaited are kept in a bounded queue (oldest
 * dropped). Everything QEMU says is hostile: lines are bounded, JSON depth and types are checked, text is
 * made printable. Every limit is in milliseconds; a negative one means for ever.
 */
#ifndef GW_QMP_QMP_H
#define GW_QMP_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/conditions.h"
#include "base/error.h"
#include "plan/qemu_quirks.h"
#include "qmp/states.h"

struct gw__qmp;

enum { GW__QMP_CALL_MS = 30000 }; /* how long a call waits for its reply unless told otherwise */

/*
 * Connect and negotiate capabilities. `address`: a socket path, `unix:PATH` or `tcp:HOST:PORT`. QEMU serves
 * one client per socket: if the greeting does not come in time the sentence says that somebody else probably
 * holds it. `timeout_ms` is for all of it (a host name is looked up outside the limit). -ETIMEDOUT: silence;
 * -EPROTO: somebody answered, but not QMP; otherwise the errno of connect.
 */
int gw__qmp_open(const char *address, int timeout_ms, struct gw__qmp **q, struct gw__error *error);
/*
 * The same after a connection broke: whoever serves the monitor may be starting anew, so it is tried until the time is over. `identity` (may be NULL):
 * of the QEMU it must be, see gw__qmp_query_identity; else -ESTALE.
 */
int gw__qmp_open_again(const char *address, int patience_ms, const json_t *identity, struct gw__qmp **q, struct gw__error *error);
/* The same in two steps: `*fd` is a connected socket; greeting takes it over, also on failure. */
int gw__qmp_dial(const char *address, int timeout_ms, int *fd, struct gw__error *error);
int gw__qmp_greet(int fd, const char *address, int timeout_ms, struct gw__qmp **q, struct gw__error *error);
/* On a connected stream socket that has no address; taken over, also on failure. */
int gw__qmp_take_fd(int fd, int timeout_ms, struct gw__qmp **q, struct gw__error *error);
void gw__qmp_close(struct gw__qmp *q); /* NULL is fine */

/*
 * Go on with a connection that another process has negotiated and will not touch again. `past` is what it knew of it; `fd` is
 * taken over, also on failure. Commands are numbered from `first_id` on, which must be above every number used on it before:
 * replies to earlier ones are dropped, and so is the rest of a line whose beginning the other has read. Nothing is said
 * to QEMU here; an out-of-band call tells whether it is still there. -EINVAL: `past` is no such thing.
 */
json_t *gw__qmp_handoff_state(const struct gw__qmp *q); /* owned by the caller */
int gw__qmp_take_over(int fd, const json_t *past, json_int_t first_id, struct gw__qmp **q, struct gw__error *error);
void gw__qmp_set_call_limit(struct gw__qmp *q, int timeout_ms);
/* For those who watch over the caller: how long it may now wait for QEMU, before each call and wait for an event; and 0 after a call. NULL: nobody is told. */
typedef void gw__qmp_waits_fn(void *ctx, int limit_ms);
void gw__qmp_on_wait(struct gw__qmp *q, gw__qmp_waits_fn *fn, void *ctx);
bool gw__qmp_can_pass_fds(const struct gw__qmp *q);   /* a unix socket */
bool gw__qmp_has_oob(const struct gw__qmp *q);        /* QEMU takes out-of-band commands */
unsigned gw__qmp_unanswered(const struct gw__qmp *q); /* replies that were given up and have not come since */
/* For poll. Lines may already be buffered: poll only after gw__qmp_event(q, 0, ...) found nothing. */
int gw__qmp_fd(const struct gw__qmp *q);

/* From the greeting: 100*major + minor, e.g. 1001 for 10.1; "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)". */
int gw__qmp_version(const struct gw__qmp *q);
bool gw__qmp_has_quirk(const struct gw__qmp *q, enum gw__qemu_quirk quirk);
const char *gw__qmp_version_text(const struct gw__qmp *q);

/*
 * Execute a command. `arguments` is taken over, also on failure (may be NULL). 0 and `*result` (owned by the
 * caller; NULL pointer: not wanted); -EREMOTEIO with QEMU's own words when it answered with an error;
 * -ETIMEDOUT: no answer yet, the connection stays usable and a late reply is dropped; -ECONNRESET when QEMU
 * went away; -EPROTO: not QMP, or not the reply to this. After the last two every call fails.
 */
int gw__qmp_call(struct gw__qmp *q, const char *command, json_t *arguments, json_t **result, struct gw__error *error);
/* The same, passing a descriptor with the command (getfd, add-fd). The descriptor stays ours. */
int gw__qmp_call_fd(struct gw__qmp *q, const char *command, json_t *arguments, int fd, json_t **result, struct gw__error *error);
/*
 * The same, out of band: QEMU answers even while its main loop is stuck, e.g. on a page of a dead page
 * server. Only for migrate-pause, migrate-recover, yank and query-yank. In band where QEMU did not offer it.
 */
int gw__qmp_call_oob(struct gw__qmp *q, const char *command, json_t *arguments, json_t **result, struct gw__error *error);
/* The next event: 0 and *event (owned), or GW__NOTHING_CAME when none came within `timeout_ms` (0: do not wait). */
int gw__qmp_event(struct gw__qmp *q, int timeout_ms, json_t **event, struct gw__error *error);
uint64_t gw__qmp_event_us(const json_t *event); /* when it happened, by QEMU's clock */

/* Migration, in QEMU's terms. */
struct gw__qmp_migration {
	enum gw__qmp_migration_state state;
	char status[48]; /* its word, for sentences; "" when nothing ever ran, and in 7.2 while it only listens */
	char error[512]; /* error-desc, or "" */
	bool ended, completed, failed, cancelled;
	uint64_t total_bytes, remaining_bytes, transferred_bytes, dirty_pages_rate, page_bytes;
	uint64_t dirty_sync_count; /* how often dirty pages were looked for; 11.1 does it several times in a pass over memory */
	uint64_t sent_pages;       /* each time one was sent counts, zeros too */
	uint64_t downtime_ms, total_ms;
	double mbps;
	char address[256]; /* destination: the socket it listens on, as a URI; "" if none */
};
/*
 * A migration that has ended may not be cleaned up yet: until then multifd must stay on (docs/spec/channels.md 5.1). 0 too if none has ended;
 * -EBUSY: it takes too long.
 */
int gw__qmp_await_cleaned_up(struct gw__qmp *q, struct gw__error *error);
/*
 * Start a migration. 7.2 calls one "failed" a moment before it has cleaned up after it, or never does, and a new one in between
 * leaves it confused for good: so that is waited for, and then -EBUSY. `why` must not be NULL.
 */
int gw__qmp_migrate(struct gw__qmp *q, const char *uri, struct gw__error *error);
int gw__qmp_query_migrate(struct gw__qmp *q, struct gw__qmp_migration *m, struct gw__error *error);

/* Whether that QEMU may handle faults of its guest, which post-copy into it needs. UNKNOWN: the monitor does not tell which process it is. */
enum gw__userfaultfd_right { GW__USERFAULTFD_UNKNOWN, GW__USERFAULTFD_ALLOWED, GW__USERFAULTFD_FORBIDDEN };
#define GW__USERFAULTFD_CURE "set sysctl vm.unprivileged_userfaultfd=1, or give QEMU access to /dev/userfaultfd or CAP_SYS_PTRACE"
enum gw__userfaultfd_right gw__qmp_userfaultfd_right(struct gw__qmp *q, uid_t *uid); /* `uid`: its user, unless UNKNOWN */

struct gw__qmp_status {
	enum gw__qmp_run_state state;
	char name[48]; /* its word, for sentences */
	bool running;
};
int gw__qmp_query_status(struct gw__qmp *q, struct gw__qmp_status *s, struct gw__error *error);

/*
 * Migration settings we change and must put back: take a snapshot of every capability and of the parameters
 * we touch, set what a list says, restore. Restore sends only what differs, in an order that is legal at
 * every step, and goes on after a refusal; the first refusal is what it returns.
 */
struct gw__qmp_settings; /* a snapshot */
int gw__qmp_settings_save(struct gw__qmp *q, struct gw__qmp_settings **s, struct gw__error *error);
int gw__qmp_settings_restore(struct gw__qmp *q, const struct gw__qmp_settings *s, struct gw__error *error);
void gw__qmp_settings_free(struct gw__qmp_settings *s); /* NULL is fine */
/* A snapshot as a value, for another process. from_json: NULL for what is none, or without memory. */
json_t *gw__qmp_settings_to_json(const struct gw__qmp_settings *s);
struct gw__qmp_settings *gw__qmp_settings_from_json(const json_t *j);
bool gw__qmp_settings_has(const struct gw__qmp_settings *s, const char *capability); /* QEMU knows it */
bool gw__qmp_settings_on(const struct gw__qmp_settings *s, const char *capability);
/* The value of a parameter, borrowed; NULL if this QEMU does not have it (or we never touch it). */
const json_t *gw__qmp_settings_parameter(const struct gw__qmp_settings *s, const char *name);

struct gw__qmp_capability {
	const char *name;
	bool on;
};
/* One command for all. A capability this QEMU does not know is -EOPNOTSUPP only if asked to be on. */
int gw__qmp_set_capabilities(struct gw__qmp *q, const struct gw__qmp_capability *caps, unsigned n, struct gw__error *error);
/*
 * Switch off every capability that is on in `now`, so that a left-over setting cannot surprise us; but for the few that cannot, which whoever
 * else drives this QEMU may need. `background`: for a background snapshot.
 */
int gw__qmp_clear_capabilities(struct gw__qmp *q, const struct gw__qmp_settings *now, bool background, struct gw__error *error);

/* What a destination is, to compare with an image before anything is sent. */
struct gw__qmp_machine {
	char machine[256];      /* the versioned name, e.g. "pc-i440fx-10.0", resolved from an alias */
	uint64_t ram_bytes;     /* base memory of query-memory-size-summary */
	uint64_t plugged_bytes; /* hot-plugged memory of the same */
};
int gw__qmp_query_machine(struct gw__qmp *q, struct gw__qmp_machine *m, struct gw__error *error);
/* What its streams do not state although it is not 4 KiB; else 0. query-migrate tells only once a migration runs. */
int gw__qmp_query_page_bytes(struct gw__qmp *q, uint64_t *bytes, struct gw__error *error);
/* Memory of virtio-mem devices that is not plugged now: part of a RAM block, and never sent. */
int gw__qmp_query_unplugged(struct gw__qmp *q, uint64_t *bytes, struct gw__error *error);
/*
 * What tells this QEMU process from others, to compare with json_equal: machine, UUID, name, and the thread of a CPU of its. The same
 * over every monitor, for as long as it lives. 0 and `*identity` (owned).
 */
int gw__qmp_query_identity(struct gw__qmp *q, json_t **identity, struct gw__error *error);

/*
 * Its RAM blocks under the names the stream uses, also while it waits for a migration. Blocks that never migrate have
 * no name and are left out; ROM blocks may still grow from `used_bytes` to `total_bytes`.
 */
struct gw__qmp_block {
	char name[256];
	uint64_t page_bytes, used_bytes, total_bytes;
};
/* 0 and `*blocks` (free() it) with `*n` entries. */
int gw__qmp_query_blocks(struct gw__qmp *q, struct gw__qmp_block **blocks, unsigned *n, struct gw__error *error);

int gw__qmp_query_cpus(struct gw__qmp *q, unsigned *n, struct gw__error *error);
/* Devices on PCI buses and, below their controllers, on USB, also while it waits for a migration. */
struct gw__qmp_device {
	char address[128]; /* as the stream has it: "0000:00:02.0", behind a bridge "0000:00:02.0:01.0", USB "0000:00:05.0/2.1" */
	char type[64];     /* "virtio-net-pci" */
};
/* 0 and `*devices` (free() it) with `*n` entries; -EREMOTEIO: this QEMU does not tell. */
int gw__qmp_query_devices(struct gw__qmp *q, struct gw__qmp_device **devices, unsigned *n, struct gw__error *error);

#endif
