/* SPDX-License-Identifier: MIT */
/*
 * Every call that TLS makes fails once, GnuTLS' functions included: there is an error with a sentence, or the
 * job was done all the same; nothing is left open. The linker puts the functions below in place of the real
 * ones; only the thread that is tortured counts.
 */
#include "tls_unit.h"

#include <fcntl.h>
#include <gnutls/x509.h>
#include <poll.h>

#include "base/math.h"

enum { FAR_MS = 20000 };

static _Thread_local struct {
	bool is_armed;
	long calls, fail_at;
	const char *failed;
} torture;

static bool is_due(const char *name)
{
	if (!torture.is_armed || torture.calls++ != torture.fail_at)
		return false;
	torture.failed = name;
	return true;
}

#define WRAP(failure, type, name, params, args)                                                                                            \
	type __real_##name params;                                                                                                         \
	type __wrap_##name params;                                                                                                         \
	type __wrap_##name params { return is_due(#name) ? (failure) : __real_##name args; }

#define FAILS(err, result) (errno = (err), (result))
#define NO_MEMORY          GNUTLS_E_MEMORY_ERROR

WRAP(FAILS(ENOMEM, NULL), void *, calloc, (size_t n, size_t size), (n, size))
WRAP(FAILS(ENOMEM, NULL), void *, malloc, (size_t n), (n))
WRAP(FAILS(ENOMEM, NULL), void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
WRAP(FAILS(ENOMEM, NULL), char *, strdup, (const char *text), (text))
WRAP(FAILS(EACCES, -1), int, access, (const char *path, int mode), (path, mode))
WRAP(FAILS(EIO, -1), ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
WRAP(FAILS(EIO, -1), ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(FAILS(EIO, -1), ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
WRAP(FAILS(EIO, -1), int, shutdown, (int fd, int how), (fd, how))
WRAP(FAILS(EIO, -1), int, ppoll, (struct pollfd * p, nfds_t n, const struct timespec *t, const sigset_t *s), (p, n, t, s))

WRAP(NO_MEMORY, int, gnutls_priority_init, (gnutls_priority_t * p, const char *text, const char **at), (p, text, at))
WRAP(NO_MEMORY, int, gnutls_certificate_allocate_credentials, (gnutls_certificate_credentials_t * c), (c))
WRAP(NO_MEMORY, int, gnutls_x509_crt_list_import2,
	(gnutls_x509_crt_t * *crts, unsigned *n, const gnutls_datum_t *data, gnutls_x509_crt_fmt_t format, unsigned flags),
	(crts, n, data, format, flags))
WRAP(NO_MEMORY, int, gnutls_x509_crl_list_import2,
	(gnutls_x509_crl_t * *crls, unsigned *n, const gnutls_datum_t *data, gnutls_x509_crt_fmt_t format, unsigned flags),
	(crls, n, data, format, flags))
WRAP(NO_MEMORY, int, gnutls_x509_crl_verify,
	(gnutls_x509_crl_t crl, const gnutls_x509_crt_t *cas, unsigned n, unsigned flags, unsigned *status), (crl, cas, n, flags, status))
WRAP(NO_MEMORY, int, gnutls_x509_crt_list_verify,
	(const gnutls_x509_crt_t *crts, unsigned n, const gnutls_x509_crt_t *cas, unsigned cas_n, const gnutls_x509_crl_t *crls,
		unsigned crls_n, unsigned flags, unsigned *status),
	(crts, n, cas, cas_n, crls, crls_n, flags, status))
WRAP(NO_MEMORY, int, gnutls_x509_crt_get_basic_constraints, (gnutls_x509_crt_t crt, unsigned *critical, unsigned *ca, int *depth),
	(crt, critical, ca, depth))
WRAP(NO_MEMORY, int, gnutls_x509_crt_get_key_usage, (gnutls_x509_crt_t crt, unsigned *usage, unsigned *critical), (crt, usage, critical))
WRAP(NO_MEMORY, int, gnutls_certificate_set_x509_trust, (gnutls_certificate_credentials_t c, gnutls_x509_crt_t *cas, int n), (c, cas, n))
WRAP(NO_MEMORY, int, gnutls_certificate_set_x509_crl, (gnutls_certificate_credentials_t c, gnutls_x509_crl_t *crls, int n), (c, crls, n))
WRAP(NO_MEMORY, int, gnutls_x509_privkey_init, (gnutls_x509_privkey_t * key), (key))
WRAP(NO_MEMORY, int, gnutls_x509_privkey_import2,
	(gnutls_x509_privkey_t key, const gnutls_datum_t *data, gnutls_x509_crt_fmt_t format, const char *password, unsigned flags),
	(key, data, format, password, flags))
WRAP(NO_MEMORY, int, gnutls_certificate_set_x509_key,
	(gnutls_certificate_credentials_t c, gnutls_x509_crt_t *crts, int n, gnutls_x509_privkey_t key), (c, crts, n, key))
WRAP(NO_MEMORY, int, gnutls_hex_decode2, (const gnutls_datum_t *hex, gnutls_datum_t *raw), (hex, raw))
WRAP(NO_MEMORY, int, gnutls_psk_allocate_client_credentials, (gnutls_psk_client_credentials_t * c), (c))
WRAP(NO_MEMORY, int, gnutls_psk_allocate_server_credentials, (gnutls_psk_server_credentials_t * c), (c))
WRAP(NO_MEMORY, int, gnutls_psk_set_client_credentials,
	(gnutls_psk_client_credentials_t c, const char *name, const gnutls_datum_t *key, gnutls_psk_key_flags flags), (c, name, key, flags))
WRAP(NO_MEMORY, int, gnutls_psk_set_server_known_dh_params, (gnutls_psk_server_credentials_t c, gnutls_sec_param_t how), (c, how))

WRAP(NO_MEMORY, int, gnutls_init, (gnutls_session_t * s, unsigned flags), (s, flags))
WRAP(NO_MEMORY, int, gnutls_priority_set, (gnutls_session_t s, gnutls_priority_t p), (s, p))
WRAP(NO_MEMORY, int, gnutls_credentials_set, (gnutls_session_t s, gnutls_credentials_type_t kind, void *c), (s, kind, c))
WRAP(NO_MEMORY, int, gnutls_server_name_set, (gnutls_session_t s, gnutls_server_name_type_t kind, const void *name, size_t n),
	(s, kind, name, n))
WRAP(NO_MEMORY, int, gnutls_handshake, (gnutls_session_t s), (s))
WRAP(NULL, const gnutls_datum_t *, gnutls_certificate_get_peers, (gnutls_session_t s, unsigned *n), (s, n))
WRAP(NO_MEMORY, int, gnutls_certificate_verify_peers, (gnutls_session_t s, gnutls_typed_vdata_st *data, unsigned n, unsigned *status),
	(s, data, n, status))
WRAP(NO_MEMORY, int, gnutls_x509_crt_init, (gnutls_x509_crt_t * crt), (crt))
WRAP(NO_MEMORY, int, gnutls_x509_crt_import, (gnutls_x509_crt_t crt, const gnutls_datum_t *data, gnutls_x509_crt_fmt_t format),
	(crt, data, format))
WRAP(NO_MEMORY, int, gnutls_x509_crt_get_dn3, (gnutls_x509_crt_t crt, gnutls_datum_t *dn, unsigned flags), (crt, dn, flags))
WRAP(NO_MEMORY, ssize_t, gnutls_record_send, (gnutls_session_t s, const void *from, size_t n), (s, from, n))
WRAP(NO_MEMORY, ssize_t, gnutls_record_recv, (gnutls_session_t s, void *to, size_t n), (s, to, n))
WRAP(NO_MEMORY, int, gnutls_bye, (gnutls_session_t s, gnutls_close_request_t how), (s, how))

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...) { return is_due("open") ? FAILS(EACCES, -1) : __real_open64(path, flags, 0); }

/* --- what is done --------------------------------------------------------------------------------------- */

struct use {
	const char *name, *folder;
	enum gw__tls_role role;
	struct gw__tls_opts opts;
};

static int use_creds(const struct use *u, struct gw__error *error)
{
	struct gw__tls_creds *creds;
	struct gw__tls_opts o = u->opts;
	o.dir = certs_of(u->folder);
	int r = gw__tls_creds_load(u->role, &o, &creds, error);
	if (r == 0)
		gw__tls_creds_free(creds);
	return r;
}

/* The other side is not tortured; it sends back what it gets, or ends with us. */
static void *echo(void *arg)
{
	struct end *e = arg;
	char got[64];
	ssize_t n = gw__chan_start_tls(&e->chan, e->creds, CERTS_HOST, true, NULL);
	for (n = n ? n : 1; n > 0;) {
		n = gw__chan_read(e->chan, got, sizeof got, NULL);
		n = n > 0 && gw__chan_write_all(e->chan, got, (size_t)n, NULL) ? -1 : n;
	}
	gw__chan_close(&e->chan, NULL);
	return NULL;
}

static int talk(struct gw__chan **c, const struct gw__tls_creds *creds, struct gw__error *error)
{
	char got[6];
	int r = gw__chan_start_tls(c, creds, CERTS_HOST, true, error);
	r = r ? r : gw__chan_write_all(*c, "stream", 6, error);
	for (size_t done = 0; r == 0 && done < sizeof got;) {
		ssize_t n = gw__chan_read(*c, got + done, sizeof got - done, error);
		if (n <= 0)
			r = n ? (int)n : gw__error_set(error, -EPIPE, "the echo ended");
		done += n > 0 ? (size_t)n : 0;
	}
	r = r ? r : gw__chan_end_writes(*c, error);
	bool was_armed = torture.is_armed;
	torture.is_armed = false;
	gw__chan_close(c, NULL);
	torture.is_armed = was_armed;
	return r;
}

static int use_chan(const struct use *u, struct gw__error *error)
{
	struct end other = {0};
	struct gw__chan *pair[2];
	struct gw__tls_creds *creds;
	struct gw__tls_opts ours = u->opts, theirs = {.dir = certs_of(u->folder)};
	struct gw__io_opts io = limits(FAR_MS);
	pthread_t thread;
	ours.dir = theirs.dir;
	torture.is_armed = false;
	assert_ok(gw__tls_creds_load(u->role, &ours, &creds, error), *error);
	assert_ok(gw__tls_creds_load(u->role == GW__TLS_CLIENT ? GW__TLS_SERVER : GW__TLS_CLIENT, &theirs, &other.creds, error), *error);
	assert_ok(gw__chan_pair(pair, &io, error), *error);
	other.chan = pair[1];
	assert_int_equal(pthread_create(&thread, NULL, echo, &other), 0);
	torture.is_armed = true;
	int r = talk(&pair[0], creds, error);
	torture.is_armed = false;
	pthread_join(thread, NULL);
	gw__tls_creds_free(creds);
	gw__tls_creds_free(other.creds);
	return r;
}

/* --- the loop ------------------------------------------------------------------------------------------- */

static int count_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

static void fail_every_call_of(const struct use *u, int (*use)(const struct use *, struct gw__error *))
{
	int fds = count_fds();
	for (long at = 0;; at++) {
		struct gw__error error = {0};
		torture.calls = 0;
		torture.failed = NULL;
		torture.fail_at = at;
		torture.is_armed = true;
		int r = use(u, &error);
		torture.is_armed = false;
		if (r > 0 || (r < 0 && (!*error.text || error.code >= 0)))
			fail_msg("%s: call %ld (%s): returned %d, said \"%s\"", u->name, at, torture.failed, r, error.text);
		if (!torture.failed && r)
			fail_msg("%s: nothing failed, but: %s", u->name, error.text);
		if (count_fds() != fds)
			fail_msg("%s: call %ld (%s): %d descriptors before, %d now", u->name, at, torture.failed, fds, count_fds());
		if (!torture.failed) {
			assert_true(at > 5);
			return;
		}
	}
}

static void loading_survives_every_failure(void **state)
{
	static const struct use uses[] = {
		{"server", "revoked-client", GW__TLS_SERVER, {.authz = "CN=x"}},
		{"client", "crl", GW__TLS_CLIENT, {.hostname = CERTS_HOST}},
		{"two identities", "numbered", GW__TLS_SERVER, {0}},
		{"psk server", "psk", GW__TLS_SERVER, {0}},
		{"psk client", "psk", GW__TLS_CLIENT, {.username = "alice"}},
	};
	for (size_t i = 0; i < GW__LEN(uses); i++)
		fail_every_call_of(&uses[i], use_creds);
}

static void a_channel_survives_every_failure(void **state)
{
	static const struct use uses[] = {
		{"server", "good", GW__TLS_SERVER, {.authz = CERTS_CLIENT}},
		{"client", "good", GW__TLS_CLIENT, {0}},
		{"psk server", "psk", GW__TLS_SERVER, {0}},
		{"psk client", "psk", GW__TLS_CLIENT, {0}},
	};
	for (size_t i = 0; i < GW__LEN(uses); i++)
		fail_every_call_of(&uses[i], use_chan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loading_survives_every_failure),
		cmocka_unit_test(a_channel_survives_every_failure),
	};
	return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
