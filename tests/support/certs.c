/* SPDX-License-Identifier: MIT */
/* Makes the folders of certs.h. The first call of GnuTLS that fails ends the program: a test without
 * certificates is none. */
#include "certs.h"

#include <errno.h>
#include <ftw.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DAY = 24 * 60 * 60, TEXT_MAX = 1 << 16, PATH_ROOM = 512 };

struct cert {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
};

struct recipe {
	const char *dn;
	const char *const *dns;   /* NULL: none */
	const char *const *ip;    /* text; NULL: none */
	gnutls_datum_t raw_names; /* the extension, in DER, instead of dns and ip */
	const char *purpose;      /* NULL: none */
	bool purpose_is_advice;   /* not critical */
	unsigned usage;
	int is_ca;                  /* 1, 0; -1: says nothing */
	int from_days, to_days;     /* from today; both 0: -1 to 30 */
	gnutls_pk_algorithm_t kind; /* 0: ECDSA */
};

/* Everything that is made once and written to many folders. */
struct set {
	const char *dir;
	struct cert ca, other_ca, server, client;
};

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "certs: %s: %s\n", what, gnutls_strerror(r));
	exit(2);
}

#define CHECK(call) check((call), #call)

/* --- making --------------------------------------------------------------------------------------------- */

static void set_ip(gnutls_x509_crt_t crt, const char *text)
{
	unsigned char v6[16] = {[15] = 1}, v4[4];
	if (strcmp(text, "::1") == 0) {
		CHECK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v6, sizeof v6, GNUTLS_FSAN_APPEND));
		return;
	}
	sscanf(text, "%hhu.%hhu.%hhu.%hhu", &v4[0], &v4[1], &v4[2], &v4[3]);
	CHECK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v4, sizeof v4, GNUTLS_FSAN_APPEND));
}

static void fill(gnutls_x509_crt_t crt, const struct recipe *r)
{
	static unsigned char serial[4] = {1};
	const char *wrong;
	time_t now = time(NULL);
	bool usual = r->from_days == 0 && r->to_days == 0;
	serial[3]++;
	CHECK(gnutls_x509_crt_set_version(crt, 3));
	CHECK(gnutls_x509_crt_set_serial(crt, serial, sizeof serial));
	CHECK(gnutls_x509_crt_set_activation_time(crt, now + (usual ? -1 : r->from_days) * DAY));
	CHECK(gnutls_x509_crt_set_expiration_time(crt, now + (usual ? 30 : r->to_days) * DAY));
	CHECK(gnutls_x509_crt_set_dn(crt, r->dn, &wrong));
	if (r->is_ca >= 0)
		CHECK(gnutls_x509_crt_set_basic_constraints(crt, (unsigned)r->is_ca, -1));
	if (r->usage)
		CHECK(gnutls_x509_crt_set_key_usage(crt, r->usage));
	if (r->purpose)
		CHECK(gnutls_x509_crt_set_key_purpose_oid(crt, r->purpose, !r->purpose_is_advice));
	if (r->raw_names.size)
		CHECK(gnutls_x509_crt_set_extension_by_oid(crt, "2.5.29.17", r->raw_names.data, r->raw_names.size, 0));
	for (int i = 0; r->dns && r->dns[i]; i++)
		CHECK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, r->dns[i], (unsigned)strlen(r->dns[i]),
			GNUTLS_FSAN_APPEND));
	for (int i = 0; r->ip && r->ip[i]; i++)
		set_ip(crt, r->ip[i]);
}

/* `by` NULL: signs itself. */
static struct cert make(const struct recipe *r, const struct cert *by)
{
	struct cert c;
	gnutls_pk_algorithm_t kind = r->kind ? r->kind : GNUTLS_PK_ECDSA;
	unsigned bits = kind == GNUTLS_PK_RSA ? 2048 : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);
	CHECK(gnutls_x509_privkey_init(&c.key));
	CHECK(gnutls_x509_privkey_generate(c.key, kind, bits, 0));
	CHECK(gnutls_x509_crt_init(&c.crt));
	fill(c.crt, r);
	CHECK(gnutls_x509_crt_set_key(c.crt, c.key));
	by = by ? by : &c;
	CHECK(gnutls_x509_crt_sign2(c.crt, by->crt, by->key, GNUTLS_DIG_SHA256, 0));
	return c;
}

