/* SPDX-License-Identifier: MIT */
/* Peers that are GnuTLS without our code: what they see of us, and things they may do that we never do. */
#include "tls_unit.h"

#include <poll.h>

enum { FAR_MS = 20000 };

#define TLS12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"

struct meeting {
	struct gw__tls_creds *creds;
	struct gw__chan *ours;
	struct raw peer;
};

static void meet(struct meeting *m, enum gw__tls_role ours, const char *priority, bool clean_end)
{
	struct gw__tls_opts o = {.dir = certs_of("good")};
	struct gw__error error = {0};
	int fd;
	assert_ok(gw__tls_creds_load(ours, &o, &m->creds, &error), error);
	m->ours = chan_and_fd(&fd, FAR_MS);
	raw_start(&m->peer, fd, ours == GW__TLS_CLIENT ? GW__TLS_SERVER : GW__TLS_CLIENT, priority);
	assert_ok(gw__chan_start_tls(&m->ours, m->creds, CERTS_HOST, clean_end, &error), error);
	assert_int_equal(raw_finish(&m->peer), 0);
}

static void part(struct meeting *m)
{
	assert_int_equal(gw__chan_close(&m->ours, NULL), 0);
	gw__tls_creds_free(m->creds);
	raw_close(&m->peer);
}

static void drop_peer(struct meeting *m)
{
	close(m->peer.fd);
	m->peer.fd = -1;
}

/* --- what they see -------------------------------------------------------------------------------------- */

static void goodbye_is_said_by_end_writes_alone(void **state)
{
	for (int clean = 0; clean < 2; clean++)
		for (int ended = 0; ended < 2; ended++) {
			struct meeting m;
			char got[8];
			meet(&m, GW__TLS_CLIENT, NULL, clean);
			assert_int_equal(gw__chan_write_all(m.ours, "last", 4, NULL), 0);
			if (ended) {
				assert_int_equal(gw__chan_end_writes(m.ours, NULL), 0);
				assert_int_equal(gw__chan_end_writes(m.ours, NULL), 0);
			}
			gw__chan_close(&m.ours, NULL);
			assert_int_equal(gnutls_record_recv(m.peer.session, got, sizeof got), 4);
			assert_int_equal(gnutls_record_recv(m.peer.session, got, sizeof got),
				clean && ended ? 0 : GNUTLS_E_PREMATURE_TERMINATION);
			part(&m);
		}
}

/* channels.md 3.3: a word that a source does not read can cost it the end of its stream. */
static void a_server_sends_nothing_of_its_own(void **state)
{
	const char *const priorities[] = {NULL, TLS12};
	for (int i = 0; i < 2; i++) {
		struct meeting m;
		meet(&m, GW__TLS_SERVER, priorities[i], true);
		struct pollfd p = {m.peer.fd, POLLIN, 0};
		assert_int_equal(poll(&p, 1, 0), 0);
		gw__chan_close(&m.ours, NULL);
		char byte;
		assert_int_equal(recv(m.peer.fd, &byte, 1, 0), 0); /* nor when it closes */
		part(&m);
	}
}

static void a_page_and_its_header_share_a_record(void **state)
{
	struct meeting m;
	char header[8] = "header", page[4096] = "page", got[5000];
	meet(&m, GW__TLS_CLIENT, NULL, false);
	struct iovec iov[] = {{header, sizeof header}, {page, sizeof page}};
	assert_int_equal(gw__chan_write_allv(m.ours, iov, 2, NULL), 0);
	assert_int_equal(gnutls_record_recv(m.peer.session, got, sizeof got), sizeof header + sizeof page);
	part(&m);
}

/* --- what they may do ----------------------------------------------------------------------------------- */

