/* SPDX-License-Identifier: MIT */
/* What writing and reading a journal share (docs/spec/epoch-journal.md 2). */
#ifndef GW_IMAGE_EPOCHS_EPOCH_JOURNAL_PRIVATE_H
#define GW_IMAGE_EPOCHS_EPOCH_JOURNAL_PRIVATE_H

#include <xxhash.h>

#include "image/epochs/epoch_journal.h"
#include "image/file/destination_path.h"

enum {
	GW__EPOCH_ALIGN = 4096,
	GW__EPOCH_ID_BYTES = 16,
	GW__EPOCH_SUM_BYTES = 16,
	GW__EPOCH_HEAD_BYTES = 8 + GW__EPOCH_ID_BYTES + 4 * 8 + 2 * GW__EPOCH_SUM_BYTES, /* of an extent and of a record */
	GW__EPOCH_ENTRY_BYTES = 4 + 4 + 8 + 8,
};

/* The first bytes of an extent, and of a record. */
struct gw__epoch_head {
	char magic[8];
	uint8_t id[GW__EPOCH_ID_BYTES]; /* of the journal */
	uint64_t epoch;
	uint64_t first, second,
		third; /* extent: bytes of what is known, of bitmaps, of a page; record: entries, bytes of devices, bytes of pages */
	uint8_t sum[GW__EPOCH_SUM_BYTES]; /* of what follows */
};
#define GW__EPOCH_EXTENT_MAGIC "GWEXTNT1"
#define GW__EPOCH_RECORD_MAGIC "GWEPOCH1"

void gw__epoch_head_encode(const struct gw__epoch_head *h, uint8_t bytes[GW__EPOCH_HEAD_BYTES]);
bool gw__epoch_head_decode(const uint8_t bytes[GW__EPOCH_HEAD_BYTES], const char *magic,
	struct gw__epoch_head *h); /* its own sum is right */

struct gw__epoch_extent {
	int fd;
	char path[PATH_MAX + 16];
	uint64_t base, last;         /* epochs */
	uint64_t begin_off, end_off; /* of its records */
	uint8_t *known;              /* when read: what is known, then bitmaps */
	size_t meta_bytes, maps_bytes;
};

struct gw__epoch_journal {
	struct gw__destination_path dest; /* of the image */
	uint8_t id[GW__EPOCH_ID_BYTES];
	uint64_t page_bytes, extent_bytes;
	struct gw__epoch_extent extent[2];
	unsigned active, order_n; /* writing: the one that grows; reading: the first of order_n */
	struct gw__recv_state_saved saved;
	uint8_t *devices; /* when read, of the last epoch */
};

/* Neither is open. NULL: no memory; a failure says why. */
int gw__epoch_journal_new(const char *path, struct gw__epoch_journal **j, struct gw__error *error);
/* Reading: the records of an extent up to the first that is not whole. */
int gw__epoch_extent_scan(const struct gw__epoch_journal *j, struct gw__epoch_extent *e, struct gw__error *error);
int gw__epoch_journal_open_extent(struct gw__epoch_journal *j, unsigned i, int flags, struct gw__error *error);

#endif
