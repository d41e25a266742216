/* SPDX-License-Identifier: MIT */
/* How a kept guest gets into a destination: every answer the planner can give, and what its sentence must name. */
#include "unit.h"

#include "base/math.h"
#include "plan/restore_method.h"

#define MIB (UINT64_C(1) << 20)

static const struct gw__plan_block kept[] = {{.name = "m0", .used_bytes = 16 * MIB}, {.name = "pc.rom", .used_bytes = 2 * MIB}};
static const struct gw__plan_block kept_gap[] = {{.name = "m0", .used_bytes = 16 * MIB, .ignored = true}};

static const struct gw__plan_block same[] = {{.name = "pc.rom", .used_bytes = 2 * MIB}, {.name = "m0", .used_bytes = 16 * MIB}};
static const struct gw__plan_block larger[] = {{.name = "m0", .used_bytes = 32 * MIB}, {.name = "pc.rom", .used_bytes = 2 * MIB}};
static const struct gw__plan_block grows[] = {{.name = "m0", .used_bytes = 16 * MIB},
	{.name = "pc.rom", .used_bytes = 1 * MIB, .max_bytes = 2 * MIB}};
static const struct gw__plan_block grows_less[] = {{.name = "m0", .used_bytes = 16 * MIB},
	{.name = "pc.rom", .used_bytes = MIB / 2, .max_bytes = MIB}};
static const struct gw__plan_block renamed[] = {{.name = "pc.ram", .used_bytes = 16 * MIB}, {.name = "pc.rom", .used_bytes = 2 * MIB}};
static const struct gw__plan_block mapped[] = {{.name = "m0", .used_bytes = 16 * MIB, .mapped = true},
	{.name = "pc.rom", .used_bytes = 2 * MIB}};
static const struct gw__plan_block unshared[] = {{.name = "m0", .used_bytes = 16 * MIB, .unshared = true}};

#define IMAGE     .machine = "pc-10.0", .image = true, .blocks_n = 2, .block = kept
#define GAP       .machine = "pc-10.0", .image = true, .ignore_shared = true, .blocks_n = 1, .block = kept_gap
#define LOCAL     .reads_images = true, .accepts_ignored_blocks = true, .same_host = true
#define ROMS      .machine = "pc-10.0", .image = true, .blocks_n = 3, .block = roms
#define DEVICED   .machine = "pc-10.0", .image = true, .cpus = 2, .sections_n = GW__LEN(sections), .section = sections
#define HAS(d)    .devices_n = GW__LEN(d), .device = d
#define BLOCKS(b) .blocks_n = GW__LEN(b), .block = b

static const struct gw__plan_block roms[] = {{.name = "0000:00:02.0/vga.vram", .used_bytes = 16 * MIB},
	{.name = "0000:00:02.0/e1000.rom", .used_bytes = 512 << 10}, {.name = "system.flash0", .used_bytes = 528 << 10}};
static const struct gw__plan_block large_vram[] = {{.name = "0000:00:02.0/vga.vram", .used_bytes = 32 * MIB}};
static const struct gw__plan_block small_rom[] = {{.name = "0000:00:02.0/vga.vram", .used_bytes = 16 * MIB},
	{.name = "0000:00:02.0/e1000.rom", .used_bytes = 64 << 10}};
static const struct gw__plan_block no_rom[] = {{.name = "0000:00:02.0/vga.vram", .used_bytes = 16 * MIB}};
static const struct gw__plan_block other_flash[] = {{.name = "0000:00:02.0/vga.vram", .used_bytes = 16 * MIB},
	{.name = "0000:00:02.0/e1000.rom", .used_bytes = 512 << 10}, {.name = "system.flash0", .used_bytes = 2 * MIB}};
static const char *const sections[] = {"timer", "cpu_common", "0000:00:02.0/virtio-net", "0000:00:03.0:01.0/e1000",
	"0000:00:04.0/1.2/usb-kbd", "0000:20:01.0/virtio-rng", "pci@800000020000000:02.0/virtio-net", "0000:00:05.0/not-known"};
#define DEVICES(net, bridged, usb, own)                                                                                                    \
	{                                                                                                                                  \
		{"0000:00:02.0", net}, {"0000:00:03.0:01.0", bridged}, {"0000:00:04.0" usb, "usb-kbd"}, { "0000:00:05.0", own }            \
	}
