/* SPDX-License-Identifier: MIT */
/* Streams that must be read: the annotated captures of stream.md 12 and mapped-ram.md 2, and every shape a
 * source may send. */
#include "stream_check.h"

#define ORDER_PLAIN                                                                                                                        \
	"config section blocks eos section-end section page zero eos section-end command section eos section-end "                         \
	"device device device eof description end"

static void the_plain_capture(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "5145564d 00000003");
	sb_hex(&b, "07 0000000e 70632d6934343066782d31302e30");
	sb_hex(&b, "01 00000001 03 72616d 00000000 00000004");
	sb_hex(&b, "0000000008082004");
	sb_hex(&b, "02 6d30 0000000008000000");
	sb_hex(&b, "14 2f726f6d406574632f616370692f7461626c6573 0000000000020000");
	sb_hex(&b, "07 70632e62696f73 0000000000040000");
	sb_hex(&b, "06 70632e726f6d 0000000000020000");
	sb_hex(&b, "15 '/rom@etc/table-loader' 0000000000001000");
	sb_hex(&b, "12 '/rom@etc/acpi/rsdp' 0000000000001000");
	sb_hex(&b, "0000000000000010 7e 00000001");
	sb_hex(&b, "02 00000001");
	sb_hex(&b, "0000000000000008 02 6d30 53ff00f0");
	sb_fill(&b, 0, 4092);
	sb_hex(&b, "0000000000000010 7e 00000001");
	sb_hex(&b, "08 000b 0000");
	sb_hex(&b, "03 00000001 0000000000000010 7e 00000001");
	sb_device(&b, 6, "apic", 0, 3, "some state", 10);
	uint8_t globalstate[104] = {0, 0, 0, 7, 0x70, 0x61, 0x75, 0x73, 0x65, 0x64};
	sb_device(&b, 0x28, "globalstate", 0, 1, globalstate, sizeof globalstate);
	sb_end(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end section page eos section-end command section eos section-end "
			   "device device eof description end");
	assert_logged(&end, "0 config pc-i440fx-10.0 bits 12 caps 0\n");
	assert_logged(&end, "27 section 1 1 ram\n");
	assert_logged(&end, "  \"m0\" 134217728 page 0 address 0 bitmap 0 pages 0\n");
	assert_logged(&end, "  \"/rom@etc/acpi/rsdp\" 4096 page 0");
	assert_logged(&end, "193 section 2 1 ram\n");
	assert_logged(&end, "198 page 0+0 ");
	assert_int_equal(end.stream.blocks.n, 6);
	assert_int_equal(end.stream.blocks.total_bytes, 0x8082000);
	assert_true(end.stream.ram_ended && end.stream.switchover);
	assert_false(end.stream.background || end.stream.return_path || end.stream.advised);
	assert_int_equal(end.stream.devices_n, 2);
	assert_int_equal(end.stream.parts, 1);
	assert_int_equal(gw__vmdesc_count(end.stream.desc), 2);
	feed_end_fini(&end);
}

static void the_capture_with_post_copy_advised(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc-i440fx-10.0");
	sb_hex(&b, "08 0001 0000");
	sb_hex(&b, "08 0002 0004 00000001");
	sb_hex(&b, "08 0003 0010 0000000000201000 0000000000001000");
	sb_hex(&b, "01 00000001 03 72616d 00000000 00000004  0000000004082004");
	sb_hex(&b, "02 6d30 0000000004000000 0000000000200000");
	sb_hex(&b, "14 '/rom@etc/acpi/tables' 0000000000020000");
	sb_hex(&b, "07 'pc.bios' 0000000000040000");
	sb_hex(&b, "06 'pc.rom' 0000000000020000");
	sb_hex(&b, "15 '/rom@etc/table-loader' 0000000000001000");
	sb_hex(&b, "12 '/rom@etc/acpi/rsdp' 0000000000001000");
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config command command command section blocks eos section-end command section eos section-end "
			   "device device device eof description end");
	assert_logged(&end, "  \"m0\" 67108864 page 2097152 address 0 ");
	assert_logged(&end, "  \"/rom@etc/acpi/tables\" 131072 page 0 address 0 ");
	assert_true(end.stream.return_path && end.stream.advised);
	feed_end_fini(&end);
}

