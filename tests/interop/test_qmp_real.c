/* SPDX-License-Identifier: MIT */
/* The QMP client against a real QEMU: sessions, machines, settings. test_qmp_real 7.2|10.0|11.1 */
#include "qmp_real.h"

#include <sys/socket.h>
#include <sys/un.h>

static const char *const small[] = {"-S", "-machine", "pc", "-m", "16", NULL};

static const struct gw__qmp_block *find_block(const struct gw__qmp_block *b, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(b[i].name, name) == 0)
			return &b[i];
	}
	fail_msg("no RAM block %s", name);
	return NULL;
}

static void it_tells_what_it_is(void **state)
{
	(void)state;
	struct bench b;
	struct gw__qmp_machine m;
	struct gw__qmp_status st;
	char want[64];
	bench_start(&b, small);
	assert_int_equal(gw__qmp_version(b.q), version_number);
	assert_memory_equal(gw__qmp_version_text(b.q), version, strlen(version));
	assert_true(gw__qmp_can_pass_fds(b.q));
	assert_ok(&b, gw__qmp_query_machine(b.q, &m, &b.error));
	snprintf(want, sizeof want, "pc-i440fx-%s", version);
	assert_string_equal(m.machine, want);
	assert_int_equal(m.ram_bytes, 16 << 20);
	assert_int_equal(m.plugged_bytes, 0);
	assert_ok(&b, gw__qmp_query_status(b.q, &st, &b.error));
	assert_string_equal(st.name, "prelaunch");
	assert_false(st.running);
	assert_ok(&b, gw__qmp_call(b.q, "cont", NULL, NULL, &b.error));
	assert_ok(&b, gw__qmp_query_status(b.q, &st, &b.error));
	assert_string_equal(st.name, "running");
	assert_true(st.running);
	json_t *event;
	assert_ok(&b, gw__qmp_event(b.q, PATIENCE_MS, &event, &b.error));
	assert_string_equal(json_string_value(json_object_get(event, "event")), "RESUME");
	json_decref(event);
	bench_stop(&b);
}

static void a_waiting_destination_can_be_compared(void **state)
{
	(void)state;
	static const char *const args[] = {"-machine", "q35,memory-backend=own", "-m", "32,slots=2,maxmem=256M", "-object",
		"memory-backend-file,id=own,size=32M,mem-path={dir}/ram,share=on", "-object", "memory-backend-ram,id=more,size=64M",
		"-device", "pc-dimm,memdev=more", "-incoming", "defer", NULL};
	struct bench b;
	struct gw__qmp_machine m;
	struct gw__qmp_status st;
	struct gw__qmp_migration mig;
	struct gw__qmp_block *blocks = NULL;
	unsigned n = 0;
	char want[64];
	bench_start(&b, args);
	assert_ok(&b, gw__qmp_query_status(b.q, &st, &b.error));
	assert_string_equal(st.name, "inmigrate");
	assert_ok(&b, gw__qmp_query_machine(b.q, &m, &b.error));
	snprintf(want, sizeof want, "pc-q35-%s", version);
	assert_string_equal(m.machine, want);
	assert_int_equal(m.ram_bytes, 32 << 20);
	assert_int_equal(m.plugged_bytes, 64 << 20);
	assert_ok(&b, gw__qmp_query_blocks(b.q, &blocks, &n, &b.error));
	const struct gw__qmp_block *own = find_block(blocks, n, "own");
	assert_int_equal(own->page_bytes, 4096);
	assert_int_equal(own->used_bytes, 32 << 20);
	assert_int_equal(own->total_bytes, 32 << 20);
	assert_int_equal(find_block(blocks, n, "more")->used_bytes, 64 << 20);
	const struct gw__qmp_block *acpi = find_block(blocks, n, "/rom@etc/acpi/tables");
	assert_true(acpi->used_bytes < acpi->total_bytes);
	free(blocks);
	assert_ok(&b, gw__qmp_query_migrate(b.q, &mig, &b.error));
	assert_string_equal(mig.status, "");
	assert_ok(&b, gw__qmp_call(b.q, "migrate-incoming", json_pack("{s:s}", "uri", "tcp:127.0.0.1:0"), NULL, &b.error));
	assert_ok(&b, gw__qmp_query_migrate(b.q, &mig, &b.error));
	assert_memory_equal(mig.address, "tcp:127.0.0.1:", 14);
	assert_true(atoi(mig.address + 14) > 0);
	assert_false(mig.ended);
	bench_stop(&b);
}

static void a_second_client_hears_who_is_in_the_way(void **state)
{
	(void)state;
	struct bench b;
	struct gw__qmp *second = NULL;
	bench_start(&b, small);
	/* The first of these waits in the listener's queue, later ones find it full. */
	for (int i = 0; i < 4; i++)
		assert_says(&b.error, gw__qmp_open(b.vm.qmp, SHORT_MS, &second, &b.error), -ETIMEDOUT,
			"QEMU serves one QMP client at a time");
	assert_ok(&b, gw__qmp_open(b.vm.qmp2, PATIENCE_MS, &second, &b.error));
	gw__qmp_close(second);
	gw__qmp_close(b.q);
	assert_ok(&b, gw__qmp_open(b.vm.qmp, PATIENCE_MS, &b.q, &b.error));
	bench_stop(&b);
}

