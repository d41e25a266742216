/* SPDX-License-Identifier: MIT */
/*
 * A channel whose bytes are encrypted on the one below it: what is written becomes records, what records hold
 * is read. It exists only after the handshake. Owned as the channel is.
 */
#include "io/tls_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	SOON_BYTES = 8 << 20 /* more than the buffers between two peers hold */
};

static struct gw__tls *tls(struct gw__chan *c) { return (struct gw__tls *)c; }

/* In TLS 1.3, a connection lost early is all that a client may hear when its certificate is not liked. */
static void suspect_credentials(const struct gw__tls *t, struct gw__error *error)
{
	struct gw__error said = *error;
	bool is_early = t->f.chan.in_bytes == 0 && t->kept_to == 0 && t->f.chan.out_bytes < SOON_BYTES;
	if ((said.code != -EPIPE && said.code != -ECONNRESET) || !is_early || t->creds->role != GW__TLS_CLIENT)
		return;
	gw__error_clear(error);
	gw__error_set(error, said.code, "%s; the peer may not have accepted who we are: see its log", said.text);
}

/* A failure is final, but for waits that ended: no record is lost by them. */
static int fail(struct gw__tls *t, bool can_go_on, struct gw__error *error)
{
	int r = gw__error_set(error, t->failure.code, "%s", t->failure.text);
	if (can_go_on && (r == -ETIMEDOUT || r == -ECANCELED))
		gw__error_clear(&t->failure);
	return r;
}

static int say_read_failed(struct gw__tls *t, int r)
{
	const char *name = t->f.chan.name;
	if (t->failure.code)
		return t->failure.code;
	if (r == GNUTLS_E_FATAL_ALERT_RECEIVED)
		return gw__tls_say_alert(t);
	if (r == GNUTLS_E_REHANDSHAKE)
		return gw__error_set(&t->failure, -EPROTO, "%s: the peer wants to negotiate TLS anew; expected data", name);
	if (r == GNUTLS_E_DECRYPTION_FAILED)
		return gw__error_set(&t->failure, -EBADMSG, "%s: a TLS record was damaged or forged on its way", name);
	return gw__error_set(&t->failure, -EPROTO, "%s: TLS: %s", name, gw__tls_reason(r).text);
}

/* --- reading -------------------------------------------------------------------------------------------- */

/* A record, or a rest of one. It may hold no data: then the next read waits for one that does. */
static bool has_record(const struct gw__tls *t) { return gnutls_record_check_pending(t->session) > 0 || gw__tls_has_record(t); }

static ssize_t read_kept(struct gw__tls *t, void *to, size_t n)
{
	size_t left = t->kept_to - t->kept_from, part = n < left ? n : left;
	memcpy(to, t->plain + t->kept_from, part);
	t->kept_from += part;
	return (ssize_t)part;
}

/* Bytes > 0, 0 at the end (or for now, if it may not wait), or an error that is in t->failure. */
static ssize_t read_some(struct gw__tls *t, void *to, size_t n, bool may_wait)
{
	if (t->kept_from < t->kept_to)
		return read_kept(t, to, n);
	while (!t->at_end) {
		while (!has_record(t) && !t->inner_ended) {
			if (!may_wait)
				return 0;
			if ((gw__tls_flush(t) && t->failure.code) || gw__tls_fill(t)) {
				suspect_credentials(t, &t->failure);
				return t->failure.code;
			}
		}
		/* GnuTLS is not told of an abrupt end: it would not let us answer any more. */
		t->at_end = !has_record(t);
		ssize_t got = t->at_end ? 0 : gnutls_record_recv(t->session, to, n);
		if (got > 0)
			return got;
		t->at_end = got == 0;
		if (!t->at_end && (gnutls_error_is_fatal((int)got) || got == GNUTLS_E_REHANDSHAKE))
			return say_read_failed(t, (int)got);
	}
	return 0;
}

/* Fills as much as there are records for, so that a page does not come in pieces of 16 KiB. */
static ssize_t tls_readv(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct gw__tls *t = tls(c);
	size_t sum = 0;
	if (t->failure.code)
		return fail(t, false, error);
	for (int i = 0; i < n; i++)
		for (size_t done = 0; done < iov[i].iov_len;) {
			ssize_t got = read_some(t, (char *)iov[i].iov_base + done, iov[i].iov_len - done, sum == 0);
			if (got <= 0 && sum)
				return (ssize_t)sum; /* the next call says it */
			if (got <= 0)
				return got < 0 ? fail(t, true, error) : 0;
			done += (size_t)got;
			sum += (size_t)got;
		}
	return (ssize_t)sum;
}