static void a_page_size_behind_the_last_block(void **state)
{
	(void)state;
	for (int sized = 0; sized < 2; sized++)
		for (int flush = 0; flush < 2; flush++) {
			struct sb b = {0};
			sb_head(&b, "pc");
			sb_hex(&b, "08 0003 0010 0000000000201000 0000000000001000");
			sb_start_ram(&b);
			sb_be64(&b, 0x400000 | 0x004);
			sb_block(&b, "m0", 0x400000);
			if (sized)
				sb_be64(&b, 0x200000);
			if (flush)
				sb_be64(&b, 0x200);
			sb_eos(&b);
			put_ram_end(&b);
			put_rest(&b);
			struct feed_end end = accepted(&b);
			assert_int_equal(end.stream.blocks.v[0].page_bytes, sized ? 0x200000 : 0);
			assert_int_equal(end.count[GW__EVENT_FLUSH], flush);
			feed_end_fini(&end);
		}
}

static void addresses_of_x_ignore_shared(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_caps(&b, "x-ignore-shared", NULL);
	sb_start_ram(&b);
	sb_be64(&b, 0x6000 | 0x004);
	sb_block(&b, "m0", 0x4000);
	sb_be64(&b, 0);
	sb_block(&b, "rom", 0x2000);
	sb_be64(&b, 0xfffc0000);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_logged(&end, "  \"rom\" 8192 page 0 address fffc0000 ");
	feed_end_fini(&end);
}

/* CONTINUE means the block named last, in whichever section that was. */
static void continue_reaches_across_sections(void **state)
{
	(void)state;
	struct sb b = {0};
	put_part(&b);
	sb_eos(&b);
	sb_more(&b, 0x02, 1);
	sb_zero(&b, 0x0000, NULL); /* "rom" of the PART before */
	sb_zero(&b, 0x2000, "m0");
	sb_eos(&b);
	sb_switchover(&b);
	sb_more(&b, 0x03, 1);
	sb_xbzrle(&b, 0x3000, NULL, "\0\1x", 3);
	sb_record(&b, 0x1008, NULL);
	sb_fill(&b, 7, 4096);
	sb_eos(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end section page zero eos section-end section zero zero "
			   "eos section-end "
			   "command section xbzrle page eos section-end device device device eof description end");
	assert_non_null(strstr(end.log, " zero 1+0\n"));
	assert_non_null(strstr(end.log, " zero 0+2000\n"));
	assert_non_null(strstr(end.log, " xbzrle 0+3000 3 "));
	assert_non_null(strstr(end.log, " page 0+1000 "));
	feed_end_fini(&end);
}

static void a_page_may_come_often_and_as_the_last_of_its_block(void **state)
{
	(void)state;
	struct sb b = {0};
	put_part(&b);
	sb_zero(&b, 0x0000, "m0");
	sb_zero(&b, 0x0000, NULL);
	sb_zero(&b, 0x3000, NULL);
	sb_zero(&b, 0x1000, "rom");
	sb_xbzrle(&b, 0x1000, NULL, NULL, 0);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_int_equal(end.count[GW__EVENT_ZERO], 5);
	assert_non_null(strstr(end.log, " zero 0+3000\n"));
	feed_end_fini(&end);
}

static void names_and_deltas_of_the_greatest_length(void **state)
{
	(void)state;
	struct sb b = {0};
	char name[256] = "";
	uint8_t delta[4096] = {0};
	memset(name, 'm', 255);
	sb_head(&b, "pc");
	sb_start_ram(&b);
	sb_be64(&b, 0x1000 | 0x004);
	sb_block(&b, name, 0x1000);
	sb_zero(&b, 0, name);
	sb_xbzrle(&b, 0, name, delta, sizeof delta); /* whether it says something is for who applies it */
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_string_equal(end.stream.blocks.v[0].name, name);
	assert_non_null(strstr(end.log, " xbzrle 0+0 4096 "));
	feed_end_fini(&end);
}

