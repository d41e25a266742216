/* SPDX-License-Identifier: MIT */
/* The table of abilities; see capability_rules.h. */
#include "plan/capability_rules.h"

#include <stddef.h>
#include <string.h>

#define LEN(v)   (sizeof(v) / sizeof(v)[0])
#define A(name)  GW__ABILITY_BIT(GW__ABILITY_##name)
#define OP(name) (1U << GW__OPERATION_##name)

enum { RELEASE_7_2 = 702, RELEASE_10_0 = 1000, RELEASE_11_1 = 1101 };

#define QEMU_ALONE (OP(QEMU_SOURCE) | OP(QEMU_DESTINATION))
#define WE_MOVE    (OP(SAVE) | OP(RECEIVE) | OP(SEND) | OP(RESTORE_DIRECT) | OP(RESTORE_STREAM))
#define ANY_QEMU   (QEMU_ALONE | WE_MOVE) /* there is one at an end, and both ends need the capability */

#define SOCKETS     (A(TCP) | A(UNIX) | A(VSOCK))
#define ONE_CHANNEL (A(FD) | A(FILE) | A(EXEC))
#define COMPRESSED  (A(ZLIB) | A(ZSTD))

/* clang-format off */
/* Refusals that name what to do come before those that only say no. */
static const struct gw__rule rules[] = {
	/* --- what we cannot, whoever is at the other end --- */
	{.with = A(MULTIFD), .operations = OP(RESTORE_STREAM),
		.reason = "what is sent to this QEMU goes over the one socket that it is handed; leave out the channels, or use godwit send"},
	{.with = A(MULTIFD) | A(STREAM), .operations = OP(SEND),
		.reason = "a stream file goes over one channel; make an image of it with godwit convert to send it over several"},
	{.with = A(MULTIFD), .any = ONE_CHANNEL, .operations = OP(SAVE) | OP(RECEIVE) | OP(SEND),
		.reason = "several channels need an address to connect to several times: tcp, unix or vsock"},
	{.with = A(TLS), .any = ONE_CHANNEL, .operations = OP(SAVE) | OP(RECEIVE) | OP(SEND),
		.reason = "TLS needs an address to connect to and a peer to shake hands with: tcp, unix or vsock"},
	{.any = COMPRESSED, .unless = A(MULTIFD), .operations = OP(SAVE) | OP(RECEIVE) | OP(SEND),
		.reason = "compression needs multifd channels, which alone compress; say how many"},
	{.any = A(FILE) | A(EXEC), .operations = OP(SAVE),
		.reason = "a running QEMU is saved over a socket; let it connect to a tcp, unix or vsock address"},
	{.with = A(MAPPED_RAM), .operations = OP(SAVE) | OP(RECEIVE),
		.reason = "what comes in mapped-ram form is an image already and has to be read as a file; use godwit convert"},
	{.with = A(STREAM), .operations = OP(RESTORE_DIRECT),
		.reason = "QEMU reads images itself, not stream files; send it, or make an image of it with godwit convert"},
	{.with = A(XBZRLE), .operations = OP(SEND) | OP(RESTORE_STREAM),
		.reason = "a stream with XBZRLE deltas cannot be passed on as it is; make an image of it with godwit convert"},
	{.with = A(XBZRLE) | A(TO_STREAM), .operations = OP(CONVERT),
		.reason = "a stream with XBZRLE deltas cannot be passed on as a stream; convert it to an image first"},
	{.with = A(TO_RAW) | A(OFFSET), .operations = OP(CONVERT),
		.reason = "raw memory is made from its first byte on; leave out the offset"},
	{.with = A(X_COLO), .operations = WE_MOVE,
		.reason = "a COLO primary wants a secondary that takes its checkpoints, which is godwit standby; a guest in a file takes none"},

	/* --- what QEMU refuses when the capabilities are set --- */
	{.with = A(MULTIFD) | A(BACKGROUND_SNAPSHOT), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "a background snapshot goes over one channel; leave out the others"},
	{.with = A(BACKGROUND_SNAPSHOT),
		.any = A(AUTO_CONVERGE) | A(COMPRESS) | A(DIRTY_BITMAPS) | A(LATE_BLOCK_ACTIVATE) | A(PAUSE_BEFORE_SWITCHOVER) |
		       A(POSTCOPY_BLOCKTIME) | A(POSTCOPY_RAM) | A(RDMA_PIN_ALL) | A(RELEASE_RAM) | A(RETURN_PATH) | A(VALIDATE_UUID) |
		       A(X_COLO) | A(XBZRLE) | A(ZERO_COPY_SEND),
		.operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "a background snapshot sends every page once, as it was at the start, and nothing else"},
	{.with = A(MULTIFD) | A(XBZRLE), .operations = ANY_QEMU, .first = RELEASE_10_0, .found = GW__FOUND_CAPABILITIES,
		.reason = "XBZRLE deltas do not go over multifd channels"},
	{.with = A(MULTIFD) | A(COMPRESS), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "the old compression does not go over multifd channels, which have their own"},
	{.with = A(MULTIFD) | A(POSTCOPY_RAM), .operations = ANY_QEMU, .first = RELEASE_10_0, .last = RELEASE_10_0,
		.found = GW__FOUND_CAPABILITIES, .reason = "this release of QEMU does not do post-copy next to multifd"},
	{.with = A(POSTCOPY_RAM) | A(X_IGNORE_SHARED), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "post-copy has to send all memory, shared memory too"},
	{.with = A(POSTCOPY_PREEMPT), .unless = A(POSTCOPY_RAM), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "postcopy-preempt is a channel of post-copy and needs postcopy-ram"},
	{.with = A(SWITCHOVER_ACK), .unless = A(RETURN_PATH), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "switchover-ack is a message on the return path and needs return-path"},
	{.with = A(X_COLO), .unless = A(RETURN_PATH), .operations = QEMU_ALONE, .first = RELEASE_11_1, .found = GW__FOUND_CAPABILITIES,
		.reason = "a COLO secondary answers on the return path, and this release of QEMU asks for return-path"},
	{.with = A(MAPPED_RAM) | A(XBZRLE), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "a mapped-ram image has whole pages in fixed places, so there is no room for XBZRLE deltas"},
	{.with = A(MAPPED_RAM) | A(POSTCOPY_RAM), .operations = ANY_QEMU, .found = GW__FOUND_CAPABILITIES,
		.reason = "post-copy asks its source for pages, and a mapped-ram image cannot be asked by QEMU"},
	{.with = A(ZERO_COPY_SEND), .unless = A(MULTIFD), .operations = QEMU_ALONE, .found = GW__FOUND_CAPABILITIES,
		.reason = "zero-copy-send is something that multifd channels do; it needs multifd"},
	{.with = A(ZERO_COPY_SEND) | A(MULTIFD), .any = COMPRESSED | A(TLS), .operations = QEMU_ALONE, .found = GW__FOUND_CAPABILITIES,
		.reason = "pages that are compressed or encrypted have been copied, so zero-copy-send cannot send them"},
	{.with = A(AUTO_CONVERGE) | A(DIRTY_LIMIT), .operations = QEMU_ALONE, .found = GW__FOUND_CAPABILITIES,
		.reason = "auto-converge and dirty-limit are two ways to slow the same guest down"},

	/* --- what it refuses when the migration is started --- */
	{.with = A(FILE), .operations = QEMU_ALONE, .last = RELEASE_7_2, .found = GW__FOUND_START,
		.reason = "this release of QEMU knows no file: address"},
	{.with = A(MAPPED_RAM), .any = SOCKETS | A(FD) | A(EXEC), .operations = QEMU_ALONE | OP(RESTORE_DIRECT), .found = GW__FOUND_START,
		.reason = "a mapped-ram image has its pages in fixed places and needs a file that can be written and read anywhere"},
	{.with = A(MAPPED_RAM), .any = COMPRESSED, .operations = OP(QEMU_SOURCE), .found = GW__FOUND_START,
		.reason = "a mapped-ram image has whole pages in fixed places, so they cannot be compressed"},
	{.with = A(MAPPED_RAM) | A(TLS), .operations = OP(QEMU_SOURCE), .found = GW__FOUND_START,
		.reason = "TLS encrypts connections; the pages of a mapped-ram image are written to fixed places of a file"},
	{.with = A(MULTIFD), .any = ONE_CHANNEL, .unless = A(MAPPED_RAM), .operations = QEMU_ALONE, .first = RELEASE_10_0,
		.found = GW__FOUND_START,
		.reason = "several channels need an address to connect to several times, or mapped-ram with a file"},
	{.with = A(POSTCOPY_RAM) | A(POSTCOPY_PREEMPT), .any = ONE_CHANNEL, .operations = QEMU_ALONE, .first = RELEASE_10_0,
		.found = GW__FOUND_START,
		.reason = "postcopy-preempt makes a second connection, so it needs an address to connect to"},

	/* --- what goes wrong later --- */
	{.with = A(MULTIFD), .any = A(FD) | A(EXEC), .operations = QEMU_ALONE, .last = RELEASE_7_2, .found = GW__FOUND_LATE,
		.reason = "several channels need an address to connect to several times, as this release of QEMU finds out when it tries"},
	{.with = A(TLS) | A(FILE), .operations = QEMU_ALONE | OP(RESTORE_DIRECT), .found = GW__FOUND_LATE,
		.reason = "a file cannot shake hands"},
	{.with = A(RETURN_PATH) | A(FILE), .operations = OP(QEMU_SOURCE), .found = GW__FOUND_LATE,
		.reason = "a file cannot answer on the return path"},
	{.with = A(RETURN_PATH) | A(MAPPED_RAM), .operations = OP(QEMU_SOURCE), .found = GW__FOUND_LATE,
		.reason = "a mapped-ram image is a file, which cannot answer on the return path"},
	{.with = A(POSTCOPY_RAM) | A(FILE), .operations = OP(QEMU_SOURCE), .found = GW__FOUND_LATE,
		.reason = "a destination in post-copy asks for pages on the return path, and a file cannot answer"},
	{.with = A(MAPPED_RAM) | A(X_IGNORE_SHARED) | A(SHARED_MEMORY), .operations = OP(QEMU_SOURCE), .last = RELEASE_10_0,
		.found = GW__FOUND_LATE, .reason = "this release of QEMU cannot leave shared memory out of a mapped-ram image"},
	{.with = A(MAPPED_RAM) | A(BACKGROUND_SNAPSHOT), .operations = OP(QEMU_SOURCE), .found = GW__FOUND_NEVER,
		.reason = "QEMU writes bitmaps that do not name the pages of a background snapshot, so the image cannot be read"},
	{.with = A(MAPPED_RAM), .any = COMPRESSED, .operations = OP(QEMU_DESTINATION) | OP(RESTORE_DIRECT), .found = GW__FOUND_CRASH,
		.reason = "a QEMU that is told to read a mapped-ram image compressed ends with a crash"},
	{.with = A(MAPPED_RAM) | A(MULTIFD) | A(DIRECT_IO) | A(FDSET), .operations = OP(QEMU_SOURCE), .found = GW__FOUND_CRASH,
		.reason = "QEMU wants a second descriptor in the set, open for direct I/O, and ends with a crash where it is missing"},
};
/* clang-format on */