static void other_sockets_of_qemu(void **state)
{
	(void)state;
	static const char *const args[] = {"-S", "-m", "16", "-monitor", "unix:{dir}/hmp,server=on,wait=off", "-chardev",
		"socket,id=t,host=127.0.0.1,port=0,server=on,wait=off", "-mon", "chardev=t,mode=control", NULL};
	struct bench b;
	struct gw__qmp *other = NULL;
	char path[100], address[100] = "";
	bench_start(&b, args);
	snprintf(path, sizeof path, "unix:%s/hmp", b.vm.dir);
	assert_says(&b.error, gw__qmp_open(path, PATIENCE_MS, &other, &b.error), -EPROTO, "monitor for humans");
	json_t *devices = NULL;
	const json_t *d;
	size_t i;
	assert_ok(&b, gw__qmp_call(b.q, "query-chardev", NULL, &devices, &b.error));
	json_array_foreach(devices, i, d)
	{
		const char *tcp = strstr(json_string_value(json_object_get(d, "filename")), "tcp:");
		if (tcp)
			snprintf(address, sizeof address, "%.*s", (int)strcspn(tcp, ","), tcp);
	}
	json_decref(devices);
	assert_ok(&b, gw__qmp_open(address, PATIENCE_MS, &other, &b.error));
	assert_int_equal(gw__qmp_version(other), version_number);
	assert_false(gw__qmp_can_pass_fds(other));
	assert_says(&b.error, gw__qmp_call_fd(other, "getfd", json_pack("{s:s}", "fdname", "x"), 0, NULL, &b.error), -EOPNOTSUPP,
		"takes a QMP connection over a unix socket");
	gw__qmp_close(other);
	bench_stop(&b);
}

static void refusals_and_endings(void **state)
{
	(void)state;
	struct bench b;
	bench_start(&b, small);
	assert_says(&b.error, gw__qmp_call(b.q, "migrate", json_pack("{s:s}", "uri", "foo:bar"), NULL, &b.error), -EREMOTEIO,
		"/qmp refused `migrate`: ");
	assert_says(&b.error, gw__qmp_call(b.q, "no-such", NULL, NULL, &b.error), -EREMOTEIO, "has not been found");
	assert_ok(&b, gw__qmp_call(b.q, "quit", NULL, NULL, &b.error));
	int err;
	do {
		err = gw__qmp_call(b.q, "query-name", NULL, NULL, &b.error);
	} while (err == 0);
	assert_says(&b.error, err, -ECONNRESET, "it has quit or crashed");
	assert_int_equal(gw_test_vm_wait_end(&b.vm, PATIENCE_MS), 0);
	bench_stop(&b);
}

static void one_line(int fd, char *line, size_t room)
{
	size_t n = 0;
	while (n + 1 < room && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
}

/* What another client may have set and jansson cannot even write down. */
static void set_largest_bandwidth(const struct bench *b)
{
	static const char *const say[] = {"{\"execute\": \"qmp_capabilities\"}\n",
		"{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"max-bandwidth\": "
		"18446744073709551615}}\n"};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char line[4096];
	snprintf(a.sun_path, sizeof a.sun_path, "%s", b->vm.qmp2);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	one_line(fd, line, sizeof line);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(send(fd, say[i], strlen(say[i]), 0), strlen(say[i]));
		one_line(fd, line, sizeof line);
		assert_non_null(strstr(line, "{\"return\": {}}"));
	}
	close(fd);
}

struct picture {
	json_t *capabilities, *parameters;
};

static struct picture look(struct bench *b)
{
	struct picture p = {0};
	assert_ok(b, gw__qmp_call(b->q, "query-migrate-capabilities", NULL, &p.capabilities, &b->error));
	assert_ok(b, gw__qmp_call(b->q, "query-migrate-parameters", NULL, &p.parameters, &b->error));
	return p;
}

static void set_parameters(struct bench *b, json_t *p)
{
	assert_non_null(p);
	assert_ok(b, gw__qmp_call(b->q, "migrate-set-parameters", p, NULL, &b->error));
}

static void set_capability(struct bench *b, const char *name, bool on)
{
	assert_ok(b, gw__qmp_set_capabilities(b->q, &(struct gw__qmp_capability){name, on}, 1, &b->error));
}

