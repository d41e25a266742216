/* SPDX-License-Identifier: MIT */
/* The command line of a QEMU, made into that of a clone. */
#include "image_kit.h"

#include <godwit.h>

#include "qemu/clone_command.h"

enum { WORDS = 40 };

static struct gw__clone_command made;
static struct gw__error error;

static gw_info *look(const char *main_block)
{
	struct gw__blocks blocks = {0};
	struct gw_inspect_opts o = GW_INIT(o);
	gw_job *job;
	gw_info *info;
	kit_add_block(&blocks, main_block, 256 * KIT_PAGE, false);
	kit_add_block(&blocks, "dimm1", 64 * KIT_PAGE, false);
	kit_add_block(&blocks, "0000:00:02.0/vga.vram", 256 * KIT_PAGE, false);
	struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
	kit_put_page(w, 0, 3, 0);
	kit_finish(w);
	gw__blocks_fini(&blocks);
	o.clonable = true;
	assert_int_equal(gw_job_new(&job), 0);
	assert_ok(gw_inspect(job, image, &o, &info),
		*gw_job_error(job) ? (gw__error_set(&error, -1, "%s", gw_job_error(job)), error) : error);
	gw_job_free(job);
	return info;
}

/* The words of a command, separated by spaces; made from the image of a guest with that main memory. */
static int make(const char *main_block, const char *words)
{
	char copy[2048], *v[WORDS] = {0};
	gw_info *info = look(main_block);
	unsigned n = 0;
	snprintf(copy, sizeof copy, "%s", words);
	for (char *at = strtok(copy, " "); at; at = strtok(NULL, " "))
		v[n++] = at;
	gw__error_clear(&error);
	gw__clone_command_free(&made);
	int r = gw__clone_command_make(v, info, "/a,b", &made, &error);
	gw_info_free(info);
	return r;
}

static void becomes(const char *main_block, const char *words, const char *want)
{
	char got[2048] = "";
	if (make(main_block, words))
		fail_msg("%s: %s", words, error.text);
	for (unsigned i = 0; made.argv[i]; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "", made.argv[i]);
	assert_string_equal(got, want);
}

static void refused(const char *words, const char *why)
{
	assert_int_equal(make("m0", words), -EOPNOTSUPP);
	assert_says(error, why);
}

#define MAPS(id, size, off)                                                                                                                \
	"-object memory-backend-file,id=" id ",size=" size ",mem-path=/a,,b,offset=" off ",share=off,readonly=on,rom=off"

static void memory_of_its_own_is_named(void **state)
{
	(void)state;
	becomes("pc.ram", "q -m 1M -M pc -nographic",
		"q -m 1M -M pc -nographic " MAPS("pc.ram", "1048576", "1048576") " -machine memory-backend=pc.ram");
	becomes("pc.ram", "q -m 1 -mem-path /tmp -mem-prealloc",
		"q -m 1 " MAPS("pc.ram", "1048576", "1048576") " -machine memory-backend=pc.ram");
}

static void backends_are_replaced(void **state)
{
	(void)state;
	becomes("m0", "q -machine pc,memory-backend=m0 -object memory-backend-memfd,id=m0,size=1M,prealloc=on,host-nodes=0,policy=bind",
		"q -machine pc,memory-backend=m0 " MAPS("m0", "1M", "1048576") ",policy=bind,host-nodes=0");
	becomes("m0", "q --machine pc,memory-backend=m0 --object qom-type=memory-backend-file,id=m0,size=1M,mem-path=/tmp/x,share=off",
		"q --machine pc,memory-backend=m0 " MAPS("m0", "1M", "1048576"));
	becomes("/objects/m0", "q -machine pc,memory-backend=m0 -object memory-backend-ram,size=1M,id=m0",
		"q -machine pc,memory-backend=m0 " MAPS("m0", "1M", "1048576"));
	becomes("m0",
		"q -machine pc,memory-backend=m0 -object {\"qom-type\":\"memory-backend-ram\",\"id\":\"m0\",\"size\":1048576,\"merge\":false}",
		"q -machine pc,memory-backend=m0 -object {\"qom-type\":\"memory-backend-file\",\"id\":\"m0\",\"size\":1048576,\"mem-path\":\"/a,b\",\"offset\":1048576,"
		"\"share\":false,\"readonly\":true,\"rom\":\"off\",\"merge\":false}");
}