static const char *const operations[GW__OPERATIONS] = {
	[GW__OPERATION_SAVE] = "save",
	[GW__OPERATION_RECEIVE] = "receive",
	[GW__OPERATION_SEND] = "send",
	[GW__OPERATION_RESTORE_DIRECT] = "restore-direct",
	[GW__OPERATION_RESTORE_STREAM] = "restore-stream",
	[GW__OPERATION_CONVERT] = "convert",
	[GW__OPERATION_QEMU_SOURCE] = "qemu-source",
	[GW__OPERATION_QEMU_DESTINATION] = "qemu-destination",
};

static const char *const abilities[GW__ABILITIES] = {
	[GW__ABILITY_AUTO_CONVERGE] = "auto-converge",
	[GW__ABILITY_BACKGROUND_SNAPSHOT] = "background-snapshot",
	[GW__ABILITY_COMPRESS] = "compress",
	[GW__ABILITY_DIRTY_BITMAPS] = "dirty-bitmaps",
	[GW__ABILITY_DIRTY_LIMIT] = "dirty-limit",
	[GW__ABILITY_EVENTS] = "events",
	[GW__ABILITY_LATE_BLOCK_ACTIVATE] = "late-block-activate",
	[GW__ABILITY_MAPPED_RAM] = "mapped-ram",
	[GW__ABILITY_MULTIFD] = "multifd",
	[GW__ABILITY_PAUSE_BEFORE_SWITCHOVER] = "pause-before-switchover",
	[GW__ABILITY_POSTCOPY_BLOCKTIME] = "postcopy-blocktime",
	[GW__ABILITY_POSTCOPY_PREEMPT] = "postcopy-preempt",
	[GW__ABILITY_POSTCOPY_RAM] = "postcopy-ram",
	[GW__ABILITY_RDMA_PIN_ALL] = "rdma-pin-all",
	[GW__ABILITY_RELEASE_RAM] = "release-ram",
	[GW__ABILITY_RETURN_PATH] = "return-path",
	[GW__ABILITY_SWITCHOVER_ACK] = "switchover-ack",
	[GW__ABILITY_VALIDATE_UUID] = "validate-uuid",
	[GW__ABILITY_X_COLO] = "x-colo",
	[GW__ABILITY_X_IGNORE_SHARED] = "x-ignore-shared",
	[GW__ABILITY_XBZRLE] = "xbzrle",
	[GW__ABILITY_ZERO_COPY_SEND] = "zero-copy-send",
	[GW__ABILITY_ZLIB] = "zlib",
	[GW__ABILITY_ZSTD] = "zstd",
	[GW__ABILITY_TLS] = "tls",
	[GW__ABILITY_DIRECT_IO] = "direct-io",
	[GW__ABILITY_TCP] = "tcp",
	[GW__ABILITY_UNIX] = "unix",
	[GW__ABILITY_VSOCK] = "vsock",
	[GW__ABILITY_FD] = "fd",
	[GW__ABILITY_FILE] = "file",
	[GW__ABILITY_FDSET] = "fdset",
	[GW__ABILITY_EXEC] = "exec",
	[GW__ABILITY_SHARED_MEMORY] = "shared-memory",
	[GW__ABILITY_IMAGE] = "image",
	[GW__ABILITY_STREAM] = "stream",
	[GW__ABILITY_TO_STREAM] = "to-stream",
	[GW__ABILITY_TO_RAW] = "to-raw",
	[GW__ABILITY_OFFSET] = "offset",
};

