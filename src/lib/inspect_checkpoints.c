/* SPDX-License-Identifier: MIT */
/* Checkpoints after a guest in a file, by the dissector; see inspect_checkpoints.h. */
#include "lib/inspect_checkpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "dissect/dissector.h"
#include "io/wait.h"

enum { PIECE_BYTES = 512 << 10, MORE_BYTES = 1 << 20 };

struct reading {
	struct gw__checkpoints *sum;
	struct gw__checkpoints now; /* of the one that is not whole yet */
	bool in_devices;
	uint64_t guest_off;
	int fd;
	uint8_t *bytes;
	size_t n, room, room_max;
};

static uint64_t field(const struct gw__message *m, const char *name)
{
	for (unsigned i = 0; i < m->fields_n; i++)
		if (!strcmp(m->field[i].name, name))
			return m->field[i].number;
	return 0;
}

static bool take_message(void *ctx, const struct gw__message *m)
{
	struct reading *r = ctx;
	if (gw__message_is(m, "CHECKPOINT_REQUEST")) {
		r->now = (struct gw__checkpoints){0};
		r->in_devices = false;
	}
	if (m->sum) {
		r->now.pages += field(m, "pages");
		r->now.zero_pages += field(m, "zero_pages");
	}
	if (r->in_devices && gw__message_is(m, "EOF")) {
		r->sum->whole++;
		r->sum->pages += r->now.pages;
		r->sum->zero_pages += r->now.zero_pages;
		r->sum->end_off = r->guest_off + m->off + m->bytes;
	}
	r->in_devices = gw__message_is(m, "VMSTATE_SIZE") || (r->in_devices && gw__message_is(m, "DEVICE"));
	return true;
}

static bool make_room(struct reading *r)
{
	if (r->room - r->n >= PIECE_BYTES)
		return true;
	if (r->room >= r->room_max)
		return false;
	uint8_t *bytes = realloc(r->bytes, r->room * 2);
	if (!bytes)
		return false;
	r->bytes = bytes;
	r->room *= 2;
	return true;
}

/* The guest's last byte ends a piece, so that its end is known before more is shown. */
static int read_all(struct gw__run *run, struct reading *r, struct gw__dissector *x, uint64_t guest_end_off)
{
	for (uint64_t at = r->guest_off; make_room(r);) {
		if (gw__io_cancelled(run->cancel_fd))
			return gw__error_set(&run->error, -ECANCELED, "cancelled");
		size_t want = at < guest_end_off ? gw__min(PIECE_BYTES, guest_end_off - at) : PIECE_BYTES;
		ssize_t got = pread(r->fd, r->bytes + r->n, want, (off_t)at);
		if (got <= 0)
			break;
		at += (uint64_t)got;
		r->n += (size_t)got;
		size_t used = gw__dissector(x, r->bytes, r->n, false);
		r->n -= used;
		memmove(r->bytes, r->bytes + used, r->n);
	}
	gw__dissector_pause(x);
	return 0;
}

int gw__inspect_checkpoints(struct gw__run *run, const char *path, uint64_t guest_off, uint64_t guest_end_off, struct gw__checkpoints *c)
{
	size_t memory_limit = run->tail_max_bytes;
	struct reading r = {.sum = c, .guest_off = guest_off, .room = 2 * PIECE_BYTES, .room_max = memory_limit + MORE_BYTES};
	struct gw__migration_view view;
	struct gw__dissector *x = NULL;
	struct stat st;
	int err = 0;
	*c = (struct gw__checkpoints){0};
	gw__migration_view_init(&view);
	struct gw__dissector_opts o = {.kind = GW__DISSECTOR_MAIN,
		.view = &view,
		.tail_max_bytes = memory_limit,
		.say = take_message,
		.ctx = &r};
	r.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	r.bytes = malloc(r.room);
	if (r.fd >= 0 && fstat(r.fd, &st) == 0 && S_ISREG(st.st_mode) && r.bytes && !gw__dissector_new(&o, &x)) {
		c->file_bytes = (uint64_t)st.st_size;
		err = read_all(run, &r, x, guest_end_off);
	}
	gw__dissector_free(x);
	gw__migration_view_fini(&view);
	free(r.bytes);
	if (r.fd >= 0)
		close(r.fd);
	return err;
}