static void a_list_may_be_repeated_word_for_word(void **state)
{
	(void)state;
	struct sb b = {0};
	put_part(&b);
	sb_be64(&b, 0x6000 | 0x004);
	sb_block(&b, "m0", 0x4000);
	sb_block(&b, "rom", 0x2000);
	sb_zero(&b, 0x0000, NULL);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_int_equal(end.count[GW__EVENT_BLOCKS], 1);
	assert_int_equal(end.stream.blocks.n, 2);
	assert_non_null(strstr(end.log, " zero 1+0\n")); /* the last named block is still known */
	feed_end_fini(&end);
}

static void multifd_leaves_flushes(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_be64(&b, 0x200);
	sb_eos(&b);
	sb_more(&b, 0x02, 1);
	sb_be64(&b, 0x200);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_int_equal(end.count[GW__EVENT_FLUSH], 2);
	feed_end_fini(&end);
}

/* virtio-mem: 11.1 sends it before the RAM START, 10.0 behind it. */
static void early_devices(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc-i440fx-11.1");
	sb_device(&b, 0x99, "virtio-mem-early", 0, 1, "\x7e\0\0\0\x99\xff unplugged", 16);
	size_t head = b.n;
	struct sb rest = {0};
	put_part(&rest);
	sb_bytes(&b, rest.p + 27, rest.n - 27); /* without its head */
	sb_fini(&rest);
	assert_true(head > 27);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config device section blocks eos section-end section page zero eos section-end command "
			   "section eos section-end "
			   "device device device eof description end");
	assert_logged(&end, "27 device 4 153 virtio-mem-early instance 0 version 1 body 16 ");
	assert_int_equal(end.stream.devices_n, 4);
	feed_end_fini(&end);

	put_start(&b);
	sb_eos(&b);
	sb_device(&b, 0x99, "virtio-mem-early", 0, 1, "unplugged", 9);
	sb_device(&b, 0x9a, "virtio-mem-early", 1, 1, "", 0);
	sb_more(&b, 0x02, 1);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end device device section eos section-end command "
			   "section eos section-end "
			   "device device device eof description end");
	feed_end_fini(&end);
}

/* Bodies with a format of their own, like dirty-bitmap, are found by their footers. */
static void iterables_of_others(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_eos(&b);
	sb_named(&b, 0x01, 7, "dirty-bitmap", 0, 1);
	sb_hex(&b, "01020304 7e 00000007 05 7e 00000001 02 00000001"); /* look-alikes */
	sb_footer(&b, 7);
	sb_more(&b, 0x02, 7); /* its own PART stands right behind its START */
	sb_hex(&b, "7e7e7e");
	sb_footer(&b, 7);
	sb_more(&b, 0x02, 1);
	sb_eos(&b);
	put_ram_end(&b);
	sb_more(&b, 0x03, 7);
	sb_hex(&b, "7e 00000007 03 00000007"); /* what is over does not go on: no end either */
	sb_footer(&b, 7);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end opaque opaque section eos section-end command "
			   "section eos section-end "
			   "opaque device device device eof description end");
	assert_non_null(strstr(end.log, " opaque 1 7 dirty-bitmap instance 0 version 1 body 20 "));
	assert_non_null(strstr(end.log, " opaque 2 7 dirty-bitmap instance 0 version 0 body 3 "));
	assert_non_null(strstr(end.log, " opaque 3 7 dirty-bitmap instance 0 version 0 body 10 "));
	feed_end_fini(&end);
}

static void a_device_before_the_end_of_an_iterable(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_eos(&b);
	sb_named(&b, 0x01, 7, "dirty-bitmap", 0, 1);
	sb_footer(&b, 7);
	put_ram_end(&b);
	sb_device(&b, 3, "timer", 0, 2, "0123456789", 10);
	sb_more(&b, 0x03, 7);
	sb_footer(&b, 7);
	sb_device(&b, 0, "apic", 0, 3, "", 0);
	sb_end(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end opaque command section eos section-end device "
			   "opaque device eof "
			   "description end");
	feed_end_fini(&end);
}