static bool tls_has_input(struct gw__chan *c)
{
	struct gw__tls *t = tls(c);
	return t->failure.code || t->at_end || t->inner_ended || t->kept_from < t->kept_to || has_record(t) || gw__filter_has_input(c);
}

/* --- writing -------------------------------------------------------------------------------------------- */

/*
 * The peer closed while we wrote. If the next it said is an alert, that is the failure; data are kept for
 * whoever wants to read on.
 */
static void explain_lost(struct gw__tls *t)
{
	struct gw__error ignored = {0};
	ssize_t got = GNUTLS_E_AGAIN;
	while (got < 0 && !gnutls_error_is_fatal((int)got) && !t->failure.code) {
		if (has_record(t))
			got = gnutls_record_recv(t->session, t->plain, sizeof t->plain);
		else if (t->inner_ended || gw__chan_wait_readable(gw__filter_inner(&t->f.chan), 0, &ignored) != 1 || gw__tls_fill(t))
			break;
	}
	t->kept_to = got > 0 ? (size_t)got : 0;
	if (got == GNUTLS_E_FATAL_ALERT_RECEIVED)
		gw__tls_say_alert(t);
	else
		suspect_credentials(t, &t->lost);
}

static int send_record(struct gw__tls *t, const unsigned char *from, size_t n)
{
	for (size_t done = 0; done < n;) {
		if (t->lost.code)
			return t->lost.code;
		ssize_t put = gnutls_record_send(t->session, from + done, n - done);
		if (put > 0)
			done += (size_t)put;
		else if (t->failure.code || gnutls_error_is_fatal((int)put))
			return gw__error_set(&t->failure, -EPROTO, "%s: TLS, sending: %s", t->f.chan.name, gw__tls_reason((int)put).text);
	}
	return 0;
}

/* Small pieces share a record; large ones are taken from where they are. */
static int send_all(struct gw__tls *t, const struct iovec *iov, int n)
{
	size_t gathered = 0;
	int r = 0;
	for (int i = 0; i < n; i++)
		for (size_t done = 0, part; done < iov[i].iov_len && r == 0; done += part) {
			const unsigned char *from = (const unsigned char *)iov[i].iov_base + done;
			size_t left = iov[i].iov_len - done, room = sizeof t->plain - gathered;
			part = left < room ? left : room;
			if (part == sizeof t->plain) {
				r = send_record(t, from, part);
				continue;
			}
			memcpy(t->plain + gathered, from, part);
			gathered += part;
			if (gathered == sizeof t->plain) {
				r = send_record(t, t->plain, gathered);
				gathered = 0;
			}
		}
	r = r == 0 && gathered ? send_record(t, t->plain, gathered) : r;
	return r ? r : gw__tls_flush(t);
}

/* What a call that writes returns when it could not. */
static int fail_to_write(struct gw__tls *t, bool is_news, struct gw__error *error)
{
	if (is_news && !t->failure.code)
		explain_lost(t);
	if (t->failure.code)
		return fail(t, false, error);
	return gw__error_set(error, t->lost.code, "%s", t->lost.text);
}

static ssize_t tls_writev(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct gw__tls *t = tls(c);
	if (t->failure.code || t->lost.code)
		return fail_to_write(t, false, error);
	if (send_all(t, iov, n))
		return fail_to_write(t, true, error);
	return (ssize_t)gw__iov_bytes(iov, n);
}

static int tls_end_writes(struct gw__chan *c, struct gw__error *error)
{
	struct gw__tls *t = tls(c);
	if (t->failure.code || t->lost.code)
		return fail_to_write(t, false, error);
	if (t->clean_end && !t->clean_end_sent) {
		t->clean_end_sent = true;
		int r = gnutls_bye(t->session, GNUTLS_SHUT_WR);
		if (r < 0)
			gw__error_set(&t->failure, -EPROTO, "%s: TLS, ending the stream: %s", c->name, gw__tls_reason(r).text);
		if (r < 0 || gw__tls_flush(t))
			return fail_to_write(t, true, error);
	}
	return gw__filter_end_writes(c, error);
}

/* --- the end -------------------------------------------------------------------------------------------- */

void gw__tls_free(struct gw__tls *t)
{
	if (t->session)
		gnutls_deinit(t->session);
	gnutls_memset(t->plain, 0, sizeof t->plain);
	free(t);
}

static int tls_close(struct gw__chan *c, struct gw__error *error)
{
	struct gw__chan *inner = gw__filter_inner(c);
	gw__tls_free(tls(c));
	return gw__chan_close(&inner, error);
}

const struct gw__chan_ops gw__tls_ops = {
	.readv = tls_readv,
	.writev = tls_writev,
	.has_input = tls_has_input,
	.end_writes = tls_end_writes,
	.close = tls_close,
};