static const char *const founds[GW__FOUNDS] = {
	[GW__FOUND_GODWIT] = "godwit",
	[GW__FOUND_CAPABILITIES] = "capabilities",
	[GW__FOUND_START] = "start",
	[GW__FOUND_LATE] = "late",
	[GW__FOUND_NEVER] = "never",
	[GW__FOUND_CRASH] = "crash",
};

static unsigned asked_release(unsigned qemu)
{
	return qemu < RELEASE_10_0 ? RELEASE_7_2 : qemu < RELEASE_11_1 ? RELEASE_10_0 : RELEASE_11_1;
}

static int holds_for(const struct gw__rule *r, unsigned qemu)
{
	unsigned release = asked_release(qemu);
	if (!qemu)
		return !r->first && !r->last;
	return release >= r->first && (!r->last || release <= r->last);
}

const struct gw__rule *gw__capability_check(enum gw__operation op, uint64_t wanted, unsigned qemu)
{
	for (unsigned i = 0; i < LEN(rules); i++) {
		const struct gw__rule *r = &rules[i];
		if (!(r->operations & 1U << op) || !holds_for(r, qemu))
			continue;
		if ((wanted & r->with) == r->with && (!r->any || wanted & r->any) && !(wanted & r->unless))
			return r;
	}
	return NULL;
}

const struct gw__rule *gw__capability_rule(unsigned i) { return i < LEN(rules) ? &rules[i] : NULL; }
const char *gw__capability_operation(unsigned op) { return op < GW__OPERATIONS ? operations[op] : NULL; }
const char *gw__capability_ability(unsigned ability) { return ability < GW__ABILITIES ? abilities[ability] : NULL; }
const char *gw__capability_found(unsigned found) { return found < GW__FOUNDS ? founds[found] : NULL; }

int gw__capability_find(const char *ability)
{
	for (int i = 0; i < GW__ABILITIES; i++)
		if (!strcmp(abilities[i], ability))
			return i;
	return -1;
}