static void drop(struct cert *c)
{
	gnutls_x509_crt_deinit(c->crt);
	gnutls_x509_privkey_deinit(c->key);
}

static const char *const hosts[] = {CERTS_HOST, "localhost", NULL}, *const ips[] = {"127.0.0.1", "::1", NULL};

static struct recipe ca_recipe(void)
{
	return (struct recipe){.dn = "CN=Godwit test CA", .is_ca = 1, .usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN};
}

static struct recipe server_recipe(void)
{
	return (struct recipe){.dn = "CN=server,O=Godwit",
		.dns = hosts,
		.ip = ips,
		.usage = GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT,
		.purpose = GNUTLS_KP_TLS_WWW_SERVER};
}

static struct recipe client_recipe(void)
{
	struct recipe r = server_recipe();
	r.dn = "CN=godwit client,OU=Tests,O=Godwit\\, Ltd,C=DE"; /* as RFC 4514 has it: the last comes first
								  */
	r.dns = r.ip = NULL;
	r.purpose = GNUTLS_KP_TLS_WWW_CLIENT;
	return r;
}

/* --- writing -------------------------------------------------------------------------------------------- */

static void make_folder(const struct set *s, const char *folder)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/%s", s->dir, folder);
	mkdir(path, 0700);
}

static void write_text(const struct set *s, const char *folder, const char *name, const char *mode, const void *text, size_t bytes)
{
	char path[PATH_ROOM];
	make_folder(s, folder);
	snprintf(path, sizeof path, "%s/%s/%s", s->dir, folder, name);
	FILE *f = fopen(path, mode);
	if (!f || fwrite(text, 1, bytes, f) != bytes || fclose(f)) {
		fprintf(stderr, "certs: %s: %s\n", path, strerror(errno));
		exit(2);
	}
}

static void put_crt(const struct set *s, const char *folder, const char *name, const char *mode, const struct cert *c)
{
	char pem[TEXT_MAX];
	size_t bytes = sizeof pem;
	CHECK(gnutls_x509_crt_export(c->crt, GNUTLS_X509_FMT_PEM, pem, &bytes));
	write_text(s, folder, name, mode, pem, bytes);
}

static void put_key(const struct set *s, const char *folder, const char *name, const struct cert *c)
{
	char pem[TEXT_MAX];
	size_t bytes = sizeof pem;
	CHECK(gnutls_x509_privkey_export(c->key, GNUTLS_X509_FMT_PEM, pem, &bytes));
	write_text(s, folder, name, "w", pem, bytes);
}

static void put_locked_key(const struct set *s, const char *folder, const char *name, const struct cert *c)
{
	char pem[TEXT_MAX];
	size_t bytes = sizeof pem;
	CHECK(gnutls_x509_privkey_export_pkcs8(c->key, GNUTLS_X509_FMT_PEM, "secret", GNUTLS_PKCS_PBES2_AES_256, pem, &bytes));
	write_text(s, folder, name, "w", pem, bytes);
}

/* name "server": server-cert.pem and server-key.pem; with a number: server-cert-0.pem */
static void put(const struct set *s, const char *folder, const char *name, const char *number, const struct cert *c)
{
	char file[64];
	snprintf(file, sizeof file, "%s-cert%s.pem", name, number);
	put_crt(s, folder, file, "w", c);
	snprintf(file, sizeof file, "%s-key%s.pem", name, number);
	put_key(s, folder, file, c);
}

static void put_psk(const struct set *s, const char *folder, const char *text)
{
	write_text(s, folder, "keys.psk", "w", text, strlen(text));
}

