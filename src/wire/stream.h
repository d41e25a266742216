/* SPDX-License-Identifier: MIT */
/*
 * The decoder of a main migration stream, plain or mapped-ram (docs/spec/stream.md): bytes in, events out.
 *
 * It borrows the caller's buffer and keeps none of its own. The caller shows the bytes it has, contiguous from the
 * first one not yet used; the decoder uses up a prefix and gives one event, or asks for more.
 * Page payload never passes through it: after EVENT_PAGE the next page of bytes belongs to the caller, who takes it from
 * its buffer or straight from the socket; the decoder already counts it as used. After EVENT_SEEK the caller goes on at another
 * place of the file. Fed a byte at a time it gives the same events. (One exception no decoder can avoid: a guest can write
 * a whole end of a stream into its devices. Of two ends, the one at the last byte shown is taken.)
 *
 * Pure: no fd, thread or clock; no allocation sized by the wire (blocks grow as they arrive, the description is
 * bounded). Owned by one thread.
 */
#ifndef GW_WIRE_STREAM_H
#define GW_WIRE_STREAM_H

#include "base/bytes.h"
#include "base/error.h"
#include "wire/header.h"
#include "wire/framing.h"
#include "wire/ram.h"
#include "wire/trailer.h"

enum gw__event_kind {
	GW__EVENT_NONE,
	GW__EVENT_CONFIG,      /* header and configuration: stream->config */
	GW__EVENT_COMMAND,     /* event.command, already checked; raw bytes in event.raw */
	GW__EVENT_BLOCKS,      /* the list is complete: stream->blocks */
	GW__EVENT_SECTION,     /* a START, PART or END of the RAM section begins: event.section */
	GW__EVENT_SECTION_END, /* its footer was right */
	GW__EVENT_PAGE,        /* event.where; the payload follows and is the caller's */
	GW__EVENT_ZERO,        /* event.where */
	GW__EVENT_XBZRLE,      /* event.where; event.delta, lent */
	GW__EVENT_FLUSH,       /* MULTIFD_FLUSH */
	GW__EVENT_EOS,         /* a RAM body ends here; its footer may come much later */
	GW__EVENT_SEEK,        /* mapped-ram: go on at absolute offset event.seek_off */
	GW__EVENT_DEVICE,      /* a FULL section, whole: event.section, body in event.body, all of it in event.raw */
	GW__EVENT_OPAQUE,      /* a section of an iterable we do not know (spapr/htab...), whole, like DEVICE */
	GW__EVENT_EOF,         /* the byte 00 */
	GW__EVENT_DESC,        /* the description's text in event.body; stream->desc is parsed */
	GW__EVENT_END,         /* complete; nothing more is used */
};

struct gw__event {
	enum gw__event_kind kind;
	uint64_t off; /* in the stream, of the event's first byte */
	struct gw__section section;
	struct gw__command command;
	struct gw__ram_where where;
	uint64_t seek_off;
	struct gw__view raw, body, delta;
	const char *anomaly; /* NULL, or what is legal here but no source does: for a warning */
};

struct gw__stream_opts {
	uint64_t base_off;     /* absolute file offset of the first byte; sentences and mapped-ram offsets count from 0 of the file */
	size_t tail_max_bytes; /* device state, early devices included, and description, the only unbounded part: -E2BIG beyond */
	bool postcopy;         /* the source may go over to post-copy; else that is -EOPNOTSUPP */
	/*
	 * Of the target, powers of two from 1024 on; a stream often does not state it (docs/spec/stream.md 3.1). `page_bytes`: what the
	 * user says, a stream that states another is refused. `usual_page_bytes`: what holds until the stream states it. 0: not known.
	 */
	uint64_t page_bytes, usual_page_bytes;
};

/* How far post-copy is (docs/spec/postcopy.md 2). */
enum gw__stream_postcopy {
	GW__STREAM_PRECOPY,
	GW__STREAM_ADVISED,
	GW__STREAM_DISCARDED,
	GW__STREAM_LISTENING, /* LISTEN came: only whole pages from here on */
	GW__STREAM_RUNNING,
	GW__STREAM_RECOVERING, /* a main channel made anew, before its RESUME */
	GW__STREAM_POSTCOPY_STATES
};

/* What a channel that begins without a head has to know from the first main channel of its migration. */
struct gw__stream_guest {
	uint64_t page_bytes;
	uint32_t ram_id;                 /* of the RAM section */
	bool ram_section_id_unknown;     /* it is not known: the first section tells */
	const struct gw__blocks *blocks; /* copied */
};

enum {
	GW__OPEN_SECTIONS_MAX = 64,
	GW__EARLY_MAX = 256, /* devices before the end of the RAM section; a guest has one per virtio-mem device */
};