static void new_keys_in_the_stream_are_no_matter(void **state)
{
	struct meeting m;
	char got[8];
	meet(&m, GW__TLS_CLIENT, NULL, false);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(gnutls_record_send(m.peer.session, "before", 6), 6);
		assert_int_equal(gnutls_session_key_update(m.peer.session, GNUTLS_KU_PEER), 0);
		assert_int_equal(gnutls_record_send(m.peer.session, "behind", 6), 6);
		read_all(m.ours, got, 6);
		assert_memory_equal(got, "before", 6);
		read_all(m.ours, got, 6);
		assert_memory_equal(got, "behind", 6);
		/* Keys at the end of what is there: a read that has something does not wait for what follows.
		 */
		assert_int_equal(gnutls_record_send(m.peer.session, "enough", 6), 6);
		assert_int_equal(gnutls_session_key_update(m.peer.session, 0), 0);
		assert_int_equal(gw__chan_read(m.ours, got, sizeof got, NULL), 6);
		assert_int_equal(gw__chan_write_all(m.ours, "ours", 4, NULL), 0); /* with new keys too, as asked */
		ssize_t n;
		do
			n = gnutls_record_recv(m.peer.session, got, sizeof got);
		while (n == GNUTLS_E_AGAIN);
		assert_int_equal(n, 4);
	}
	part(&m);
}

static void tickets_are_passed_over(void **state)
{
	struct meeting m;
	gnutls_datum_t key;
	char got[8];
	meet(&m, GW__TLS_CLIENT, NULL, false);
	assert_int_equal(gnutls_session_ticket_key_generate(&key), 0);
	assert_int_equal(gnutls_session_ticket_enable_server(m.peer.session, &key), 0);
	assert_int_equal(gnutls_session_ticket_send(m.peer.session, 1, 0), 0);
	assert_int_equal(gnutls_record_send(m.peer.session, "data", 4), 4);
	read_all(m.ours, got, 4);
	assert_memory_equal(got, "data", 4);
	gnutls_memset(key.data, 0, key.size);
	gnutls_free(key.data);
	part(&m);
}

static void negotiating_anew_is_refused(void **state)
{
	struct meeting m;
	struct gw__error error = {0};
	char byte;
	meet(&m, GW__TLS_CLIENT, TLS12, false);
	assert_int_equal(gnutls_rehandshake(m.peer.session), 0);
	assert_int_equal(gw__chan_read(m.ours, &byte, 1, &error), -EPROTO);
	assert_says(error, "negotiate TLS anew");
	part(&m);
}

static void warnings_are_passed_over(void **state)
{
	struct meeting m;
	char got[8];
	meet(&m, GW__TLS_CLIENT, TLS12, false);
	assert_int_equal(gnutls_alert_send(m.peer.session, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED), 0);
	assert_int_equal(gnutls_record_send(m.peer.session, "data", 4), 4);
	read_all(m.ours, got, 4);
	assert_memory_equal(got, "data", 4);
	part(&m);
}

static void a_goodbye_ends_the_stream(void **state)
{
	for (int clean = 0; clean < 2; clean++) {
		struct meeting m;
		char got[8];
		meet(&m, GW__TLS_SERVER, NULL, clean);
		assert_int_equal(gnutls_record_send(m.peer.session, "data", 4), 4);
		assert_int_equal(gnutls_bye(m.peer.session, GNUTLS_SHUT_WR), 0);
		read_all(m.ours, got, 4);
		assert_int_equal(gw__chan_read(m.ours, got, 1, NULL), 0); /* though the connection is open */
		part(&m);
	}
}