static const struct gw__plan_device fit[] = DEVICES("virtio-net-pci", "e1000", "/1.2", "anything");
static const struct gw__plan_device other_kind[] = DEVICES("e1000", "e1000", "/1.2", "anything");
static const struct gw__plan_device other_bridged[] = DEVICES("virtio-net-pci", "virtio-rng-pci", "/1.2", "anything");
static const struct gw__plan_device other_port[] = DEVICES("virtio-net-pci", "e1000", "/1", "anything");
static const struct gw__plan_device twice[] = {{"0000:00:02.0", "e1000"}, {"0000:00:02.0", "virtio-net-pci-non-transitional"},
	{"0000:00:03.0:01.0", "e1000"}, {"0000:00:04.0/1.2", "usb-kbd"}, {"0000:00:05.0", "x"}, {"0000:00:1d.0", "rtl8139"}};
static const struct gw__plan_device one_only[] = {{"0000:00:02.0", "virtio-net-pci"}};

static const struct {
	const char *name;
	struct gw__plan_guest guest;
	struct gw__plan_destination there;
	enum gw__restore_method way;
	const char *says[4];
} rows[] = {
	{"the same, here", {IMAGE}, {LOCAL, .machine = "pc-10.0", BLOCKS(same)}, GW__RESTORE_METHOD_DIRECT, {"shortest"}},
	{"nothing is known of it", {IMAGE}, {LOCAL}, GW__RESTORE_METHOD_DIRECT, {"shortest"}},
	{"it reads no images", {IMAGE}, {.same_host = true}, GW__RESTORE_METHOD_STREAM, {"mapped-ram"}},
	{"it is far away", {IMAGE}, {.reads_images = true, .accepts_ignored_blocks = true}, GW__RESTORE_METHOD_STREAM, {"open our files"}},
	{"it maps the image", {IMAGE}, {LOCAL, BLOCKS(mapped)}, GW__RESTORE_METHOD_CLONE, {"maps 16 MiB", "copy-on-write"}},
	{"it maps the image and is another machine", {IMAGE}, {LOCAL, .machine = "q35-10.0", BLOCKS(mapped)}, GW__RESTORE_METHOD_REFUSED,
		{"q35-10.0"}},
	{"a stream file", {.machine = "pc"}, {LOCAL}, GW__RESTORE_METHOD_STREAM, {"stream file"}},
	{"a stream with deltas", {.machine = "pc", .xbzrle = true}, {LOCAL}, GW__RESTORE_METHOD_REFUSED, {"XBZRLE", "godwit convert"}},
	{"another machine type", {IMAGE}, {LOCAL, .machine = "q35-10.0"}, GW__RESTORE_METHOD_REFUSED, {"pc-10.0", "q35-10.0", "-machine"}},
	{"a prefix of the machine type", {IMAGE}, {LOCAL, .machine = "pc"}, GW__RESTORE_METHOD_REFUSED, {"pc-10.0"}},
	{"another memory size", {IMAGE}, {LOCAL, BLOCKS(larger)}, GW__RESTORE_METHOD_REFUSED, {"m0", "16 MiB", "32 MiB"}},
	{"a block that can grow to it", {IMAGE}, {LOCAL, BLOCKS(grows)}, GW__RESTORE_METHOD_DIRECT, {"shortest"}},
	{"a block that cannot grow so far", {IMAGE}, {LOCAL, BLOCKS(grows_less)}, GW__RESTORE_METHOD_REFUSED, {"pc.rom"}},
	{"another id of main memory", {IMAGE}, {LOCAL, BLOCKS(renamed)}, GW__RESTORE_METHOD_REFUSED,
		{"\"m0\"", "pc.ram", "memory-backend"}},
	{"shared memory was left out", {GAP}, {LOCAL, BLOCKS(same)}, GW__RESTORE_METHOD_DIRECT, {"shortest"}},
	{"and it cannot read that", {GAP}, {.reads_images = true, .same_host = true, BLOCKS(same)}, GW__RESTORE_METHOD_STREAM,
		{"shared memory"}},
	{"and its own is not shared", {GAP}, {LOCAL, BLOCKS(unshared)}, GW__RESTORE_METHOD_REFUSED, {"m0", "empty", "share=on"}},
	{"unshared memory that is in the image", {.machine = "pc", .image = true, .blocks_n = 1, .block = kept}, {LOCAL, BLOCKS(unshared)},
		GW__RESTORE_METHOD_DIRECT, {"shortest"}},
	{"other video memory", {ROMS}, {LOCAL, BLOCKS(large_vram)}, GW__RESTORE_METHOD_REFUSED, {"16 MiB", "32 MiB", "vgamem_mb"}},
	{"another option ROM", {ROMS}, {LOCAL, BLOCKS(small_rom)}, GW__RESTORE_METHOD_REFUSED, {"512 KiB", "64 KiB", "romfile"}},
	{"no option ROM", {ROMS}, {LOCAL, BLOCKS(no_rom)}, GW__RESTORE_METHOD_REFUSED, {"e1000.rom", "512 KiB", "romfile"}},
	{"other flash", {ROMS}, {LOCAL, BLOCKS(other_flash)}, GW__RESTORE_METHOD_REFUSED, {"528 KiB", "2 MiB", "firmware file"}},
	{"the same devices", {DEVICED}, {LOCAL, .cpus = 2, HAS(fit)}, GW__RESTORE_METHOD_DIRECT,
		{"shortest", "CPUs and its PCI", "cannot be compared"}},
	{"no devices known", {DEVICED}, {LOCAL}, GW__RESTORE_METHOD_DIRECT, {"shortest", "not compared"}},
	{"fewer CPUs", {DEVICED}, {LOCAL, .cpus = 1, HAS(fit)}, GW__RESTORE_METHOD_REFUSED, {"2 CPUs", "has 1", "-smp 2"}},
	{"more CPUs", {DEVICED}, {LOCAL, .cpus = 3}, GW__RESTORE_METHOD_REFUSED, {"2 CPUs", "has 3"}},
	{"another kind of device", {DEVICED}, {LOCAL, HAS(other_kind)}, GW__RESTORE_METHOD_REFUSED,
		{"virtio-net", "0000:00:02.0", "e1000"}},
	{"one behind a bridge", {DEVICED}, {LOCAL, HAS(other_bridged)}, GW__RESTORE_METHOD_REFUSED,
		{"e1000", "0000:00:03.0:01.0", "virtio-rng-pci"}},
	{"another USB port", {DEVICED}, {LOCAL, HAS(other_port)}, GW__RESTORE_METHOD_REFUSED, {"usb-kbd", "0000:00:04.0/1.2", "none"}},
	{"an address in two trees, and one more", {DEVICED}, {LOCAL, HAS(twice)}, GW__RESTORE_METHOD_DIRECT, {"rtl8139", "0000:00:1d.0"}},
	{"a device less", {DEVICED}, {LOCAL, HAS(one_only)}, GW__RESTORE_METHOD_REFUSED, {"e1000", "0000:00:03.0:01.0", "same slots"}},
};