/* pseries and s390x: a background snapshot ENDs neither RAM nor the other iterables. */
static void a_background_snapshot_with_several_iterables(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_eos(&b);
	sb_named(&b, 0x01, 7, "spapr/htab", 0, 1);
	sb_footer(&b, 7);
	sb_named(&b, 0x01, 8, "s390-storage_attributes", 0, 0);
	sb_footer(&b, 8);
	sb_more(&b, 0x02, 1);
	sb_eos(&b);
	sb_more(&b, 0x02, 7);
	sb_hex(&b, "0123");
	sb_footer(&b, 7);
	put_devices(&b);
	sb_end(&b);
	struct feed_end end = accepted(&b);
	assert_true(end.stream.background);
	assert_int_equal(end.count[GW__EVENT_OPAQUE], 3);
	assert_int_equal(end.count[GW__EVENT_DEVICE], 3);
	feed_end_fini(&end);
}

/* What sparc64 and alpha have: nothing states it but ADVISE, or who reads. */
static void pages_of_8_kib(void **state)
{
	(void)state;
	for (int advised = 0; advised < 2; advised++) {
		struct sb b = {0};
		sb_head(&b, "sun4u");
		if (advised)
			sb_hex(&b, "08 0003 0010 0000000000002000 0000000000002000");
		sb_hex(&b, "01 00000001 03 'ram' 00000000 00000004 0000000000008004 02 'm0' 0000000000008000");
		sb_hex(&b, "0000000000000010 7e 00000001 02 00000001");
		sb_hex(&b, "0000000000004008 02 'm0'");
		sb_fill(&b, 0, 8192);
		sb_hex(&b, "0000000000002022 00");
		sb_eos(&b);
		put_ram_end(&b);
		put_devices(&b);
		sb_eof(&b);
		sb_desc(&b, 8192);
		struct gw__stream_opts o = NO_LIMIT;
		o.page_bytes = advised ? 0 : 8192;
		struct feed_end end = accept_with(&b, o, __FILE__, __LINE__);
		assert_int_equal(end.stream.page_bytes, 8192);
		assert_int_equal(gw__config_page_bytes(&end.stream.config), 8192);
		assert_int_equal(end.count[GW__EVENT_PAGE], 1);
		feed_end_fini(&end);
	}
}

static void ids_are_free_again_when_a_section_ended(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_eos(&b);
	for (int i = 0; i < 2; i++) {
		sb_named(&b, 0x01, 7, "dirty-bitmap", 0, 1);
		sb_footer(&b, 7);
		sb_more(&b, 0x03, 7);
		sb_footer(&b, 7);
	}
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_int_equal(end.count[GW__EVENT_OPAQUE], 4);
	feed_end_fini(&end);
}

/* START, PARTs, devices: no SWITCHOVER_START, no END (stream.md 6). */
static void a_background_snapshot(void **state)
{
	(void)state;
	struct sb b = {0};
	put_part(&b);
	sb_eos(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end section page zero eos section-end device device device eof "
			   "description end");
	assert_true(end.stream.background);
	assert_false(end.stream.ram_ended);
	feed_end_fini(&end);
}

/* Whether a mapped-ram file in these shapes is any good is for its reader to say (mapped-ram.md 9), who is
 * told of them. */
static void mapped_files_without_end_or_description(void **state)
{
	(void)state;
	for (int background = 0; background < 2; background++) {
		struct sb b = {0};
		sb_head(&b, "pc");
		sb_caps(&b, "mapped-ram", NULL);
		sb_start_ram(&b);
		sb_be64(&b, 0x1000 | 0x004);
		sb_block(&b, "rom", 0x1000);
		sb_mapped_header(&b, 4096, b.n + 28, 4096);
		sb_pad_to(&b, 2 * 4096, 0);
		sb_eos(&b);
		if (background) {
			sb_more(&b, 0x02, 1);
			sb_eos(&b);
			put_rest(&b);
		} else {
			put_ram_end(&b);
			put_devices(&b);
			sb_eof(&b);
		}
		struct feed_end end = accepted(&b);
		assert_int_equal(end.stream.background, background);
		assert_int_equal(end.stream.ram_ended, !background);
		assert_int_equal(end.stream.desc != NULL, background);
		feed_end_fini(&end);
	}
}

static void a_description_of_other_pages_is_refused(void **state)
{
	(void)state;
	struct sb b = {0};
	put_ram(&b);
	put_devices(&b);
	sb_eof(&b);
	sb_desc(&b, 8192);
	REFUSED(&b, "the VM description names pages of 8192 bytes", "4096", "--page-size");
}