static void a_fatal_alert_is_told(void **state)
{
	static const struct {
		gnutls_alert_description_t alert;
		int r;
		const char *says;
	} rows[] = {
		{GNUTLS_A_INTERNAL_ERROR, -EPROTO, "the peer ended TLS: Internal error (alert 80)"},
		{GNUTLS_A_CERTIFICATE_REVOKED, -EACCES, "the peer refused us: our certificate is revoked"},
		{GNUTLS_A_ACCESS_DENIED, -EACCES, "our distinguished name is not authorised"},
		{(gnutls_alert_description_t)200, -EPROTO, "unknown alert (alert 200)"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct meeting m;
		struct gw__error error = {0};
		char byte;
		meet(&m, GW__TLS_CLIENT, NULL, false);
		assert_int_equal(gnutls_record_send(m.peer.session, "x", 1), 1);
		assert_int_equal(gnutls_alert_send(m.peer.session, GNUTLS_AL_FATAL, rows[i].alert), 0);
		drop_peer(&m);
		read_all(m.ours, &byte, 1); /* what came before it counts */
		assert_int_equal(gw__chan_read(m.ours, &byte, 1, &error), rows[i].r);
		assert_says(error, rows[i].says);
		part(&m);
	}
}

static void a_writer_hears_why_the_peer_left(void **state)
{
	struct meeting m;
	struct gw__error error = {0};
	char byte;
	meet(&m, GW__TLS_CLIENT, NULL, false);
	assert_int_equal(gnutls_alert_send(m.peer.session, GNUTLS_AL_FATAL, GNUTLS_A_UNKNOWN_CA), 0);
	drop_peer(&m);
	assert_int_equal(gw__chan_write_all(m.ours, "x", 1, &error), -EACCES);
	assert_says(error, "the peer refused us: it does not know the CA of our certificate");
	assert_int_equal(gw__chan_write_all(m.ours, "x", 1, NULL), -EACCES);
	assert_int_equal(gw__chan_read(m.ours, &byte, 1, NULL), -EACCES);
	part(&m);
}

/* A destination that fails says so on the return path, then closes: its source, which writes, reads that. */
static void what_the_peer_said_before_it_left_can_be_read(void **state)
{
	for (int alert = 0; alert < 2; alert++) {
		enum { BIG_BYTES = 1 << 20 };
		struct meeting m;
		struct gw__error error = {0};
		char got[16], *bytes = calloc(1, BIG_BYTES);
		meet(&m, GW__TLS_CLIENT, NULL, true);
		assert_int_equal(gnutls_session_key_update(m.peer.session, 0), 0);
		assert_int_equal(gnutls_record_send(m.peer.session, "first", 5), 5);
		assert_int_equal(gnutls_record_send(m.peer.session, "last", 4), 4);
		if (alert)
			assert_int_equal(gnutls_alert_send(m.peer.session, GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR), 0);
		drop_peer(&m);
		assert_int_equal(gw__chan_write_all(m.ours, bytes, BIG_BYTES, &error), -EPIPE);
		assert_null(strstr(error.text, "accepted"));
		assert_int_equal(gw__chan_write_all(m.ours, "x", 1, NULL), -EPIPE);
		assert_int_equal(gw__chan_end_writes(m.ours, NULL), -EPIPE);
		assert_int_equal(gw__chan_wait_readable(m.ours, 0, NULL), 1);
		read_all(m.ours, got, 3);
		assert_int_equal(gw__chan_wait_readable(m.ours, 0, NULL), 1);
		read_all(m.ours, got + 3, 6);
		assert_memory_equal(got, "firstlast", 9);
		assert_int_equal(gw__chan_wait_readable(m.ours, -1, NULL), 1);
		assert_int_equal(gw__chan_read(m.ours, got, 1, NULL), alert ? -EPROTO : 0);
		free(bytes);
		part(&m);
	}
}

static void plain_bytes_behind_the_handshake_are_refused(void **state)
{
	struct meeting m;
	struct gw__error error = {0};
	char byte;
	meet(&m, GW__TLS_SERVER, NULL, false);
	assert_int_equal(send(m.peer.fd, "QEVM\0\0\0\3", 8, 0), 8);
	shutdown(m.peer.fd, SHUT_WR);
	assert_int_equal(gw__chan_read(m.ours, &byte, 1, &error), -EPROTO);
	assert_says(error, "TLS: ");
	part(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goodbye_is_said_by_end_writes_alone),
		cmocka_unit_test(a_server_sends_nothing_of_its_own),
		cmocka_unit_test(a_page_and_its_header_share_a_record),
		cmocka_unit_test(new_keys_in_the_stream_are_no_matter),
		cmocka_unit_test(tickets_are_passed_over),
		cmocka_unit_test(negotiating_anew_is_refused),
		cmocka_unit_test(warnings_are_passed_over),
		cmocka_unit_test(a_goodbye_ends_the_stream),
		cmocka_unit_test(a_fatal_alert_is_told),
		cmocka_unit_test(a_writer_hears_why_the_peer_left),
		cmocka_unit_test(what_the_peer_said_before_it_left_can_be_read),
		cmocka_unit_test(plain_bytes_behind_the_handshake_are_refused),
	};
	return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
