/* SPDX-License-Identifier: MIT */
/*
 * Saves the guest of one QEMU, and lets another run it before its memory is there (post-copy from the image):
 *
 *   cc save-and-restore.c -o save-and-restore $(pkg-config --cflags --libs godwit-qemu)
 *   qemu-system-x86_64 ... -qmp unix:old.qmp,server=on,wait=off
 *   qemu-system-x86_64 ... -qmp unix:new.qmp,server=on,wait=off -incoming defer
 *   ./save-and-restore old.qmp vm.image new.qmp
 *
 * A death in the middle is survived: of the save by its guard, of the restore by another gw_qemu_serve() with the same image.
 */
#include <godwit-qemu.h>
#include <stdio.h>

static void on_log(void *ctx, enum gw_qemu_log_level level, const char *text)
{
	(void)ctx;
	if (level != GW_QEMU_LOG_DETAIL)
		fprintf(stderr, "%s\n", text);
}

/* The guest does not run on in the old QEMU: it will in the new one. */
static int save(gw_qemu *qemu, const char *monitor, const char *image)
{
	struct gw_qemu_save_opts o = GW_INIT(o);
	struct gw_qemu_save_result saved = GW_INIT(saved);
	o.stop = true;
	if (gw_qemu_save(qemu, monitor, image, &o, &saved)) {
		fprintf(stderr, "not saved: %s\n", gw_qemu_error(qemu));
		fprintf(stderr, "the guest %s\n", saved.outcome == GW_QEMU_SAVE_FAILED ? "is as before" : "needs a look");
		return -1;
	}
	printf("saved %llu bytes of memory\n", (unsigned long long)saved.ram_bytes);
	return 0;
}

static int restore(gw_qemu *qemu, const char *image, const char *monitor)
{
	struct gw_qemu_restore_opts o = GW_INIT(o);
	struct gw_qemu_restore_result restored = GW_INIT(restored);
	o.way = GW_QEMU_RESTORE_LAZY;
	o.monitor = monitor;
	int r = gw_qemu_restore(qemu, image, &o, &restored);
	if (r)
		fprintf(stderr, "%s\n", gw_qemu_error(qemu));
	switch (restored.outcome) {
	case GW_QEMU_GUEST_DONE:
		printf("the guest is %s, with all of its memory\n", restored.run_state);
		return 0;
	case GW_QEMU_GUEST_WAITS:
	case GW_QEMU_GUEST_UNKNOWN:
		fprintf(stderr, "serve %s to it again: it may run already, and wait for pages\n", image);
		return -1;
	default:
		fprintf(stderr, "it does not have the guest; %s is as it was\n", image);
		return -1;
	}
}

int main(int argc, char **argv)
{
	gw_job *job = NULL;
	gw_qemu *qemu = NULL;
	if (argc != 4) {
		fprintf(stderr, "usage: %s SOURCE-QMP IMAGE DESTINATION-QMP\n", argv[0]);
		return 2;
	}
	if (gw_job_new(&job) || gw_qemu_new(job, &qemu)) {
		fprintf(stderr, "no memory\n");
		gw_job_free(job);
		return 1;
	}
	gw_qemu_on_log(qemu, on_log, NULL);
	int r = save(qemu, argv[1], argv[2]);
	if (!r)
		r = restore(qemu, argv[2], argv[3]);
	gw_qemu_free(qemu);
	gw_job_free(job);
	return r ? 1 : 0;
}
