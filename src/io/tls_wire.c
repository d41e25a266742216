/* SPDX-License-Identifier: MIT */
/*
 * Between GnuTLS and the channel below: encrypted bytes, in buffers of several records, so that a record does
 * not cost three system calls. GnuTLS knows of its transport only bytes and errno; the sentence is kept in
 * t->failure.
 *
 * After the handshake GnuTLS is asked for a record only when all of it is in the buffer. So it never stops
 * half-way, and whether there is something to read is known without asking it. Called by the thread that owns
 * the channel.
 */
#include "io/tls_parts.h"

#include <errno.h>
#include <string.h>

#include "io/wait.h"

enum { HEADER = 5, NS_PER_MS = 1000000 };

/* The handshake is limited as a whole: a peer that drops a byte now and then must not hold a slot for ever.
 */
static struct gw__chan *inner_of(struct gw__tls *t)
{
	struct gw__chan *inner = gw__filter_inner(&t->f.chan);
	if (t->is_up || t->deadline == UINT64_MAX)
		return inner;
	uint64_t now = gw__io_now_ns();
	inner->idle_ms = now < t->deadline ? (int)((t->deadline - now + NS_PER_MS - 1) / NS_PER_MS) : 0;
	return inner;
}

/* --- reading -------------------------------------------------------------------------------------------- */

static void make_room(struct gw__tls *t)
{
	if (t->in_from && sizeof t->in - t->in_to < GW__TLS_RECORD_MAX) {
		memmove(t->in, t->in + t->in_from, t->in_to - t->in_from);
		t->in_to -= t->in_from;
		t->in_from = 0;
	}
}

int gw__tls_fill(struct gw__tls *t)
{
	/* A peer that never lets us wait is measured too. */
	if (!t->is_up && gw__io_is_over(t->deadline))
		return gw__error_set(&t->failure, -ETIMEDOUT, "%s: the handshake takes too long", t->f.chan.name);
	make_room(t);
	ssize_t got = gw__chan_read(inner_of(t), t->in + t->in_to, sizeof t->in - t->in_to, &t->failure);
	if (got < 0)
		return (int)got;
	t->inner_ended = got == 0;
	t->in_to += (size_t)got;
	return 0;
}

bool gw__tls_has_record(const struct gw__tls *t)
{
	const unsigned char *at = t->in + t->in_from;
	size_t there = t->in_to - t->in_from;
	if (there < HEADER)
		return false;
	size_t want = HEADER + ((size_t)at[3] << 8 | at[4]);
	return there >= want || want > GW__TLS_RECORD_MAX; /* the latter is for GnuTLS to refuse */
}

/* Said with the first byte, not after a time: a handshake, or an alert instead of one, is all TLS can begin
 * with. */
static bool is_tls(struct gw__tls *t)
{
	unsigned char first = t->in[t->in_from];
	t->not_tls = !t->heard && first != 0x16 && first != 0x15;
	t->heard = true;
	return !t->not_tls;
}

static ssize_t fail(struct gw__tls *t, int err)
{
	gnutls_transport_set_errno(t->session, err);
	return -1;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *to, size_t n)
{
	struct gw__tls *t = ptr;
	if (t->in_from == t->in_to) {
		if (t->inner_ended)
			return 0;
		/* What the peer waits for goes first. */
		if (gw__tls_flush(t) || gw__tls_fill(t))
			return fail(t, EIO);
		if (t->inner_ended)
			return 0;
		if (!is_tls(t))
			return fail(t, EPROTO);
	}
	size_t there = t->in_to - t->in_from, part = n < there ? n : there;
	memcpy(to, t->in + t->in_from, part);
	t->in_from += part;
	if (t->in_from == t->in_to)
		t->in_from = t->in_to = 0;
	return (ssize_t)part;
}

/* GnuTLS has limits of its own for some waits; ours are those of the channel. */
static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms) { return 1; }

/* --- writing -------------------------------------------------------------------------------------------- */

int gw__tls_flush(struct gw__tls *t)
{
	struct gw__error error = {0};
	size_t n = t->out_n;
	t->out_n = 0;
	if (t->lost.code)
		return t->lost.code;
	int r = n ? gw__chan_write_all(inner_of(t), t->out, n, &error) : 0;
	if (r == -EPIPE || r == -ECONNRESET)
		t->lost = error;
	else if (r && !t->failure.code)
		t->failure = error;
	return r;
}

/* GnuTLS does not hear that the peer is lost: it would not let us read any more. */
static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int n)
{
	struct gw__tls *t = ptr;
	size_t sum = 0;
	for (int i = 0; i < n; i++)
		for (size_t done = 0; done < iov[i].iov_len;) {
			size_t room = sizeof t->out - t->out_n, left = iov[i].iov_len - done, part = left < room ? left : room;
			memcpy(t->out + t->out_n, (const char *)iov[i].iov_base + done, part);
			t->out_n += part;
			done += part;
			sum += part;
			if (t->out_n == sizeof t->out && gw__tls_flush(t) && (!t->is_up || t->failure.code))
				return fail(t, EIO);
		}
	return (ssize_t)sum;
}

void gw__tls_wire_init(struct gw__tls *t)
{
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_pull_timeout_function(t->session, pull_timeout);
	gnutls_transport_set_vec_push_function(t->session, push);
}
