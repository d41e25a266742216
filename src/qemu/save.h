/* SPDX-License-Identifier: MIT */
/*
 * A save from a running QEMU, between its parts: save.c is the call, save_source.c drives the QEMU, save_postcopy.c where it switches
 * to post-copy, save_failed.c ends what failed.
 *
 * Two threads: a worker receives the guest, the main thread speaks with the monitor, because a QEMU in its last phase answers
 * nobody before its bytes are taken. After the last byte the worker asks it whether it was it that sent them; `talk` is the lock.
 */
#ifndef GW_QEMU_SAVE_H
#define GW_QEMU_SAVE_H

#include <pthread.h>
#include <stdatomic.h>

#include "qemu/driver.h"
#include "qemu/private_socket.h"
#include "qemu/watchdog.h"
#include "qmp/qmp.h"

struct gw__save {
	/* What is asked for. */
	gw_qemu *driver;
	const char *address, *path, *listen;      /* listen: a URI when the monitor cannot pass descriptors, else NULL */
	bool at_start, postcopy, resume, abandon; /* as far as this guest and QEMU allow; the last two: another call left a part of it */
	bool direct;                              /* QEMU writes the image itself */
	struct gw_qemu_save_opts o;

	/* The source. */
	struct gw__qmp *qmp;
	struct gw__qmp_settings *before;
	json_t *identity;   /* of the QEMU that the save was begun with */
	struct gw__was was; /* the guard has a copy: gw__save_note_was */
	char state[48];     /* its run state; what it is to have again, once it was told so */
	bool switched, cannot_switch;
	bool refused;         /* by what it is, before anything was touched */
	bool kept;            /* it is told "failed", by which it keeps that state */
	pthread_mutex_t talk; /* who holds it may speak with the monitor, and look at what is said here of the source */
	bool settled;         /* the end is the worker's to follow */
	struct gw__watchdog guard;
	struct gw__error error; /* of the monitor */
	bool monitor_failed;    /* the save failed there, as `error` says, which explains more than the channel's story; under `talk` */
	uint64_t stopped_us, resumed_us; /* by QEMU's own clock; 0: not seen */

	/* Of a direct save. */
	bool try_stream;       /* it failed where a stream may not */
	json_int_t thread_id;  /* of QEMU, in /proc; 0: not seen there */
	int monitor_lost_ms;   /* since when */
	uint64_t user_seen_ms; /* when it was last asked what its user did; 0: never */

	/* The worker's result. */
	pthread_t thread;
	int source_fd, our_fd;         /* the pair; -1 when not used */
	struct gw__private_socket own; /* that QEMU connects to, where it is not handed one */
	char listening[4096];
	_Atomic bool started, done;
	_Atomic bool paused; /* it waits for the source to come back */
	char *note;          /* for who goes on in our place */
	int result;
	struct gw_receive_result receipt;
	struct gw_qemu_save_result out;
};

/* Connect, look whether a save is possible now, remember what must be put back. 0 or a sentence in s->why. */
int gw__save_open(struct gw__save *s);
/* Tell QEMU to send (worker, once the target was checked). */
int gw__save_start(struct gw__save *s);
/* Which way it goes, for the reason that is logged; -EOPNOTSUPP where that was not the wish. */
int gw__save_choose_way(struct gw__save *s);
/* save_direct.c: QEMU writes the image. It is there then, and s->result says so, too. */
int gw__save_direct(struct gw__save *s);
/* After a failure: it is looked at as in the beginning. */
int gw__save_look_again(struct gw__save *s);
/* While the worker receives: follow the migration; stop a guest that outruns it. */
void gw__save_follow(struct gw__save *s);
/* The data is here (worker): is it that QEMU's, and what is it to be told? Then: does it say that it is over? */
int gw__save_on_whole(void *ctx, const struct gw_whole *whole);
int gw__save_on_source_notified(void *ctx);
/* All is over: let the guest run on, put the settings back. */
int gw__save_finish(struct gw__save *s);
void gw__save_close(struct gw__save *s);
/* What was done at the monitor ended so, and finally: a failure is the save's. Returns r. */
int gw__save_note_monitor(struct gw__save *s, int r);
/* The monitor went away and perhaps comes back, and what had failed is forgotten; see gw__qmp_open_again. */
int gw__save_reconnect(struct gw__save *s, int patience_ms);

/* What those who follow it share. */
bool gw__save_is_lost(int r);
void gw__save_note_was(struct gw__save *s, struct gw__was was);
void gw__save_note_user(struct gw__save *s, const struct gw__qmp_migration *m);
void gw__save_stop_for_the_rest(struct gw__save *s);
int gw__save_say_ended(struct gw__save *s, const struct gw__qmp_migration *m); /* a negative errno with a sentence */
int gw__save_let_stand(struct gw__save *s);                                    /* or run, as it is to be */
/* A guest whose stream ends in this run state has stopped on an error, or has none: 0, or a negative errno with a sentence. */
int gw__save_check_run_state(struct gw__save *s, const char *name);

/* It ends so: the outcome, and the driver's sentence and code. Returns the code. */
int gw__save_end(struct gw__save *s, enum gw_qemu_save_outcome outcome, int code, const char *fmt, ...) GW__PRINTF(4, 5);
/* save_failed.c: what went wrong, and how everything stands now. A negative errno. */
int gw__save_failed(struct gw__save *s);

/* save_postcopy.c */
int gw__save_make_note(struct gw__save *s);
int gw__save_read_note(struct gw__save *s);
int gw__save_check_source(struct gw__save *s);                         /* before anything else is said to a QEMU that is to go on */
int gw__save_on_paused(void *ctx, const char *uri, const char *error); /* worker */
void gw__save_follow_postcopy(struct gw__save *s, const struct gw__qmp_migration *m);
/* How it stands after a failure, where the guest may stand still in QEMU with or without a part of it here. */
enum gw__save_rest { GW__SAVE_NOTHING_LEFT, GW__SAVE_PART_LEFT, GW__SAVE_ALL_LEFT, GW__SAVE_UNKNOWN };
/* In place of a save: 0, or a negative errno. */
int gw__save_abandon(struct gw__save *s);
enum gw__save_rest gw__save_what_is_left(struct gw__save *s);
/* QEMU runs its guest on: what was kept in case it would not is of no more use. Only what this save has made. */
void gw__save_drop_list(struct gw__save *s);

#endif
