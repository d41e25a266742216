/* SPDX-License-Identifier: MIT */
/* Loading credentials: each folder of certs.h, in both roles, loads or names the file that is wrong. */
#include "tls_unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SERVER GW__TLS_SERVER
#define CLIENT GW__TLS_CLIENT

static int load(enum gw__tls_role role, struct gw__tls_opts o, struct gw__error *error)
{
	struct gw__tls_creds *creds = NULL;
	*error = (struct gw__error){0};
	int r = gw__tls_creds_load(role, &o, &creds, error);
	assert_true((r == 0) == (creds != NULL));
	gw__tls_creds_free(creds);
	return r;
}

static void good_folders_load(void **state)
{
	static const struct {
		enum gw__tls_role role;
		const char *folder;
	} rows[] = {
		{SERVER, "good"},
		{CLIENT, "good"},
		{CLIENT, "no-client"},
		{SERVER, "bundle"},
		{CLIENT, "bundle"},
		{SERVER, "bundle-expired"},
		{CLIENT, "bundle-expired"},
		{SERVER, "chain"},
		{SERVER, "numbered"},
		{CLIENT, "numbered"},
		{SERVER, "numbered-too"},
		{SERVER, "crl"},
		{CLIENT, "crl"},
		{SERVER, "old-crl"},
		{CLIENT, "revoked-server"}, /* what the other role would stumble over is not ours */
		{SERVER, "revoked-client"},
		{SERVER, "expired-client"},
		{CLIENT, "expired-server"},
		{CLIENT, "foreign-key"},
		{CLIENT, "text-cert"},
		{SERVER, "server-purpose-advised"}, /* QEMU takes it too */
		{SERVER, "psk"},
		{CLIENT, "psk"},
		{SERVER, "psk-twice"},
		{CLIENT, "psk-crlf"},
		{SERVER, "bare"},
		{CLIENT, "ca-only"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct gw__error error;
		if (load(rows[i].role, (struct gw__tls_opts){.dir = certs_of(rows[i].folder)}, &error))
			fail_msg("%s: %s", rows[i].folder, error.text);
	}
}

static void each_mistake_has_the_name_of_its_file(void **state)
{
	static const struct {
		enum gw__tls_role role;
		const char *folder;
		int r;
		const char *says[2];
	} rows[] = {
		{SERVER, "expired-ca", -EKEYEXPIRED, {"/expired-ca/ca-cert.pem: ", "expired on 20"}},
		{CLIENT, "expired-ca", -EKEYEXPIRED, {"/expired-ca/ca-cert.pem: ", "expired on 20"}},
		{SERVER, "expired-issuer", -EKEYEXPIRED, {"/server-cert.pem: ", "a CA that the certificate hangs on"}},
		{SERVER, "namesake", -EKEYREJECTED, {"/server-cert.pem: ", "signature in the certificate is invalid"}},
		{SERVER, "ca-only", -ENOENT, {"/server-cert.pem: ", "no such file, and TLS needs it"}},
		{SERVER, "expired-server", -EKEYEXPIRED, {"/server-cert.pem: ", "expired on 20"}},
		{CLIENT, "expired-client", -EKEYEXPIRED, {"/client-cert.pem: ", "expired on 20"}},
		{SERVER, "early-server", -EKEYREJECTED, {"/server-cert.pem: ", "not valid before 20"}},
		{SERVER, "ca-not-ca", -EKEYREJECTED, {"/ca-cert.pem: ", "is not one of a CA"}},
		{CLIENT, "ca-no-sign", -EKEYREJECTED, {"/ca-cert.pem: ", "signing certificates"}},
		{SERVER, "server-is-ca", -EKEYREJECTED, {"/server-cert.pem: ", "is one of a CA"}},
		{SERVER, "server-usage", -EKEYREJECTED, {"/server-cert.pem: ", "digital signatures"}},
		{SERVER, "server-purpose", -EKEYREJECTED, {"/server-cert.pem: ", "does not allow a TLS server"}},
		{CLIENT, "client-purpose", -EKEYREJECTED, {"/client-cert.pem: ", "does not allow a TLS client"}},
		{SERVER, "foreign-server", -EKEYREJECTED, {"/server-cert.pem: ", "not signed by a CA of"}},
		{SERVER, "foreign-key", -EKEYREJECTED, {"/server-key.pem is not the key of", "/server-cert.pem"}},
		{SERVER, "revoked-server", -EKEYREVOKED, {"/server-cert.pem: ", "revoked by"}},
		{CLIENT, "revoked-client", -EKEYREVOKED, {"/client-cert.pem: ", "/ca-crl.pem"}},
		{SERVER, "foreign-crl", -EKEYREJECTED, {"/ca-crl.pem: ", "not signed by a CA of"}},
		{SERVER, "no-key", -ENOENT, {"/server-key.pem: ", "no such file"}},
		{SERVER, "no-server", -ENOENT, {"/server-cert.pem: ", "no such file"}},
		{SERVER, "no-ca", -ENOENT, {"/no-ca ", "neither ca-cert.pem"}},
		{SERVER, "neither", -ENOENT, {"/neither ", "neither ca-cert.pem"}},
		{SERVER, "both", -EINVAL, {"/both ", "a folder of its own"}},
		{SERVER, "text-cert", -EINVAL, {"/server-cert.pem: ", "no certificate in PEM"}},
		{SERVER, "text-key", -EINVAL, {"/server-key.pem: ", "no private key in PEM"}},
		{SERVER, "locked-key", -EINVAL, {"/server-key.pem: ", "encrypted"}},
		{CLIENT, "text-crl", -EINVAL, {"/ca-crl.pem: ", "no revocation list in PEM"}},
		{CLIENT, "empty-ca", -EINVAL, {"/ca-cert.pem: ", "no certificate in PEM"}},
		{SERVER, "not-there", -ENOENT, {"/not-there: ", "folder of TLS credentials"}},
		{SERVER, "psk/keys.psk", -ENOTDIR, {"/keys.psk: ", "folder of TLS credentials"}},
		{SERVER, "psk-bad-hex", -EINVAL, {"/keys.psk: line 2 ", "hexadecimal"}},
		{CLIENT, "psk-bad-hex", -EINVAL, {"/keys.psk: line 2 ", "hexadecimal"}},
		{CLIENT, "psk-no-colon", -EINVAL, {"/keys.psk: line 1 ", "no name and colon"}},
		{CLIENT, "psk-empty", -EINVAL, {"/keys.psk: ", "holds no keys"}},
		{CLIENT, "psk-nul", -EINVAL, {"/keys.psk: ", "text file"}},
		{CLIENT, "psk-folder", -EISDIR, {"/keys.psk: ", "reading"}},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct gw__error error;
		int r = load(rows[i].role, (struct gw__tls_opts){.dir = certs_of(rows[i].folder)}, &error);
		if (r != rows[i].r)
			fail_msg("%s: %d, expected %d: %s", rows[i].folder, r, rows[i].r, error.text);
		assert_says(error, rows[i].says[0]);
		assert_says(error, rows[i].says[1]);
	}
}

static void options_without_use_are_refused(void **state)
{
	static const struct {
		enum gw__tls_role role;
		struct gw__tls_opts o; /* dir is a name */
		int r;
		const char *says;
	} rows[] = {
		{CLIENT, {.dir = "good", .authz = "CN=x"}, -EINVAL, "only a server authorises"},
		{SERVER, {.dir = "psk", .authz = "CN=x"}, -EINVAL, "a shared key has none"},
		{SERVER, {.dir = "good", .authz = "CN=x", .no_verify = true}, -EINVAL, "not to be verified"},
		{CLIENT, {.dir = "psk", .no_verify = true}, -EINVAL, "verifying cannot be left out"},
		{SERVER, {.dir = "psk", .username = "qemu"}, -EINVAL, "takes the name its client sends"},
		{CLIENT, {.dir = "good", .username = "qemu"}, -EINVAL, "no keys.psk"},
		{CLIENT, {.dir = "psk", .username = "bob"}, -ENOKEY, "no key for the name \"bob\""},
		{CLIENT, {.dir = "psk", .username = ""}, -ENOKEY, "no key for the name \"\""},
		{SERVER, {.dir = "good", .priority = "NORMAL:+NONSENSE"}, -EINVAL, "not understood from \"+NONSENSE\""},
		{SERVER, {.dir = "good", .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"}, -EINVAL, "priority string"},
		{CLIENT, {.dir = "good", .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.0:+VERS-TLS1.1"}, -EINVAL, "priority string"},
		{SERVER, {.dir = "good", .priority = ""}, -EINVAL, "priority string"},
		{CLIENT, {.dir = "psk", .username = "alice"}, 0, ""},
		{CLIENT, {.dir = "good", .priority = "SECURE192:-VERS-TLS1.2", .hostname = "h", .no_verify = true}, 0, ""},
		{SERVER, {.dir = "good", .authz = "CN=x", .hostname = "h"}, 0, ""},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct gw__error error;
		struct gw__tls_opts o = rows[i].o;
		o.dir = certs_of(o.dir);
		assert_int_equal(load(rows[i].role, o, &error), rows[i].r);
		assert_says(error, rows[i].says);
	}
	char *priority = malloc(5000);
	struct gw__error error;
	memset(priority, 'N', 4999);
	priority[4999] = 0;
	assert_int_equal(load(SERVER, (struct gw__tls_opts){.dir = certs_of("good"), .priority = priority}, &error), -EINVAL);
	assert_says(error, "longer than");
	free(priority);
}

static void a_path_too_long_is_an_error(void **state)
{
	struct gw__error error;
	char *dir = malloc(6000);
	memset(dir, '/', 5999);
	dir[5999] = 0;
	assert_int_equal(load(SERVER, (struct gw__tls_opts){.dir = dir}, &error), -ENAMETOOLONG);
	/* One that the system takes, but not with a file name behind it. */
	snprintf(dir + 4090 - strlen(certs_of("good")), 1000, "%s", certs_of("good"));
	assert_true(load(SERVER, (struct gw__tls_opts){.dir = dir}, &error) < 0);
	free(dir);
}

static void a_file_that_is_too_large_is_not_read(void **state)
{
	struct gw__error error;
	char path[160];
	snprintf(path, sizeof path, "%s/ca-crl.pem", certs_of("endless"));
	assert_int_equal(symlink("/dev/zero", path), 0);
	assert_int_equal(load(SERVER, (struct gw__tls_opts){.dir = certs_of("endless")}, &error), -EFBIG);
	assert_says(error, "/ca-crl.pem: more than 16 MiB");
}

static void what_was_given_may_go_after_loading(void **state)
{
	struct gw__tls_creds *creds;
	struct gw__error error = {0};
	char *dir = strdup(certs_of("good")), *host = strdup(CERTS_HOST), *priority = strdup("NORMAL");
	struct gw__tls_opts o = {.dir = dir, .hostname = host, .priority = priority};
	assert_ok(gw__tls_creds_load(CLIENT, &o, &creds, &error), error);
	free(dir);
	free(host);
	free(priority);
	gw__tls_creds_free(creds);
	gw__tls_creds_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_folders_load),
		cmocka_unit_test(each_mistake_has_the_name_of_its_file),
		cmocka_unit_test(options_without_use_are_refused),
		cmocka_unit_test(a_path_too_long_is_an_error),
		cmocka_unit_test(a_file_that_is_too_large_is_not_read),
		cmocka_unit_test(what_was_given_may_go_after_loading),
	};
	return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
