/* SPDX-License-Identifier: MIT */
/* URIs: what QEMU takes is taken with its meaning, what it refuses is refused with a sentence. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "base/math.h"
#include "io/uri.h"

static struct gw__uri parsed(const char *text)
{
	struct gw__uri uri;
	struct gw__error error = {0};
	if (gw__uri_parse(text, &uri, &error))
		fail_msg("%s: %s", text, error.text);
	assert_string_equal(uri.text, text);
	return uri;
}

static void assert_refused(const char *text, const char *part)
{
	struct gw__uri uri;
	struct gw__error error = {0};
	if (gw__uri_parse(text, &uri, &error) != -EINVAL)
		fail_msg("\"%.80s\" was taken", text);
	if (!strstr(error.text, part))
		fail_msg("\"%.80s\": \"%s\" does not say \"%s\"", text, error.text, part);
}

static void tcp_takes_the_options_of_qemu(void **state)
{
	static const struct {
		const char *text;
		enum gw__uri_family family;
		uint16_t to;
	} good[] = {
		{"tcp:h:4444,ipv4=on", GW__URI_IPV4, 0},
		{"tcp:h:4444,ipv4", GW__URI_IPV4, 0},
		{"tcp:h:4444,ipv6=on", GW__URI_IPV6, 0},
		{"tcp:h:4444,ipv6=off", GW__URI_IPV4, 0},
		{"tcp:h:4444,ipv4=off,ipv6=on", GW__URI_IPV6, 0},
		{"tcp:h:4444,ipv4=on,ipv6=on", GW__URI_ANY_FAMILY, 0},
		{"tcp:[::1]:4444,to=4450,keep-alive=on", GW__URI_ANY_FAMILY, 4450},
	};
	for (size_t i = 0; i < GW__LEN(good); i++) {
		struct gw__uri uri = parsed(good[i].text);
		assert_string_equal(uri.port, "4444");
		assert_int_equal(uri.family, good[i].family);
		assert_int_equal(uri.port_to, good[i].to);
	}
}

static void tcp_has_a_host_and_a_port(void **state)
{
	static const struct {
		const char *text, *host, *port;
	} good[] = {
		{"tcp:127.0.0.1:4444", "127.0.0.1", "4444"},
		{"tcp:[::1]:4444", "::1", "4444"},
		{"tcp:[fe80::1%eth0]:0", "fe80::1%eth0", "0"},
		{"tcp:0:4444", "0", "4444"},
		{"tcp::4444", "", "4444"},
		{"tcp:host.example:65535", "host.example", "65535"},
		{"tcp:localhost:http-alt", "localhost", "http-alt"},
	};
	for (size_t i = 0; i < GW__LEN(good); i++) {
		struct gw__uri uri = parsed(good[i].text);
		assert_int_equal(uri.kind, GW__URI_TCP);
		assert_string_equal(uri.target, good[i].host);
		assert_string_equal(uri.port, good[i].port);
	}
	assert_refused("tcp:localhost", "expected tcp:HOST:PORT");
	assert_refused("tcp:", "expected tcp:HOST:PORT");
	assert_refused("tcp::", "bad port");
	assert_refused("tcp:127.0.0.1:", "bad port");
	assert_refused("tcp:127.0.0.1:65536", "bad port \"65536\"");
	assert_refused("tcp:127.0.0.1:70000000000000000000000000", "bad port");
	assert_refused("tcp:127.0.0.1:-1x/", "bad port");
	assert_refused("tcp:127.0.0.1:44 44", "bad port");
	assert_refused("tcp:::1:4444", "brackets");
	assert_refused("tcp:[::1:4444", "bad IPv6");
	assert_refused("tcp:[::1]4444", "bad IPv6");
	assert_refused("tcp:127.0.0.1:4444,to=5", "not below");
	assert_refused("tcp:127.0.0.1:http,to=90", "not below");
	assert_refused("tcp:127.0.0.1:4444,to=65536", "expected ipv4, ipv6");
	assert_refused("tcp:127.0.0.1:4444,", "bad option");
	assert_refused("tcp:127.0.0.1:4444,ipv4=yes", "bad option \"ipv4=yes\"");
	assert_refused("tcp:127.0.0.1:4444,ipv4on", "bad option");
	assert_refused("tcp:127.0.0.1:4444,ipv4=off,ipv6=off", "neither");
	assert_refused("tcp:a/b:1", "bad host");
	assert_refused("tcp:a b:1", "bad host");
}

static void unix_paths_fit_into_the_kernels_address(void **state)
{
	char text[256];
	struct gw__uri uri = parsed("unix:/run/a:b,c");
	assert_int_equal(uri.kind, GW__URI_UNIX);
	assert_string_equal(uri.target, "/run/a:b,c");
	snprintf(text, sizeof text, "unix:%0107d", 0);
	assert_int_equal(strlen(parsed(text).target), 107);
	snprintf(text, sizeof text, "unix:%0108d", 0);
	assert_refused(text, "108 bytes; the kernel takes at most 107");
	assert_refused("unix:", "expected unix:PATH");
}

static void vsock_and_fd_are_numbers(void **state)
{
	struct gw__uri uri = parsed("vsock:4294967295:1234");
	assert_int_equal(uri.kind, GW__URI_VSOCK);
	assert_int_equal(uri.cid, 4294967295);
	assert_int_equal(uri.vsock_port, 1234);
	assert_refused("vsock:1", "expected vsock:CID:PORT");
	assert_refused("vsock::1", "expected vsock:CID:PORT");
	assert_refused("vsock:1:x", "expected vsock:CID:PORT");
	assert_refused("vsock:4294967296:1", "expected vsock:CID:PORT");
	assert_refused("vsock:00000000000000000000000000001:1", "expected vsock:CID:PORT");

	uri = parsed("fd:17");
	assert_int_equal(uri.kind, GW__URI_FD);
	assert_int_equal(uri.fd, 17);
	assert_refused("fd:", "expected fd:N");
	assert_refused("fd:name", "names live inside QEMU");
	assert_refused("fd:-1", "expected fd:N");
	assert_refused("fd:2147483648", "expected fd:N");
}

static void a_command_is_taken_as_it_is(void **state)
{
	struct gw__uri uri = parsed("exec:gzip -c >/a,offset=3; echo \"tcp:\"");
	assert_int_equal(uri.kind, GW__URI_EXEC);
	assert_string_equal(uri.target, "gzip -c >/a,offset=3; echo \"tcp:\"");
	assert_refused("exec:", "no command");
}

/* The values are those QEMU 10.0 and 11.1 use: seen from where the stream begins in a file saved there. */
static void file_offsets_are_qemus(void **state)
{
	static const struct {
		const char *text;
		uint64_t offset;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"4K", 4096},
		{"4k", 4096},
		{"4B", 4},
		{"1M", 1 << 20},
		{"1.5K", 1536},
		{".5K", 512},
		{"1.K", 1024},
		{"1.0", 1},
		{"0.1K", 102},
		{"1.00001K", 1024},
		{"0.9999K", 1024},
		{"7.779K", 7966},
		{"1.9999999999K", 2048},
		{"010", 10},
		{"0x1000", 4096},
		{"0X10", 16},
		{" 4K", 4096},
		{"+4", 4},
		{"+0x10", 16},
		{"1T", UINT64_C(1) << 40},
		{"1.5E", (UINT64_C(1) << 60) * 3 / 2},
		{"0x7fffffffffffffff", INT64_MAX},
	};
	static const char *const bad[] = {"", "-1", "-0", "K", ".", ".K", "1.5", "1.1B", "1e3", "4Q", "4KB", "4 K", "4K,x=1", "0x", "0x10K",
		"0x1.8K", "0x-1", "0x 1", "16E", "8E", "0x8000000000000000", "0x10000000000000000", "18446744073709551616",
		"15.9999999999999999999E", "99999999999999999999999K"};
	char text[128];
	for (size_t i = 0; i < GW__LEN(good); i++) {
		snprintf(text, sizeof text, "file:/a b,c,offset=%s", good[i].text);
		struct gw__uri uri = parsed(text);
		assert_int_equal(uri.kind, GW__URI_FILE);
		assert_string_equal(uri.target, "/a b,c");
		assert_int_equal(uri.offset, good[i].offset);
	}
	for (size_t i = 0; i < GW__LEN(bad); i++) {
		snprintf(text, sizeof text, "file:/a,offset=%s", bad[i]);
		assert_refused(text, "file URI has bad offset");
	}
}