/* SWITCHOVER_START may be missing, and may stand anywhere. */
static void switchover_anywhere(void **state)
{
	(void)state;
	for (int at = 0; at < 8; at++) {
		struct sb b = {0};
		sb_head(&b, "pc");
		if (at == 1)
			sb_switchover(&b);
		sb_start_ram(&b);
		sb_be64(&b, 0x4000 | 0x004);
		sb_block(&b, "m0", 0x4000);
		sb_eos(&b);
		if (at == 2)
			sb_switchover(&b);
		sb_more(&b, 0x02, 1);
		sb_eos(&b);
		if (at == 3)
			sb_switchover(&b);
		sb_more(&b, 0x03, 1);
		sb_eos(&b);
		if (at == 4)
			sb_switchover(&b);
		sb_device(&b, 3, "timer", 0, 2, "0123456789", 10);
		if (at == 5)
			sb_switchover(&b);
		sb_device(&b, 0, "apic", 0, 3, "", 0);
		if (at == 6)
			sb_switchover(&b);
		if (at == 7)
			sb_eof(&b); /* and no description */
		else
			sb_end(&b);
		struct feed_end end = accepted(&b);
		assert_int_equal(end.stream.switchover, at >= 1 && at <= 6);
		assert_int_equal(end.count[GW__EVENT_DEVICE], 2);
		feed_end_fini(&end);
	}
}

static void a_suppressed_description(void **state)
{
	(void)state;
	struct sb b = {0};
	put_ram(&b);
	put_devices(&b);
	sb_eof(&b);
	struct feed_end end;
	read_with(&b, NO_LIMIT, true, &end); /* while the source may still send one, this is no end */
	assert_int_equal(end.code, GW__SHORT);
	assert_int_equal(end.count[GW__EVENT_DEVICE], 0);
	feed_end_fini(&end);
	end = accepted(&b);
	assert_order(&end, "config section blocks eos section-end section page zero eos section-end command section eos section-end "
			   "device device device eof end");
	assert_null(end.stream.desc);
	feed_end_fini(&end);
}

static void bytes_behind_the_end_are_not_used(void **state)
{
	(void)state;
	struct sb b = {0};
	struct feed_end end;
	put_ram(&b);
	put_rest(&b);
	sb_hex(&b, "00 06 00000010 7b 'behind the end' 00");
	read_with(&b, NO_LIMIT, false, &end);
	assert_int_equal(end.code, 0);
	assert_order(&end, ORDER_PLAIN);
	assert_int_equal(end.trailing, 22);
	feed_end_fini(&end);
	sb_fini(&b);
}

static void the_end_comes_with_the_last_byte_of_an_open_socket(void **state)
{
	(void)state;
	struct sb b = {0};
	struct feed_end end;
	put_ram(&b);
	put_rest(&b);
	read_with(&b, NO_LIMIT, true, &end);
	assert_int_equal(end.code, 0);
	assert_order(&end, ORDER_PLAIN);
	feed_end_fini(&end);
	for (size_t n = 0; n < b.n; n++) {
		struct sb cut = {.p = b.p, .n = n};
		read_with(&cut, NO_LIMIT, true, &end);
		assert_int_not_equal(end.code, 0);
		assert_int_equal(end.count[GW__EVENT_END], 0);
		feed_end_fini(&end);
	}
	sb_fini(&b);
}

/* Whatever stands in a device's body, the description says where it ends. */
static void bodies_full_of_traps(void **state)
{
	(void)state;
	struct sb body = {0}, b = {0};
	sb_hex(&body, "7e 00000003 00 06 00000002 '{}' 7e 00000003 04 00000000 04 'apic' 00000000 00000003");
	sb_hex(&body, "7e 00000003 08 000b 0000 7e 00000003 00 06 00000002 7b 00 06 ffffffff 7b");
	put_ram(&b);
	sb_device(&b, 3, "timer", 0, 2, body.p, body.n);
	sb_device(&b, 0, "apic", 0, 3, "", 0);
	sb_end(&b);
	struct feed_end end = accepted(&b);
	char want[64];
	snprintf(want, sizeof want, " timer instance 0 version 2 body %zu ", body.n);
	assert_non_null(strstr(end.log, want));
	assert_null(strstr(end.log, "odd"));
	feed_end_fini(&end);
	sb_fini(&body);
}