enum gw__stream_state {
	GW__STREAM_HEAD,      /* magic, version, configuration */
	GW__STREAM_ITEM,      /* between items */
	GW__STREAM_RECORD,    /* inside the RAM section's body */
	GW__STREAM_LIST,      /* inside a block list */
	GW__STREAM_FOOTER,    /* a RAM body ended */
	GW__STREAM_TRAILER,   /* after RAM: looking for the end */
	GW__STREAM_TAIL_ITEM, /* the end is known: handing out what lies before it */
	GW__STREAM_DONE,
	GW__STREAM_BROKEN, /* an error was returned; it stays */
};

struct gw__stream {
	/* For the caller to read. */
	struct gw__config config;
	struct gw__blocks blocks;
	struct gw__vmdesc *desc; /* after EVENT_DESC */
	uint64_t off;            /* of the next byte, from the start of the file */
	uint64_t page_bytes;
	bool page_stated;         /* by the configuration, ADVISE, a mapped-ram header or the user, in the order of their coming */
	bool return_path;         /* OPEN_RETURN_PATH came */
	bool advised, switchover; /* POSTCOPY_ADVISE, SWITCHOVER_START came */
	enum gw__stream_postcopy postcopy;
	uint64_t discarded_bytes; /* by all RAM_DISCARDs together */
	size_t package_left;      /* bytes of the package still to come: items in it are events like all others */
	bool ram_started, ram_ended;
	bool background; /* ended in the background-snapshot shape: RAM never ENDed */
	uint32_t ram_id;
	uint32_t parts, devices_n; /* RAM PARTs; FULL sections so far */

	/* Its own. */
	struct gw__stream_opts opts;
	enum gw__stream_state state;
	struct gw__blocks_rule rule;
	struct gw__block list_block; /* decoded, waiting for its mapped-ram seek */
	uint64_t list_total, list_left;
	uint32_t list_at;
	bool block_list_repeated; /* a repeated list must equal the first */
	bool headless;            /* the preempt channel: page records without sections */
	bool discover_blocks;     /* nothing is known of the guest: blocks are taken as they are named */
	bool learns_id;           /* the id of the RAM section is taken as it comes */
	bool checkpoint;          /* of COLO: nothing but the RAM of a checkpoint */
	int64_t last_block;       /* for CONTINUE; -1: none yet */
	uint8_t section_type;
	struct {
		uint32_t id;
		char idstr[GW__NAME_MAX + 1];
	} open[GW__OPEN_SECTIONS_MAX];
	uint32_t open_n;
	struct gw__section *early; /* FULL sections before the tail */
	uint32_t early_n, early_room;
	size_t early_bytes; /* of all of them; at most tail_max_bytes */
	size_t search_from; /* progress of a footer search in the bytes at hand */
	struct gw__trailer tail;
	struct gw__trailer_end end;
	size_t tail_left; /* bytes before the end not yet handed out */
	struct gw__error broken;
};

void gw__stream_init(struct gw__stream *s, const struct gw__stream_opts *o);
/*
 * The main channel of a recovery, whose first byte is a command, and the preempt channel, whose first byte is a page record. `g`
 * NULL: nothing is known of the guest; then pages have 4096 bytes and every block exists. 0 or -ENOMEM.
 */
int gw__stream_init_recovery(struct gw__stream *s, const struct gw__stream_opts *o, const struct gw__stream_guest *g);
int gw__stream_init_preempt(struct gw__stream *s, const struct gw__stream_opts *o, const struct gw__stream_guest *g);
void gw__stream_fini(struct gw__stream *s);

/*
 * COLO: a stream that is complete (EVENT_END) goes on with the RAM of the next checkpoint, after VMSTATE_SEND: the END of its RAM section and
 * the byte 00, as SECTION, PAGE or ZERO, FLUSH, EOS, SECTION_END, EOF and EVENT_END again. The block that CONTINUE means is kept from one to the
 * next (docs/spec/colo.md 5.1). Any number of times; what came between is not the decoder's.
 */
void gw__stream_begin_checkpoint(struct gw__stream *s);
/* May it? Not a stream that ended without the END of its RAM section, nor one for files. */
bool gw__stream_takes_checkpoints(const struct gw__stream *s);

/*
 * 1: one event in *ev. 0: more bytes are needed. Both: *used bytes are done with. Negative errno: the stream is wrong,
 * with a sentence that names the place. `last`: these are all the bytes there will ever be (or the peer has been
 * silent after what may be the end). Views in *ev point into `bytes`.
 */
int gw__stream_next(struct gw__stream *s, const uint8_t *bytes, size_t n, bool last, size_t *used, struct gw__event *ev,
	struct gw__error *error);

const char *gw__event_name(enum gw__event_kind kind);

#endif
