/* SPDX-License-Identifier: MIT */
/*
 * Which abilities go together? One table for everything that QEMU refuses, spoils or dies of (docs/spec/mapped-ram.md 7,
 * channels.md 5.3), and for what we cannot do ourselves. Pure; asked once, before anything starts. What is not named in a
 * question is not known and refuses nothing.
 */
#ifndef GW_PLAN_CAPABILITY_RULES_H
#define GW_PLAN_CAPABILITY_RULES_H

#include <stdint.h>

enum gw__operation {
	GW__OPERATION_SAVE,           /* a QEMU that we drive sends, we keep */
	GW__OPERATION_RECEIVE,        /* somebody sends, we keep */
	GW__OPERATION_SEND,           /* a kept guest to somebody who waits */
	GW__OPERATION_RESTORE_DIRECT, /* a QEMU that we drive reads the image */
	GW__OPERATION_RESTORE_STREAM, /* we send it to a QEMU that we drive */
	GW__OPERATION_CONVERT,
	GW__OPERATION_QEMU_SOURCE, /* what a QEMU does on its own */
	GW__OPERATION_QEMU_DESTINATION,
	GW__OPERATIONS,
};

enum gw__ability {
	/* QEMU's capabilities, under its names. */
	GW__ABILITY_AUTO_CONVERGE,
	GW__ABILITY_BACKGROUND_SNAPSHOT,
	GW__ABILITY_COMPRESS, /* of old QEMUs, not multifd's */
	GW__ABILITY_DIRTY_BITMAPS,
	GW__ABILITY_DIRTY_LIMIT,
	GW__ABILITY_EVENTS,
	GW__ABILITY_LATE_BLOCK_ACTIVATE,
	GW__ABILITY_MAPPED_RAM,
	GW__ABILITY_MULTIFD,
	GW__ABILITY_PAUSE_BEFORE_SWITCHOVER,
	GW__ABILITY_POSTCOPY_BLOCKTIME,
	GW__ABILITY_POSTCOPY_PREEMPT,
	GW__ABILITY_POSTCOPY_RAM,
	GW__ABILITY_RDMA_PIN_ALL,
	GW__ABILITY_RELEASE_RAM,
	GW__ABILITY_RETURN_PATH,
	GW__ABILITY_SWITCHOVER_ACK,
	GW__ABILITY_VALIDATE_UUID,
	GW__ABILITY_X_COLO,
	GW__ABILITY_X_IGNORE_SHARED,
	GW__ABILITY_XBZRLE, /* of a kept guest: a stream with deltas */
	GW__ABILITY_ZERO_COPY_SEND,
	/* Its parameters: multifd-compression, tls-creds, direct-io. */
	GW__ABILITY_ZLIB,
	GW__ABILITY_ZSTD,
	GW__ABILITY_TLS,
	GW__ABILITY_DIRECT_IO,
	/* What carries the stream. */
	GW__ABILITY_TCP,
	GW__ABILITY_UNIX,
	GW__ABILITY_VSOCK,
	GW__ABILITY_FD,
	GW__ABILITY_FILE,
	GW__ABILITY_FDSET, /* next to `file`: file:/dev/fdset/N, with one descriptor in the set */
	GW__ABILITY_EXEC,
	/* The guest, and the forms in which it is kept. */
	GW__ABILITY_SHARED_MEMORY,
	GW__ABILITY_IMAGE,
	GW__ABILITY_STREAM,
	GW__ABILITY_TO_STREAM,
	GW__ABILITY_TO_RAW,
	GW__ABILITY_OFFSET,
	GW__ABILITIES,
};
#define GW__ABILITY_BIT(a) (UINT64_C(1) << (a))

/* How a QEMU that is not kept from it shows that it does not go. */
enum gw__found {
	GW__FOUND_GODWIT,       /* it is we who cannot */
	GW__FOUND_CAPABILITIES, /* migrate-set-capabilities is refused */
	GW__FOUND_START,        /* migrate or migrate-incoming is refused */
	GW__FOUND_LATE,         /* the migration starts and fails */
	GW__FOUND_NEVER,        /* it completes, and the result is of no use */
	GW__FOUND_CRASH,        /* QEMU ends */
	GW__FOUNDS,
};

/* All of `with` together, and one of `any` (0: none needed), are refused where none of `unless` is there. */
struct gw__rule {
	uint64_t with, any, unless;
	uint32_t operations;  /* bits of enum gw__operation */
	uint16_t first, last; /* QEMU releases, 100 * major + minor; 0: open */
	enum gw__found found;
	const char *reason; /* a sentence */
};

/*
 * The first rule that refuses, or NULL. `qemu`: 100 * major + minor; 0: not known, then only what every release refuses
 * counts. The releases that were asked are 7.2, 10.0 and 11.1; another one counts as the next older of them.
 */
const struct gw__rule *gw__capability_check(enum gw__operation op, uint64_t wanted, unsigned qemu);

const struct gw__rule *gw__capability_rule(unsigned i); /* NULL past the end */
const char *gw__capability_operation(unsigned op);      /* "restore-direct"; NULL past the end, as below */
const char *gw__capability_ability(unsigned ability);   /* "mapped-ram" */
const char *gw__capability_found(unsigned found);
int gw__capability_find(const char *ability); /* its number; -1: there is no such ability */

#endif