static void put_crl(const struct set *s, const char *folder, const struct cert *by, const struct cert *revoked, int to_days)
{
	gnutls_x509_crl_t crl;
	char pem[TEXT_MAX];
	unsigned char number[1] = {1};
	size_t bytes = sizeof pem;
	time_t now = time(NULL);
	CHECK(gnutls_x509_crl_init(&crl));
	CHECK(gnutls_x509_crl_set_version(crl, 2));
	CHECK(gnutls_x509_crl_set_this_update(crl, now - 2 * DAY));
	CHECK(gnutls_x509_crl_set_next_update(crl, now + to_days * DAY));
	CHECK(gnutls_x509_crl_set_number(crl, number, sizeof number));
	CHECK(gnutls_x509_crl_set_crt(crl, revoked->crt, now - DAY));
	CHECK(gnutls_x509_crl_sign2(crl, by->crt, by->key, GNUTLS_DIG_SHA256, 0));
	CHECK(gnutls_x509_crl_export(crl, GNUTLS_X509_FMT_PEM, pem, &bytes));
	gnutls_x509_crl_deinit(crl);
	write_text(s, folder, "ca-crl.pem", "w", pem, bytes);
}

static void put_good(const struct set *s, const char *folder)
{
	put_crt(s, folder, "ca-cert.pem", "w", &s->ca);
	put(s, folder, "server", "", &s->server);
	put(s, folder, "client", "", &s->client);
}

static void take_away(const struct set *s, const char *folder, const char *name)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/%s/%s", s->dir, folder, name);
	if (unlink(path) < 0)
		check(GNUTLS_E_FILE_ERROR, path);
}

/* good, but server or client made anew. */
static void put_changed(const struct set *s, const char *folder, const char *name, const struct recipe *r, const struct cert *by)
{
	struct cert c = make(r, by);
	put_good(s, folder);
	put(s, folder, name, "", &c);
	drop(&c);
}

/* good, but everything under a CA made anew. */
static void put_under(const struct set *s, const char *folder, const struct recipe *ca_r)
{
	struct cert ca = make(ca_r, NULL);
	struct recipe server = server_recipe(), client = client_recipe();
	put_changed(s, folder, "server", &server, &ca);
	struct cert c = make(&client, &ca);
	put(s, folder, "client", "", &c);
	put_crt(s, folder, "ca-cert.pem", "w", &ca);
	drop(&c);
	drop(&ca);
}

/* --- the folders ---------------------------------------------------------------------------------------- */

static void make_usable(const struct set *s)
{
	static const char *const elsewhere[] = {"elsewhere.example", NULL};
	/* GnuTLS does not write these: a\e[31mb, and two bytes of no character */
	static const unsigned char odd[] = "\x30\x0d\x82\x07\x61\x1b\x5b\x33\x31\x6d\x62\x82\x02\xff\xff";
	static char name[40][20];
	const char *many[41] = {NULL};
	for (int i = 0; i < 40; i++) {
		snprintf(name[i], sizeof name[i], "name-%02d.example", i % 100);
		many[i] = name[i];
	}
	struct recipe server = server_recipe(), below = ca_recipe();
	put_good(s, "good");
	put_good(s, "no-client");
	take_away(s, "no-client", "client-cert.pem");
	take_away(s, "no-client", "client-key.pem");
	put_good(s, "bundle");
	put_crt(s, "bundle", "ca-cert.pem", "a", &s->other_ca);

	server.dns = elsewhere;
	server.ip = NULL;
	put_changed(s, "wrong-host", "server", &server, &s->ca);
	server.dns = NULL;
	server.raw_names = (gnutls_datum_t){(unsigned char *)odd, sizeof odd - 1};
	put_changed(s, "odd-names", "server", &server, &s->ca);
	server.raw_names = (gnutls_datum_t){0};
	server.dns = many;
	put_changed(s, "many-names", "server", &server, &s->ca);
	server.dns = NULL;
	server.dn = "CN=" CERTS_HOST;
	put_changed(s, "name-in-cn", "server", &server, &s->ca);

	server = (struct recipe){.dn = "CN=bare", .dns = hosts, .is_ca = -1};
	put_changed(s, "bare", "server", &server, &s->ca);

	below.dn = "CN=Godwit test CA below";
	struct cert ca = make(&below, &s->ca);
	server = server_recipe();
	put_changed(s, "chain", "server", &server, &ca);
	put_crt(s, "chain", "server-cert.pem", "a", &ca);
	drop(&ca);

	below = ca_recipe();
	below.dn = "CN=another CA";
	put_under(s, "other-ca", &below);
	put_under(s, "bundle-of-other", &below);
	put_crt(s, "bundle-of-other", "ca-cert.pem", "a", &s->ca);
}