static void a_device_whose_description_is_wrong_is_marked(void **state)
{
	(void)state;
	struct sb b = {0};
	put_ram(&b);
	sb_device_as(&b, 3, "timer", 0, 2, "0123456789", 10,
		"\"vmsd_name\": \"t\", \"version\": 2, \"fields\": [{\"name\": \"x\", \"array_len\": 2, "
		"\"type\": \"y\", "
		"\"size\": 4}]");
	sb_device(&b, 0, "apic", 0, 3, "", 0);
	sb_end(&b);
	struct feed_end end = accepted(&b);
	const char *line = strstr(end.log, " timer instance 0 version 2 body 10 ");
	assert_non_null(line);
	const char *anomaly = strstr(line, "odd");
	assert_non_null(anomaly);
	assert_true(anomaly < strchr(line, '\n'));
	assert_null(strstr(anomaly + 1, "odd: "));
	feed_end_fini(&end);
}

static void pages_of_other_sizes(void **state)
{
	(void)state;
	for (uint32_t bits = 10; bits <= 20; bits++) {
		const uint64_t page = UINT64_C(1) << bits;
		struct sb b = {0};
		sb_head(&b, "virt");
		sb_page_bits(&b, bits);
		sb_start_ram(&b);
		sb_be64(&b, 2 * page | 0x004);
		sb_block(&b, "m0", 2 * page);
		sb_eos(&b);
		sb_more(&b, 0x02, 1);
		sb_record(&b, page | 0x008, "m0");
		sb_fill(&b, 1, page);
		sb_eos(&b);
		put_ram_end(&b);
		put_devices(&b);
		sb_eof(&b);
		sb_desc(&b, (uint32_t)page);
		struct feed_end end = accepted(&b);
		assert_int_equal(end.stream.page_bytes, page);
		assert_int_equal(end.count[GW__EVENT_PAGE], 1);
		feed_end_fini(&end);
	}
}

/* Byte for byte at the offsets of mapped-ram.md 2. */
static void the_mapped_capture(void **state)
{
	(void)state;
	enum { MIB = 1 << 20 };
	struct sb b = {0};
	sb_head(&b, "pc-i440fx-10.0");
	sb_caps(&b, "mapped-ram", NULL);
	sb_start_ram(&b);
	sb_be64(&b, 0x1000000 | 0x004);
	sb_hex(&b, "06 'pc.ram'");
	assert_int_equal(b.n, 0x6a);
	sb_hex(&b, "0000 0000 0100 0000");
	assert_int_equal(b.n, 0x72);
	sb_hex(&b, "0000 0001");
	sb_hex(&b, "0000 0000 0000 1000");
	sb_hex(&b, "0000 0000 0000 008e");
	sb_hex(&b, "0000 0000 0010 0000");
	assert_int_equal(b.n, 0x8e);
	sb_hex(&b, "41 00 00 00");
	sb_pad_to(&b, 17 * MIB, 0xee); /* bitmap, hole, pages: none of it is for the decoder */
	sb_eos(&b);
	sb_more(&b, 0x02, 1);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_order(&end, "config section seek blocks eos section-end section eos section-end command section eos section-end "
			   "device device device eof description end");
	assert_logged(&end, "99 seek 17825792\n");
	assert_logged(&end, "17825792 blocks\n");
	assert_logged(&end, "  \"pc.ram\" 16777216 page 0 address 0 bitmap 142 pages 1048576\n");
	feed_end_fini(&end);
}