static void the_first_offset_in_a_path_wins(void **state)
{
	assert_string_equal(parsed("file:/a,offset").target, "/a,offset");
	assert_int_equal(parsed("file:/a").offset, 0);
	assert_refused("file:/a,offset=1,offset=2", "bad offset \"1,offset=2\"");
	assert_refused("file:", "no path");
	assert_refused("file:,offset=3", "no path");
}

static void what_is_no_uri_is_refused(void **state)
{
	static char huge[GW__URI_TEXT_MAX + 8];
	assert_refused("", "not a URI");
	assert_refused("/tmp/x", "not a URI; expected tcp:HOST:PORT");
	assert_refused("./a:b", "not a URI");
	assert_refused("foo:bar", "unknown migration protocol: foo:bar");
	assert_refused("TCP:127.0.0.1:1", "unknown migration protocol");
	assert_refused("rdma:host:1", "unknown migration protocol");
	memset(huge, 'x', sizeof huge - 1);
	memcpy(huge, "exec:", 5);
	assert_refused(huge, "at most 4095");
	huge[GW__URI_TEXT_MAX - 1] = 0;
	assert_int_equal(strlen(parsed(huge).target), GW__URI_TEXT_MAX - 1 - 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_has_a_host_and_a_port),
		cmocka_unit_test(tcp_takes_the_options_of_qemu),
		cmocka_unit_test(unix_paths_fit_into_the_kernels_address),
		cmocka_unit_test(vsock_and_fd_are_numbers),
		cmocka_unit_test(a_command_is_taken_as_it_is),
		cmocka_unit_test(file_offsets_are_qemus),
		cmocka_unit_test(the_first_offset_in_a_path_wins),
		cmocka_unit_test(what_is_no_uri_is_refused),
	};
	return cmocka_run_group_tests_name("uri", tests, NULL, NULL);
}