/* Whatever another one had set, and whatever we set meanwhile: afterwards all is as it was. */
static void assert_round_trip(struct bench *b, void (*before)(struct bench *), void (*meanwhile)(struct bench *))
{
	struct gw__qmp_settings *mine = NULL, *now = NULL;
	before(b);
	struct picture was = look(b);
	assert_ok(b, gw__qmp_settings_save(b->q, &mine, &b->error));
	meanwhile(b);
	struct picture changed = look(b);
	assert_false(json_equal(was.parameters, changed.parameters));
	assert_false(json_equal(was.capabilities, changed.capabilities));
	assert_ok(b, gw__qmp_settings_restore(b->q, mine, &b->error));
	struct picture is = look(b);
	assert_true(json_equal(was.parameters, is.parameters));
	assert_true(json_equal(was.capabilities, is.capabilities));
	assert_ok(b, gw__qmp_settings_save(b->q, &now, &b->error));
	assert_ok(b, gw__qmp_clear_capabilities(b->q, now, false, &b->error));
	gw__qmp_settings_free(now);
	assert_ok(b, gw__qmp_settings_save(b->q, &now, &b->error));
	assert_false(gw__qmp_settings_on(now, "xbzrle") || gw__qmp_settings_on(now, "multifd"));
	gw__qmp_settings_free(now);
	gw__qmp_settings_free(mine);
	json_t *all[] = {was.capabilities, was.parameters, changed.capabilities, changed.parameters, is.capabilities, is.parameters};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		json_decref(all[i]);
}

static void nothing_special(struct bench *b) { (void)b; }

static void xbzrle_and_unlimited(struct bench *b)
{
	set_capability(b, "xbzrle", true);
	set_largest_bandwidth(b);
}

/* xbzrle and multifd exclude each other. */
static void multifd_with_zstd(struct bench *b)
{
	const struct gw__qmp_capability caps[] = {{"xbzrle", false}, {"multifd", true}, {"mapped-ram", false}, {"events", true}};
	assert_ok(b, gw__qmp_set_capabilities(b->q, caps, 4, &b->error));
	set_parameters(b, json_pack("{s:s, s:i, s:i, s:i, s:i}", "multifd-compression", "zstd", "multifd-channels", 7, "multifd-zstd-level",
				  3, "downtime-limit", 777, "max-postcopy-bandwidth", 12345));
	set_parameters(b, json_pack("{s:s, s:s, s:s}", "tls-creds", "some", "tls-hostname", "host", "tls-authz", "az"));
}

static void tls(struct bench *b) { set_parameters(b, json_pack("{s:s}", "tls-creds", "some")); }

static void plain_mapped_ram(struct bench *b)
{
	set_parameters(b, json_pack("{s:s, s:b, s:s}", "tls-creds", "", "direct-io", 1, "zero-page-detection", "legacy"));
	set_capability(b, "mapped-ram", true);
}

/* QEMU allows this order, and then refuses every parameter until mapped-ram is off again. */
static void mapped_ram_under_tls(struct bench *b)
{
	plain_mapped_ram(b);
	set_capability(b, "mapped-ram", false);
	tls(b);
	set_parameters(b, json_pack("{s:i}", "multifd-channels", 9));
	set_capability(b, "mapped-ram", true);
	assert_says(&b->error, gw__qmp_call(b->q, "migrate-set-parameters", json_pack("{s:s}", "tls-creds", ""), NULL, &b->error),
		-EREMOTEIO, "Mapped-ram");
}

static void settings_are_put_back(void **state)
{
	(void)state;
	struct bench b;
	struct gw__qmp_settings *s = NULL;
	bench_start(&b, small);
	assert_ok(&b, gw__qmp_settings_save(b.q, &s, &b.error));
	assert_true(gw__qmp_settings_has(s, "multifd"));
	assert_int_equal(gw__qmp_settings_has(s, "mapped-ram"), version_number >= 900);
	assert_int_equal(gw__qmp_settings_parameter(s, "direct-io") != NULL, version_number >= 900);
	assert_int_equal(json_integer_value(gw__qmp_settings_parameter(s, "downtime-limit")), 300);
	gw__qmp_settings_free(s);
	assert_round_trip(&b, xbzrle_and_unlimited, multifd_with_zstd);
	assert_round_trip(&b, nothing_special, multifd_with_zstd);
	if (version_number >= 900) {
		assert_round_trip(&b, tls, plain_mapped_ram);
		set_parameters(&b, json_pack("{s:s}", "tls-creds", ""));
		assert_round_trip(&b, nothing_special, mapped_ram_under_tls);
		assert_round_trip(&b, plain_mapped_ram, multifd_with_zstd);
	} else {
		assert_says(&b.error, gw__qmp_set_capabilities(b.q, &(struct gw__qmp_capability){"mapped-ram", true}, 1, &b.error),
			-EOPNOTSUPP, "has no migration capability `mapped-ram`");
	}
	bench_stop(&b);
}

int main(int argc, char **argv)
{
	int status = find_qemu(argc, argv);
	if (status)
		return status;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_tells_what_it_is),
		cmocka_unit_test(a_waiting_destination_can_be_compared),
		cmocka_unit_test(a_second_client_hears_who_is_in_the_way),
		cmocka_unit_test(other_sockets_of_qemu),
		cmocka_unit_test(refusals_and_endings),
		cmocka_unit_test(settings_are_put_back),
	};
	return cmocka_run_group_tests_name("qmp with a real QEMU", tests, NULL, NULL);
}