static void mapped_blocks_that_are_not_in_the_file(void **state)
{
	(void)state;
	enum { MIB = 1 << 20, BASE = 0x100123 };
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_caps(&b, "x-ignore-shared", "mapped-ram");
	sb_start_ram(&b);
	sb_be64(&b, 0x5000 | 0x004);
	sb_block(&b, "shared", 0x4000);
	sb_be64(&b, 0x100000000);
	sb_mapped_header(&b, 4096, 0, 0);
	sb_block(&b, "rom", 0x1000);
	sb_be64(&b, 0xfffff000);
	sb_mapped_header(&b, 4096, BASE + b.n + 28, 2 * MIB);
	size_t bitmap_at = BASE + b.n;
	sb_pad_to(&b, 2 * MIB + 0x1000 - BASE, 0);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accept_with(&b, (struct gw__stream_opts){.base_off = BASE, .tail_max_bytes = 1 << 20}, __FILE__, __LINE__);
	char want[128];
	snprintf(want, sizeof want, "  \"rom\" 4096 page 0 address fffff000 bitmap %zu pages %d\n", bitmap_at, 2 * MIB);
	assert_non_null(strstr(end.log, "  \"shared\" 16384 page 0 address 100000000 bitmap 0 pages 0 ignored\n"));
	assert_non_null(strstr(end.log, want));
	assert_int_equal(end.count[GW__EVENT_SEEK], 1);
	assert_logged(&end, "1048867 config"); /* offsets are those of the file */
	feed_end_fini(&end);
}

static void odd_layouts_are_marked(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_caps(&b, "mapped-ram", NULL);
	sb_start_ram(&b);
	sb_be64(&b, 0x1000 | 0x004);
	sb_block(&b, "rom", 0x1000);
	sb_mapped_header(&b, 4096, b.n + 28, 4096);
	sb_pad_to(&b, 2 * 4096, 0);
	sb_eos(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accepted(&b);
	assert_non_null(strstr(end.log, " seek 8192 odd: the pages do not begin at a multiple of 1 MiB"));
	feed_end_fini(&end);
}

static void an_end_is_given_again(void **state)
{
	(void)state;
	struct sb b = {0};
	put_ram(&b);
	put_rest(&b);
	struct gw__stream s;
	struct gw__event ev;
	struct gw__error error = {0};
	size_t at = 0, used;
	gw__stream_init(&s, &NO_LIMIT);
	do {
		assert_int_equal(gw__stream_next(&s, b.p + at, b.n - at, true, &used, &ev, &error), 1);
		at += used + (ev.kind == GW__EVENT_PAGE ? 4096 : 0);
	} while (ev.kind != GW__EVENT_END);
	assert_int_equal(at, b.n);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(gw__stream_next(&s, NULL, 0, true, &used, &ev, &error), 1);
		assert_int_equal(ev.kind, GW__EVENT_END);
		assert_int_equal(used, 0);
	}
	gw__stream_fini(&s);
	gw__stream_fini(&s);
	sb_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plain_capture),
		cmocka_unit_test(the_capture_with_post_copy_advised),
		cmocka_unit_test(a_page_size_behind_the_last_block),
		cmocka_unit_test(addresses_of_x_ignore_shared),
		cmocka_unit_test(continue_reaches_across_sections),
		cmocka_unit_test(a_page_may_come_often_and_as_the_last_of_its_block),
		cmocka_unit_test(names_and_deltas_of_the_greatest_length),
		cmocka_unit_test(a_list_may_be_repeated_word_for_word),
		cmocka_unit_test(multifd_leaves_flushes),
		cmocka_unit_test(early_devices),
		cmocka_unit_test(iterables_of_others),
		cmocka_unit_test(a_device_before_the_end_of_an_iterable),
		cmocka_unit_test(a_background_snapshot_with_several_iterables),
		cmocka_unit_test(pages_of_8_kib),
		cmocka_unit_test(ids_are_free_again_when_a_section_ended),
		cmocka_unit_test(a_background_snapshot),
		cmocka_unit_test(mapped_files_without_end_or_description),
		cmocka_unit_test(a_description_of_other_pages_is_refused),
		cmocka_unit_test(switchover_anywhere),
		cmocka_unit_test(a_suppressed_description),
		cmocka_unit_test(bytes_behind_the_end_are_not_used),
		cmocka_unit_test(the_end_comes_with_the_last_byte_of_an_open_socket),
		cmocka_unit_test(bodies_full_of_traps),
		cmocka_unit_test(a_device_whose_description_is_wrong_is_marked),
		cmocka_unit_test(pages_of_other_sizes),
		cmocka_unit_test(the_mapped_capture),
		cmocka_unit_test(mapped_blocks_that_are_not_in_the_file),
		cmocka_unit_test(odd_layouts_are_marked),
		cmocka_unit_test(an_end_is_given_again),
	};
	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