static void make_numbered(const struct set *s)
{
	static const char *const old[] = {"server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem"};
	struct recipe server = server_recipe();
	server.kind = GNUTLS_PK_RSA;
	struct cert rsa = make(&server, &s->ca);
	put_good(s, "numbered");
	for (int i = 0; i < 4; i++)
		take_away(s, "numbered", old[i]);
	put(s, "numbered", "server", "-0", &s->server);
	put(s, "numbered", "server", "-1", &rsa);
	put(s, "numbered", "client", "-0", &s->client);
	put_good(s, "numbered-too");
	put(s, "numbered-too", "server", "-0", &rsa);
	drop(&rsa);
}

static void make_crls(const struct set *s)
{
	put_good(s, "revoked-server");
	put_crl(s, "revoked-server", &s->ca, &s->server, 30);
	put_good(s, "revoked-client");
	put_crl(s, "revoked-client", &s->ca, &s->client, 30);
	put_good(s, "crl");
	put_crl(s, "crl", &s->ca, &s->other_ca, 30);
	put_good(s, "old-crl");
	put_crl(s, "old-crl", &s->ca, &s->other_ca, -1);
	put_good(s, "foreign-crl");
	put_crl(s, "foreign-crl", &s->other_ca, &s->server, 30);
}

static void make_bad_cas(const struct set *s)
{
	struct recipe ca = ca_recipe();
	ca.from_days = -20;
	ca.to_days = -10;
	put_under(s, "expired-ca", &ca);
	struct cert old = make(&ca, NULL);
	put_good(s, "bundle-expired");
	put_crt(s, "bundle-expired", "ca-cert.pem", "a", &old);
	drop(&old);
	ca = ca_recipe();
	ca.is_ca = 0;
	put_under(s, "ca-not-ca", &ca);
	ca = ca_recipe();
	ca.usage = GNUTLS_KEY_DIGITAL_SIGNATURE;
	put_under(s, "ca-no-sign", &ca);
	put_good(s, "no-ca");
	take_away(s, "no-ca", "ca-cert.pem");
	put_good(s, "empty-ca");
	write_text(s, "empty-ca", "ca-cert.pem", "w", "", 0);
	ca = ca_recipe();
	ca.from_days = -20;
	ca.to_days = -10;
	ca.dn = "CN=a CA of the past";
	put_under(s, "expired-issuer", &ca);
	put_crt(s, "expired-issuer", "ca-cert.pem", "a", &s->ca);
	ca = ca_recipe(); /* of the same name, and not the one that signed */
	put_changed(s, "namesake", "server", &(struct recipe){.dn = "CN=server", .dns = hosts, .is_ca = -1}, &s->ca);
	struct cert namesake = make(&ca, NULL);
	put_crt(s, "namesake", "ca-cert.pem", "w", &namesake);
	drop(&namesake);
	put_crt(s, "ca-only", "ca-cert.pem", "w", &s->ca);
	struct recipe server = server_recipe();
	put_changed(s, "foreign-server", "server", &server, &s->other_ca);
}