static void every_answer(void **state)
{
	(void)state;
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		char error[512] = "";
		enum gw__restore_method way = gw__plan_restore_method(&rows[i].guest, &rows[i].there, error, sizeof error);
		if (way != rows[i].way)
			fail_msg("%s: way %d, expected %d: %s", rows[i].name, (int)way, (int)rows[i].way, error);
		for (size_t k = 0; k < GW__LEN(rows[i].says) && rows[i].says[k]; k++)
			if (!strstr(error, rows[i].says[k]))
				fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].name, error, rows[i].says[k]);
	}
}

/* However many blocks with however long names: the sentence is cut, never written past its room. */
static void long_names_are_cut(void **state)
{
	(void)state;
	static char names[40][256];
	struct gw__plan_block many[40] = {{0}};
	for (size_t i = 0; i < GW__LEN(many); i++) {
		memset(names[i], 'a' + (int)(i % 26), 255);
		many[i].name = names[i];
	}
	const struct gw__plan_destination there = {LOCAL, BLOCKS(many)};
	const struct gw__plan_guest guest = {IMAGE};
	struct {
		char error[64], behind[8];
	} room;
	memset(&room, 'x', sizeof room);
	assert_int_equal(gw__plan_restore_method(&guest, &there, room.error, sizeof room.error), GW__RESTORE_METHOD_REFUSED);
	assert_non_null(memchr(room.error, 0, sizeof room.error));
	assert_memory_equal(room.behind, "xxxxxxxx", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_answer), cmocka_unit_test(long_names_are_cut)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
