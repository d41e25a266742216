/* SPDX-License-Identifier: MIT */
/* See tls_unit.h. A failure in here fails the test that called. */
#include "tls_unit.h"

char certs_dir[64];

int make_certs(void **state)
{
	strcpy(certs_dir, P_tmpdir "/godwit-certs-XXXXXX");
	if (!mkdtemp(certs_dir))
		return -1;
	certs_make(certs_dir);
	return 0;
}

int remove_certs(void **state)
{
	certs_remove(certs_dir);
	return 0;
}

const char *certs_of(const char *name)
{
	static _Thread_local char paths[8][128];
	static _Thread_local unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", certs_dir, name);
	return path;
}

/* --- two ends of ours ----------------------------------------------------------------------------------- */

static void *shake(void *arg)
{
	struct end *e = arg;
	e->r = e->folder ? gw__chan_start_tls(&e->chan, e->creds, e->host, e->clean_end, &e->error) : 0;
	/* Who fails goes: the other side must not wait for it. */
	if (e->r)
		gw__chan_close(&e->chan, NULL);
	return NULL;
}

static void load(struct end *e, enum gw__tls_role role)
{
	struct gw__error error = {0};
	e->role = role;
	if (!e->folder)
		return;
	e->opts.dir = certs_of(e->folder);
	assert_ok(gw__tls_creds_load(role, &e->opts, &e->creds, &error), error);
}

void connect_ends(struct end *server, struct end *client, int ms)
{
	struct gw__error error = {0};
	struct gw__io_opts o = limits(ms);
	struct gw__chan *pair[2];
	pthread_t thread;
	load(server, GW__TLS_SERVER);
	load(client, GW__TLS_CLIENT);
	assert_ok(gw__chan_pair(pair, &o, &error), error);
	server->chan = pair[0];
	client->chan = pair[1];
	pthread_create(&thread, NULL, shake, server);
	shake(client);
	pthread_join(thread, NULL);
}

void connect_good(struct end *server, struct end *client, const char *folder, int ms)
{
	server->folder = client->folder = folder;
	client->host = CERTS_HOST;
	connect_ends(server, client, ms);
	assert_ok(server->r, server->error);
	assert_ok(client->r, client->error);
}

void close_end(struct end *e)
{
	assert_int_equal(gw__chan_close(&e->chan, NULL), 0);
	gw__tls_creds_free(e->creds);
	e->creds = NULL;
}

/* --- a peer without our code ---------------------------------------------------------------------------- */

static void must(int r, const char *what)
{
	if (r < 0)
		fail_msg("%s: %s", what, gnutls_strerror(r));
}

static void *raw_shake(void *arg)
{
	struct raw *p = arg;
	do
		p->r = gnutls_handshake(p->session);
	while (p->r < 0 && !gnutls_error_is_fatal(p->r));
	return NULL;
}

void raw_start(struct raw *p, int fd, enum gw__tls_role role, const char *priority)
{
	const char *dir = certs_of("good"), *name = role == GW__TLS_SERVER ? "server" : "client";
	char ca[160], cert[160], key[160];
	snprintf(ca, sizeof ca, "%s/ca-cert.pem", dir);
	snprintf(cert, sizeof cert, "%s/%s-cert.pem", dir, name);
	snprintf(key, sizeof key, "%s/%s-key.pem", dir, name);
	*p = (struct raw){.fd = fd};
	must(gnutls_certificate_allocate_credentials(&p->creds), "credentials");
	must(gnutls_certificate_set_x509_trust_file(p->creds, ca, GNUTLS_X509_FMT_PEM), ca);
	must(gnutls_certificate_set_x509_key_file(p->creds, cert, key, GNUTLS_X509_FMT_PEM), cert);
	must(gnutls_init(&p->session, role == GW__TLS_SERVER ? GNUTLS_SERVER : GNUTLS_CLIENT), "init");
	must(gnutls_priority_init(&p->priority, priority ? priority : "NORMAL", NULL), "priority");
	must(gnutls_priority_set(p->session, p->priority), "priority");
	must(gnutls_credentials_set(p->session, GNUTLS_CRD_CERTIFICATE, p->creds), "credentials");
	gnutls_transport_set_int(p->session, fd);
	assert_int_equal(pthread_create(&p->thread, NULL, raw_shake, p), 0);
}

int raw_finish(struct raw *p)
{
	pthread_join(p->thread, NULL);
	return p->r;
}

void raw_close(struct raw *p)
{
	gnutls_deinit(p->session);
	gnutls_priority_deinit(p->priority);
	gnutls_certificate_free_credentials(p->creds);
	if (p->fd >= 0)
		close(p->fd);
}

struct gw__chan *chan_and_fd(int *fd, int ms)
{
	int fds[2];
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(ms);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_ok(gw__chan_take_fd(fds[0], "ours", &o, &c, &error), error);
	*fd = fds[1];
	return c;
}