static void dimms_and_nodes_are_replaced_and_other_devices_memory_is_not(void **state)
{
	(void)state;
	becomes("m0",
		"q -numa node,memdev=m0 -object memory-backend-ram,id=m0,size=1M -object memory-backend-ram,id=dimm1,size=256K -device pc-dimm,memdev=dimm1",
		"q -numa node,memdev=m0 " MAPS("m0", "1M", "1048576") " " MAPS("dimm1", "256K", "3145728") " -device pc-dimm,memdev=dimm1");
	becomes("m0",
		"q -machine memory-backend=m0 -object memory-backend-ram,id=m0,size=1M -object memory-backend-ram,id=dimm1,share=on -device nvdimm,memdev=dimm1",
		"q -machine memory-backend=m0 " MAPS("m0", "1M",
			"1048576") " -object memory-backend-ram,id=dimm1,share=on -device nvdimm,memdev=dimm1");
}

static void a_new_identity_is_asked_for(void **state)
{
	(void)state;
	becomes("pc.ram", "q -m 1 -device vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87,id=v",
		"q -m 1 -device vmgenid,guid=auto,id=v " MAPS("pc.ram", "1048576", "1048576") " -machine memory-backend=pc.ram");
	assert_true(made.new_id);
	becomes("pc.ram", "q -m 1 -device {\"driver\":\"vmgenid\",\"guid\":\"324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87\"}",
		"q -m 1 -device vmgenid,guid=auto " MAPS("pc.ram", "1048576", "1048576") " -machine memory-backend=pc.ram");
}

static void what_does_not_go_is_refused(void **state)
{
	(void)state;
	refused("q -device vfio-pci,host=0:1", "vfio-pci lets hardware of the host write");
	refused("q -device {\"driver\":\"vfio-pci\",\"host\":\"0:1\"}", "vfio-pci");
	refused("q -netdev vhost-user,id=n,chardev=c", "memory that another process shares");
	refused("q -netdev type=vhost-vdpa,id=n", "vhost-vdpa");
	refused("q -device driver=vhost-user-fs-pci,tag=x", "vhost-user-fs-pci");
	refused("q -machine memory-backend=m0 -object memory-backend-memfd,id=m0,size=1M,share=on", "leave share=on out");
	refused("q -machine memory-backend=m0 -object {\"qom-type\":\"memory-backend-memfd\",\"id\":\"m0\",\"share\":true}",
		"leave share=on out");
	refused("q -machine memory-backend=m0 -object memory-backend-memfd,id=m0,size=2M,share=off,hugetlb=on", "huge pages");
	refused("q -overcommit mem-lock=on", "would copy every page");
	refused("q -machine memory-backend=m1 -object memory-backend-ram,id=m1,size=1M", "names no memory that is a RAM block");
}

static void another_size_is_refused(void **state)
{
	(void)state;
	assert_int_equal(make("pc.ram", "q"), -EINVAL);
	assert_says(error, "was saved with 1 MiB and the command gives it 128 MiB");
	assert_int_equal(make("pc.ram", "q -m size=2G,slots=2"), -EINVAL);
	assert_int_equal(make("m0", "q -machine memory-backend=m0 -object memory-backend-ram,id=m0,size=2m"), -EINVAL);
	assert_int_equal(make("pc.ram", "q -m 1024k"), 0);
	assert_int_equal(make("pc.ram", "q -m 0.001G"), 0); /* QEMU's to judge */
}

static int end(void **state)
{
	(void)state;
	gw__clone_command_free(&made);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(memory_of_its_own_is_named),
		each_in_a_folder(backends_are_replaced),
		each_in_a_folder(dimms_and_nodes_are_replaced_and_other_devices_memory_is_not),
		each_in_a_folder(a_new_identity_is_asked_for),
		each_in_a_folder(what_does_not_go_is_refused),
		each_in_a_folder(another_size_is_refused),
	};
	return cmocka_run_group_tests_name("clone command", tests, NULL, end);
}