static void make_bad_own(const struct set *s)
{
	struct recipe r = server_recipe();
	r.from_days = -20;
	r.to_days = -10;
	put_changed(s, "expired-server", "server", &r, &s->ca);
	r.from_days = 10;
	r.to_days = 20;
	put_changed(s, "early-server", "server", &r, &s->ca);
	r = server_recipe();
	r.is_ca = 1;
	put_changed(s, "server-is-ca", "server", &r, &s->ca);
	r = server_recipe();
	r.usage = GNUTLS_KEY_CRL_SIGN;
	put_changed(s, "server-usage", "server", &r, &s->ca);
	r = server_recipe();
	r.purpose = GNUTLS_KP_TLS_WWW_CLIENT;
	put_changed(s, "server-purpose", "server", &r, &s->ca);
	r.purpose_is_advice = true;
	put_changed(s, "server-purpose-advised", "server", &r, &s->ca);
	r.purpose = NULL;
	put_changed(s, "any-purpose", "server", &r, &s->ca);
	r = client_recipe();
	r.from_days = -20;
	r.to_days = -10;
	put_changed(s, "expired-client", "client", &r, &s->ca);
	r = client_recipe();
	r.purpose = GNUTLS_KP_TLS_WWW_SERVER;
	put_changed(s, "client-purpose", "client", &r, &s->ca);
}

static void make_bad_files(const struct set *s)
{
	put_good(s, "foreign-key");
	put_key(s, "foreign-key", "server-key.pem", &s->client);
	put_good(s, "no-key");
	take_away(s, "no-key", "server-key.pem");
	put_good(s, "no-server");
	take_away(s, "no-server", "server-cert.pem");
	put_good(s, "text-cert");
	write_text(s, "text-cert", "server-cert.pem", "w", "my certificate\n", 15);
	put_good(s, "text-key");
	write_text(s, "text-key", "server-key.pem", "w", "my key\n", 7);
	put_good(s, "text-crl");
	write_text(s, "text-crl", "ca-crl.pem", "w", "nobody\n", 7);
	put_good(s, "endless");
	put_good(s, "locked-key");
	put_locked_key(s, "locked-key", "server-key.pem", &s->server);
	put_good(s, "both");
	put_psk(s, "both", "qemu:00112233\n");
	write_text(s, "neither", "README", "w", "", 0);
}

static void make_psk(const struct set *s)
{
	put_psk(s, "psk", "qemu:00112233445566778899aabbccddeeff\nalice:A1A2A3A4A5A6A7A8\n");
	put_psk(s, "psk-crlf", "\r\nqemu:00112233445566778899aabbccddeeff \r\n\t\r\n");
	put_psk(s, "psk-other", "qemu:ffeeddccbbaa99887766554433221100\n");
	put_psk(s, "psk-bad-hex", "qemu:00112233\nalice:0011223g\n");
	put_psk(s, "psk-no-colon", "qemu 00112233\n");
	put_psk(s, "psk-empty", "\n");
	write_text(s, "psk-nul", "keys.psk", "w", "qemu:00\0\n", 9);
	put_good(s, "psk-folder");
	take_away(s, "psk-folder", "ca-cert.pem");
	make_folder(s, "psk-folder/keys.psk");
	put_psk(s, "psk-twice", "qemu:00112233445566778899aabbccddeeff\nqemu:ffeeddccbbaa99887766554433221100\n");
}

void certs_make(const char *dir)
{
	struct recipe ca = ca_recipe(), server = server_recipe(), client = client_recipe();
	struct set s = {.dir = dir, .ca = make(&ca, NULL)};
	ca.dn = "CN=the other CA";
	s.other_ca = make(&ca, NULL);
	s.server = make(&server, &s.ca);
	s.client = make(&client, &s.ca);
	make_usable(&s);
	make_numbered(&s);
	make_crls(&s);
	make_bad_cas(&s);
	make_bad_own(&s);
	make_bad_files(&s);
	make_psk(&s);
	drop(&s.ca);
	drop(&s.other_ca);
	drop(&s.server);
	drop(&s.client);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) { return remove(path); }

void certs_remove(const char *dir) { nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS); }
