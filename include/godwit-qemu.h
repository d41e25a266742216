/* SPDX-License-Identifier: MIT */
/*
 * libgodwit-qemu: drives a QEMU through its monitor (QMP), so that libgodwit keeps its guest or gives it one.
 *
 * The conventions of godwit.h hold here too. Besides:
 *   Driver     A gw_qemu makes one call at a time, in one thread. It borrows a job, which has the progress and the trace; the job must
 *              outlive it. gw_qemu_cancel() and gw_qemu_rate() may be called from any thread, gw_qemu_cancel() also from a signal handler.
 *   Results    0 is success, a negative errno is failure; gw_qemu_error() is the sentence. The result's `outcome` says where the guest is
 *              then, after every call; the struct of a result is not optional.
 *   Monitors   A path, unix:PATH or tcp:HOST:PORT. QEMU serves one client on each: a monitor that somebody else holds is not answered.
 *   Output     The library prints nothing. Decisions and steps go to gw_qemu_on_log().
 *   Processes  gw_qemu_save() forks a guard. If the caller dies, the guard restores QEMU's settings and lets the guest run as before.
 *              gw_qemu_serve() and a lazy gw_qemu_restore() fork a monitor broker, which keeps the monitor for a successor. Their callers
 *              need no SIGCHLD handling.
 */
#ifndef GODWIT_QEMU_H
#define GODWIT_QEMU_H

#include <godwit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- The driver ------------------------------------------------------------------------------------------------- */

typedef struct gw_qemu gw_qemu;

GW_API int gw_qemu_new(gw_job *job, gw_qemu **qemu); /* borrows `job`. -ENOMEM. Since 0.2 */
/* NULL is fine; not while a call runs. A QEMU that gw_qemu_restore() started runs on. Since 0.2 */
GW_API void gw_qemu_free(gw_qemu *qemu);

/* Why the last call failed: one sentence. "" when it did not. Valid until the next call. Since 0.2 */
GW_API const char *gw_qemu_error(const gw_qemu *qemu);

/* A possible remedy, where one is known; a program names its own options for it. */
enum gw_qemu_hint {
	GW_QEMU_HINT_NONE,
	GW_QEMU_HINT_AT_END,           /* save: not `at_start` */
	GW_QEMU_HINT_NO_POSTCOPY,      /* save: not `postcopy` */
	GW_QEMU_HINT_OTHER_WORK,       /* save, drain: gw_receive() or gw_qemu_drain() continues the existing files */
	GW_QEMU_HINT_SAVE_RESUME,      /* save_abandon: gw_qemu_save() with `resume` shows whether the image is whole */
	GW_QEMU_HINT_SERVE,            /* gw_qemu_serve() continues with this QEMU */
	GW_QEMU_HINT_SEND,             /* let the QEMU listen at an address, and use gw_send() */
	GW_QEMU_HINT_CONVERT,          /* gw_convert() makes an image of it */
	GW_QEMU_HINT_NOT_LAZY,         /* restore: another `way` than lazy */
	GW_QEMU_HINT_NOT_CLONE,        /* restore: another `way` than clone */
	GW_QEMU_HINT_NOT_RESUME_ONLY,  /* serve: not `resume_only` */
	GW_QEMU_HINT_FIXED_PORT,       /* `listen` with a port */
	GW_QEMU_HINT_NO_PREEMPT,       /* not `preempt` */
	GW_QEMU_HINT_TLS,              /* link->tls with credentials */
	GW_QEMU_HINT_NO_TLS,           /* no link->tls */
	GW_QEMU_HINT_TLS_HOSTNAME,     /* `hostname` of link->tls: the name in QEMU's certificate */
	GW_QEMU_HINT_PROTECT_NAME,     /* protect: a `name` */
	GW_QEMU_HINT_STANDBY_NAME,     /* protect: start the standby with this guest's name, and give its folder as `dir` */
	GW_QEMU_HINT_PROTECT_STOP,     /* gw_qemu_protect_stop() */
	GW_QEMU_HINT_MEMORY_ONLY,      /* protect: `memory_only`, if disks and network are taken care of */
	GW_QEMU_HINT_PRIMARY_IS_DEAD,  /* failover: `primary_is_dead`, if that is so */
	GW_QEMU_HINT_NO_OUTPUT_COMMIT, /* protect: `no_output_commit` */
	GW_QEMU_HINT_DISKS,            /* protect: `disks`, or `unprotected_disks` */
	GW_QEMU_HINT_FENCE,            /* failover: a `fence`, or `accept_split_brain` */
};
GW_API enum gw_qemu_hint gw_qemu_hint(const gw_qemu *qemu); /* of the last call. Since 0.2 */

/*
 * Makes the running call end soon with -ECANCELED, and every later one too; the job as well. The guest is left as the outcome says. `reason` is
 * the sentence for it and must live as long as the driver; NULL: "cancelled". Any thread, signal handlers. Since 0.2
 */
GW_API void gw_qemu_cancel(gw_qemu *qemu, const char *reason);

enum gw_qemu_log_level {
	GW_QEMU_LOG_WARNING, /* something did not work, and the call goes on without it */
	GW_QEMU_LOG_NOTE,    /* a note for the user */
	GW_QEMU_LOG_DETAIL,  /* decisions and steps */
};
/* One sentence, from the calling thread or, of a save, from one of the library; one at a time. NULL: none. Since 0.2 */
typedef void gw_qemu_log_fn(void *ctx, enum gw_qemu_log_level level, const char *text);
GW_API void gw_qemu_on_log(gw_qemu *qemu, gw_qemu_log_fn *fn, void *ctx);

/* Figures that only the monitor of a source has while gw_qemu_save() runs. */
struct gw_qemu_rate {
	size_t size;
	bool known;
	uint64_t remaining_bytes;   /* still to be sent, as of now */
	uint64_t dirty_bytes_per_s; /* how fast the guest writes */
};
GW_API int gw_qemu_rate(const gw_qemu *qemu, struct gw_qemu_rate *rate); /* any thread. -EINVAL: no size. Since 0.2 */

/* --- Keep a running guest ---------------------------------------------------------------------------------------- */

enum gw_qemu_save_outcome {
	GW_QEMU_SAVE_NOT_BEGUN, /* nothing was changed */
	GW_QEMU_SAVE_REFUSED,   /* the same: the request is not possible at all, with this QEMU or with its guest as it is */
	GW_QEMU_SAVE_DONE,      /* the image exists, and the guest is as requested */
	GW_QEMU_SAVE_FAILED,    /* no image was made; guest and settings are as before */
	/* The call could not restore QEMU's settings; gw_qemu_error() says why. `image_kept`: was an image made? */
	GW_QEMU_SAVE_NOT_PUT_BACK,
	GW_QEMU_SAVE_KEPT,      /* the image exists and the QEMU is as before, but a later step failed */
	GW_QEMU_SAVE_QEMU_GONE, /* no image was made, and the QEMU has gone away */
	/* After the switch to post-copy: the guest is paused in postcopy-paused. Call again with `resume`, or gw_qemu_save_abandon(). */
	GW_QEMU_SAVE_PAUSED,
	GW_QEMU_SAVE_UNKNOWN, /* after the switch, and the QEMU does not say what it waits for; PATH.partial may hold a part of the guest */
	/*
	 * A QEMU before 10.0 that lost the link after its last page never runs its guest again. Complete the image by gw_receive() with
	 * `resume` and `without_source`, then end that QEMU.
	 */
	GW_QEMU_SAVE_HUNG,
	GW_QEMU_SAVE_ABANDONED, /* gw_qemu_save_abandon: the guest is in its QEMU as before the save; nothing is left of it here */
	GW_QEMU_SAVE_ABANDONED_LEFT_OVER, /* the same, but what had come of it is still here */
	GW_QEMU_SAVE_ABANDONED_DOUBLE,    /* the same, and what had come of it is a whole guest: there are two of it now */
	GW_QEMU_SAVE_NOT_ABANDONED,       /* the guest is paused in its QEMU as before */
};

/* The report of a save's watchdog after its caller's death, in the watchdog's own process. */
struct gw_qemu_guard_report {
	size_t size;
	enum gw_qemu_save_outcome outcome; /* FAILED: the QEMU is as before; PAUSED, NOT_PUT_BACK or HUNG */
	const char *monitor, *path;
	const char *error; /* "": none */
	struct gw_outcome guest;
};

enum gw_qemu_save_way {
	GW_QEMU_SAVE_STREAM, /* QEMU sends its guest, and the library writes */
	GW_QEMU_SAVE_AUTO,   /* direct where that is possible and leaves the guest as a stream does, else a stream */
	GW_QEMU_SAVE_DIRECT, /* the QEMU writes the image itself: 9.0 or later, on this host. -EOPNOTSUPP: not possible */
};

struct gw_qemu_save_opts {
	size_t size;
	uint64_t image_offset;           /* the image begins there; an existing file keeps its content before it */
	uint64_t memory_limit;           /* bytes of device state held in memory. 0: 32 MiB */
	uint64_t max_bandwidth;          /* bytes/s that QEMU may send. 0: no limit */
	uint64_t page_bytes;             /* of the guest's target. 0: the QEMU is asked */
	int idle_timeout_ms;             /* silence that counts as a failure. 0: 30 s; -1: none */
	bool stop;                       /* leave the guest stopped */
	bool at_start;                   /* the image is of the moment at which the save begins (background snapshot), not of its end */
	bool postcopy;                   /* stop the guest after one pass over its memory, so that the save ends however much it writes */
	bool resume;                     /* with `postcopy`: continue an earlier call, whose QEMU is in postcopy-paused */
	bool direct_io;                  /* write memory past the page cache */
	uint32_t channels;               /* multifd channels. 0: none */
	enum gw_compression compression; /* with channels */
	int level;                       /* zlib 1..9, zstd 1..20; 0: 1 */
	const char *listen;              /* where QEMU is to connect to. NULL: it is handed a socket, or connects to a private one */
	const struct gw_tls_opts *tls;   /* NULL: plain. QEMU uses the credentials that its own parameter tls-creds names */
	/*
	 * Called in the guard's process if this process dies in the middle, after the guard has dealt with the QEMU. The return value is
	 * the guard's exit status. The guard is a fork of the caller's process: use nothing that depends on other threads. NULL: nothing is
	 * reported. `ctx` is for this.
	 */
	int (*on_guard_end)(void *ctx, const struct gw_qemu_guard_report *report);
	void *ctx;
	enum gw_qemu_save_way way; /* not with `resume` */
};

struct gw_qemu_save_result {
	size_t size;
	enum gw_qemu_save_outcome outcome;
	bool image_kept;    /* the image has its name and is whole */
	bool was_running;   /* the guest, as far as it and its user are concerned */
	bool running;       /* the guest runs now */
	bool stopped;       /* it does not, because its QEMU has given it away (postmigrate) */
	bool state_kept;    /* it did not run, and its QEMU put its run state back */
	bool recoverable;   /* PAUSED: a part of the guest is in PATH.partial, which lacks missing_pages */
	bool resumed;       /* UNKNOWN: it was before this call that the guest was handed over */
	bool may_refuse;    /* FAILED: a QEMU as old as this may refuse to migrate after a background snapshot that failed */
	char run_state[48]; /* in the words of query-status */
	uint64_t ram_bytes, stream_bytes, pages, zero_pages, missing_pages;
	uint64_t paused_us; /* how long the guest was paused, by QEMU's own clock. 0: not known */
	uint32_t rounds;
	enum gw_way way;         /* DIRECT or STREAM */
	struct gw_outcome guest; /* where it is: of the table of godwit.h */
};

/*
 * Keep the guest of the QEMU at `monitor` in the mapped-ram image `path` while the guest runs. The image is made as by gw_receive().
 * Errors: -EBUSY, -EOPNOTSUPP: refused. -ENOLINK: hung. -ECANCELED. -ETIMEDOUT. -ECONNRESET: the monitor or the QEMU is gone. -EREMOTEIO:
 * QEMU's own error. Otherwise as of gw_receive(). Since 0.2
 */
GW_API int gw_qemu_save(gw_qemu *qemu, const char *monitor, const char *path, const struct gw_qemu_save_opts *o,
	struct gw_qemu_save_result *result);
/* Deletes the files of an unfinished save by post-copy, and lets its QEMU run the guest on. Errors as above. Since 0.2 */
GW_API int gw_qemu_save_abandon(gw_qemu *qemu, const char *monitor, const char *path, struct gw_qemu_save_result *result);

/* --- Bring a guest back ------------------------------------------------------------------------------------------ */

/* Post-copy from an image: how its page server and the QEMU find each other. */
struct gw_qemu_postcopy_opts {
	size_t size;
	const struct gw_link_opts *link; /* NULL: defaults. `max_bandwidth` is of what is pushed */
	int answer_timeout_ms;           /* for each answer of the QEMU. 0: 60 s; -1: no limit */
	const char *listen;      /* where the QEMU is to listen: tcp:HOST:PORT, unix:PATH, vsock:CID:PORT. NULL: a private unix socket */
	const char *connect;     /* how to get there, where that is another address */
	bool preempt;            /* requested pages go over a second connection */
	const char *working_set; /* as in gw_serve_opts */
};

enum gw_qemu_restore_way {
	GW_QEMU_RESTORE_AUTO,   /* direct or stream, whichever is possible and faster */
	GW_QEMU_RESTORE_DIRECT, /* the QEMU reads the image itself */
	GW_QEMU_RESTORE_STREAM, /* it is sent the image */
	GW_QEMU_RESTORE_LAZY,   /* it runs the guest immediately, and its memory follows (post-copy) */
	/*
	 * It maps the image as its memory, copy-on-write, and receives the rest. Any number of guests can run from one image, which stays
	 * as it is. The library changes a `command` to do so, and logs the change as a detail. A QEMU at `monitor` must map the image
	 * already. -EOPNOTSUPP: not possible; gw_qemu_error() says why.
	 */
	GW_QEMU_RESTORE_CLONE,
};

struct gw_qemu_restore_opts {
	size_t size;
	enum gw_qemu_restore_way way;
	const char *monitor;  /* of a QEMU that was started with -incoming defer; or */
	char *const *command; /* how to start one, ends with NULL; -incoming and a monitor are added */
	uint64_t image_offset, memory_limit;
	uint64_t max_bandwidth; /* bytes/s. 0: no limit */
	int idle_timeout_ms;    /* 0: 30 s; -1: none */
	const int *owner_fd;    /* a lock on who runs the guest, which its QEMU is to hold. NULL: none */
	uint32_t channels;      /* multifd threads with which the QEMU reads the image. 0: none */
	const struct gw_qemu_postcopy_opts
		*postcopy; /* with GW_QEMU_RESTORE_LAZY. Its link has the bandwidth and timeouts then. NULL: defaults */
};

enum gw_qemu_guest_outcome {
	GW_QEMU_GUEST_NOT_BEGUN,       /* nothing was started, sent or asked for */
	GW_QEMU_GUEST_REFUSED,         /* the same: it does not fit, or the request is not possible with this QEMU */
	GW_QEMU_GUEST_NOT_HERE,        /* the guest is not in this QEMU; the image is as it was */
	GW_QEMU_GUEST_DONE,            /* it has every page. A later error, if any, is in gw_qemu_error() */
	GW_QEMU_GUEST_ENDED,           /* the QEMU was shut down before it had every page, by its guest or user */
	GW_QEMU_GUEST_WAITS,           /* it runs until it touches a page it lacks: gw_qemu_serve() brings the rest */
	GW_QEMU_GUEST_UNKNOWN,         /* it may be in this QEMU: gw_qemu_serve() finds out */
	GW_QEMU_GUEST_IN_PRIMARY,      /* gw_qemu_failover: its primary runs it, or nothing proves that it does not. Nothing was started */
	GW_QEMU_GUEST_PRIMARY_UNKNOWN, /* the same, and it could not be found out */
	GW_QEMU_GUEST_SILENT, /* the QEMU's monitor does not answer, perhaps because its guest waits for a page. Nothing was sent */
};

struct gw_qemu_restore_result {
	size_t size;
	enum gw_qemu_guest_outcome outcome;
	enum gw_way way; /* that was taken; GW_WAY_REFUSED: none, or lazy */
	bool running;
	bool qemu_ended;    /* the QEMU that was started for this guest was ended again */
	bool started;       /* there is a QEMU that was started: gw_qemu_wait() */
	char run_state[48]; /* in the words of query-status */
	char monitor[32];   /* "pid:N": the monitor argument of gw_qemu_serve() for a QEMU that was started; "" */
	const char *path;   /* the image; valid until the next call with the driver */
	uint64_t ram_bytes, elapsed_ns;
	struct gw_outcome guest;
};

/*
 * Give the guest of the image or stream file `path` to a QEMU. Errors: -EBUSY: QEMU waits for no guest. -EINVAL: the guest does not fit.
 * -EREMOTEIO: QEMU could not load it. -ECHILD: QEMU ended. -ECANCELED. -ETIMEDOUT. Otherwise as of gw_send() and gw_serve(). With
 * `owner_fd`, the `monitor` must be a unix socket that QEMU itself opened (else -EOPNOTSUPP). Since 0.2
 */
GW_API int gw_qemu_restore(gw_qemu *qemu, const char *path, const struct gw_qemu_restore_opts *o, struct gw_qemu_restore_result *result);
/*
 * Waits for the end of the QEMU that gw_qemu_restore() started. Returns 0, and *status as waitpid() gives it. After gw_qemu_cancel(), before or
 * during the wait, that QEMU gets SIGTERM. -ECHILD: there is none, or it has made itself a daemon. Since 0.2
 */
GW_API int gw_qemu_wait(gw_qemu *qemu, int *status);

struct gw_qemu_failover_opts {
	size_t size;
	const struct gw_qemu_restore_opts *restore; /* as for gw_qemu_restore(); not NULL */
	bool primary_is_dead; /* the caller has made sure that the primary does not run the guest any more, where no lock proves it */
	const uint64_t *
		epoch; /* an epoch that is kept (gw_standby_history), which becomes guest.img@EPOCH and is run with its disks. NULL: the last one */
	const char *
		lease; /* the lease of its protection; NULL: none. The primary's term is waited out, and then its lease is the new QEMU's */
	const char *
		fence; /* "exec:CMD", run with the lease's generation once the caller has the lease: 0 means that the primary cannot run any more. NULL: none */
	bool accept_split_brain; /* time alone may prove that a guest on another host has ended. A host that hangs entirely is not fenced, unless it has a `watchdog` */
	const char *storage_daemon; /* with `epoch` and disks: the qemu-storage-daemon that makes their files. NULL: as PATH has it */
};

/*
 * Let the guest that gw_standby() protects in `dir` (DIR/NAME) go on from its last checkpoint. The call proves that its primary is dead,
 * ends the protection and restores the image. Errors: -EBUSY: its primary runs the guest. -EPERM, -EACCES: nothing proves that its primary
 * does not. -ENODATA: there is no checkpoint. In doubt the call returns -EINPROGRESS: it is not known whether the caller has the lease, or
 * whether the fence has worked. Otherwise as gw_qemu_restore(). Since 0.2
 */
GW_API int gw_qemu_failover(gw_qemu *qemu, const char *dir, const struct gw_qemu_failover_opts *o, struct gw_qemu_restore_result *result);

struct gw_qemu_serve_opts {
	size_t size;
	uint64_t image_offset, memory_limit;
	bool resume_only;                             /* only continue a guest that waits for its pages */
	const struct gw_qemu_postcopy_opts *postcopy; /* NULL: defaults */
};

struct gw_qemu_serve_result {
	size_t size;
	enum gw_qemu_guest_outcome outcome;
	bool refused;          /* WAITS: the request is not possible with this QEMU; its guest continues to wait */
	bool image_unreadable; /* NOT_BEGUN, WAITS: nothing else was wrong */
	bool preempt;
	uint64_t requests, requested_pages, pushed_pages, zero_pages, already_there, working_set_pages;
	uint64_t latency_p50_us, latency_p99_us, latency_max_us; /* from a request to its page on the link */
	struct gw_outcome guest;
};

/*
 * Be the page server of the image `path` for the QEMU at `monitor`. If the QEMU waits for a guest, the call gives it the guest, else the
 * pages it lacks. This process may die at any moment, and any process may call again. Errors as of gw_serve() and gw_qemu_restore().
 * Since 0.2
 */
GW_API int gw_qemu_serve(gw_qemu *qemu, const char *monitor, const char *path, const struct gw_qemu_serve_opts *o,
	struct gw_qemu_serve_result *result);

/* Monitors that are kept for page servers by processes of this user. */
struct gw_qemu_broker {
	size_t size;
	bool answers;               /* else only `pid` is known, or 0 */
	int32_t pid, server_pid;    /* server_pid: of the page server that is attached, or 0 */
	const char *monitor, *path; /* the arguments of gw_qemu_serve() */
};
typedef void gw_qemu_broker_fn(void *ctx, const struct gw_qemu_broker *broker);
GW_API void gw_qemu_brokers(gw_qemu_broker_fn *fn, void *ctx); /* any thread. Since 0.2 */

/* --- Protect a running guest -------------------------------------------------------------------------------------- */

enum gw_qemu_protect_event_kind {
	GW_QEMU_PROTECT_CONNECTING,  /* the first copy of the guest goes to the standby */
	GW_QEMU_PROTECT_PROTECTED,   /* the copy is complete; checkpoints follow */
	GW_QEMU_PROTECT_CHECKPOINT,  /* one more: `pause_us` */
	GW_QEMU_PROTECT_UNPROTECTED, /* `reason`; the guest runs on. `pause_us`: its last pause */
	GW_QEMU_PROTECT_NOT_YET,     /* an attempt failed, `reason`; the next one follows */
	GW_QEMU_PROTECT_NOTE,        /* `reason`: something its user should know */
};
struct gw_qemu_protect_event {
	size_t size;
	enum gw_qemu_protect_event_kind kind;
	const char *name;       /* of the guest; "": it has none */
	const char *reason;     /* NULL: none */
	enum gw_qemu_hint hint; /* about the reason */
	uint64_t checkpoints, pause_us;
	uint64_t longest_us; /* of all pauses so far */
};

struct gw_qemu_protect_opts {
	size_t size;
	const char *name; /* of the guest at the standby. NULL: QEMU's -name */
	const char *
		dir; /* the standby's folder, if it is on this host: DIR/NAME/owner.lock then proves to gw_qemu_failover() whether this QEMU lives */
	/*
	 * The URL of a lease (docs/LEASE.md). Only the owner of the lease may run the guest. The guest is killed before another owner may
	 * have the lease. From the first checkpoint on, the lease is renewed. While the guest is not protected, the lease is held without a
	 * limit. NULL: no lease. With a lease or `dir` the monitor must be a unix socket that QEMU itself opened, not one of a proxy or
	 * launcher (-EOPNOTSUPP).
	 */
	const char *lease;
	/*
	 * With a lease, the path of a hardware watchdog (/dev/watchdogN) that no other program uses. It resets the host if the guest is not killed
	 * in time. A failover on another host then needs neither `fence` nor `accept_split_brain`. While the lease has no limit, the watchdog is
	 * stopped. NULL: none. -EOPNOTSUPP: the watchdog cannot be stopped, or takes no time-out. -EBUSY: another program uses it.
	 */
	const char *watchdog;
	uint32_t lease_term_ms;          /* for how long a beat holds. 0: 10000; at least 3000, or 5000 with a watchdog */
	int interval_ms;                 /* from one checkpoint to the next. 0: 500 */
	int timeout_ms;                  /* the longest pause of the guest before it is released. 0: 2000 */
	int silence_ms;                  /* how long the standby may take no checkpoint while the guest runs. 0: 30 s; -1: no limit */
	uint64_t max_bandwidth;          /* bytes/s of the first copy. 0: no limit */
	uint32_t channels;               /* multifd channels. 0: none */
	enum gw_compression compression; /* with channels */
	int level;                       /* 0: 1 */
	bool memory_only;                /* the guest's disks and network are not protected with it, and that may be */
	bool no_output_commit; /* output leaves immediately: after a failover others may have received what the guest has yet to send */
	const char *
		disks; /* unix:PATH or tcp:HOST:PORT of the standby's gw_qemu_disks_new(), which then has the guest's disks as well. NULL: none */
	const char *const *unprotected_disks; /* writable ones that are left out, by the id of their -drive or their node's name */
	uint32_t unprotected_n;
	/*
	 * Called from the calling thread, which does not guard the guest during the callback. Return within three quarters of `timeout_ms`,
	 * or the second process kills this process. NULL: none.
	 */
	void (*on_event)(void *ctx, const struct gw_qemu_protect_event *event);
	/*
	 * Called in the second process if this process dies in the middle, after its attempt to release the guest. `result` is 0, or a
	 * negative errno and `error` says why the release failed (-ECONNRESET: its QEMU has gone too). With 0, `error` is the reason if the
	 * second process killed this process, otherwise "". The second process is a fork of the caller's process. NULL: none.
	 */
	void (*on_release)(void *ctx, int result, const char *error);
	void *ctx;
};

enum gw_qemu_protect_outcome {
	GW_QEMU_PROTECT_NOT_BEGUN, /* nothing was changed */
	GW_QEMU_PROTECT_REFUSED,   /* the same: it is not possible with this QEMU, or with its guest as it is */
	GW_QEMU_PROTECT_NEVER,     /* the first attempt failed; the guest runs on, and its QEMU is as before */
	/* The user may have migrated the guest elsewhere while it was not protected. Then `guest` of the next two has GW_PLACE_DESTINATION_RUNS. */
	GW_QEMU_PROTECT_STOPPED,   /* by gw_qemu_cancel(), or by another process: the guest runs on, and its QEMU is as before */
	GW_QEMU_PROTECT_SHUT_DOWN, /* its QEMU was shut down */
	GW_QEMU_PROTECT_LOST,      /* its QEMU has ended, and the guest with it: gw_qemu_failover() */
	/* it could not be released from its standby, QEMU's settings could not be restored, or its monitor is lost and QEMU may live */
	GW_QEMU_PROTECT_IN_DOUBT,
};
struct gw_qemu_protect_result {
	size_t size;
	enum gw_qemu_protect_outcome outcome;
	char name[256]; /* of the guest; "": it has none */
	struct gw_outcome guest;
};

/*
 * Make the QEMU at `monitor` a COLO primary of the standby at `uri`, guard it, and protect it again whenever protection was lost. A guest
 * that is paused too long is released, and runs on. The call ends by gw_qemu_cancel(), which is success, or when the QEMU ends. No other
 * program can use the monitor meanwhile. -EOPNOTSUPP, -EBUSY: refused. -EREMOTEIO: never protected. -ECONNRESET: lost. Since 0.2
 */
GW_API int gw_qemu_protect(gw_qemu *qemu, const char *monitor, const char *uri, const struct gw_qemu_protect_opts *o,
	struct gw_qemu_protect_result *result);

enum gw_qemu_protection {
	GW_QEMU_WAS_PROTECTED,   /* by another process, which has ended that */
	GW_QEMU_WAS_UNPROTECTED, /* nothing was to be done */
	GW_QEMU_WAS_LEFT,        /* by a process that was killed; the guest is released, and the QEMU's parameters were left as they are */
};
/*
 * End the protection of the QEMU at `monitor` by another process. *was: how it was. -ETIMEDOUT, -EBUSY: it is not known whether it has ended. Since 0.2
 */
GW_API int gw_qemu_protect_stop(gw_qemu *qemu, const char *monitor, enum gw_qemu_protection *was);

/* --- The disks of a standby --------------------------------------------------------------------------------------- */

typedef struct gw_qemu_disks gw_qemu_disks;
#define GW_QEMU_DISKS_HISTORY_MAX 32

/*
 * Keeps the disks of the guest that a gw_standby() with a `name` protects. gw_qemu_protect() asks for the disks at `address` (unix:PATH,
 * tcp:HOST:PORT). A qemu-storage-daemon (`program`; NULL: as PATH has it) serves them over NBD at unix:PATH.nbd or the next port. Every
 * process that may connect there may write to the disks. `folder` is DIR/NAME of that standby, whose callbacks are passed on to the calls
 * below. `durable`: as that standby is. The disks of an epoch are then synced before its memory. If a durable standby was killed, the call
 * first recovers the disks that it left. `history`: keep the disks of that many epochs before the last one, at most
 * GW_QEMU_DISKS_HISTORY_MAX, for a failover to one of them. Since 0.2
 */
GW_API int gw_qemu_disks_new(gw_qemu *qemu, const char *address, const char *folder, const char *program, bool durable, uint32_t history,
	gw_qemu_disks **disks);
GW_API void gw_qemu_disks_free(gw_qemu_disks *disks); /* when the standby has returned. NULL is fine. Since 0.2 */
GW_API void gw_qemu_disks_event(gw_qemu_disks *disks, const struct gw_standby_event *event);  /* on_event. Since 0.2 */
GW_API int gw_qemu_disks_boundary(gw_qemu_disks *disks, uint64_t epoch, char *why, size_t n); /* on_boundary. Since 0.2 */
GW_API void gw_qemu_disks_end(gw_qemu_disks *disks, uint64_t epoch, bool kept);               /* on_kept. Since 0.2 */

/* --- A broken post-copy ------------------------------------------------------------------------------------------ */

struct gw_qemu_drain_opts {
	size_t size;
	const struct gw_link_opts *link; /* NULL: defaults */
	const char *listen;              /* NULL: a private unix socket */
};

enum gw_qemu_drain_outcome {
	GW_QEMU_DRAIN_NOT_BEGUN, /* nothing was changed */
	GW_QEMU_DRAIN_REFUSED,   /* the same: this QEMU is no source that can be drained, or the image holds other work */
	GW_QEMU_DRAIN_DONE,      /* all is in the image, synced and read back: it is safe to end the source */
	GW_QEMU_DRAIN_AGAIN,     /* the source still has all its memory: call again */
	GW_QEMU_DRAIN_NOT_SAFE, /* the source has sent all and will not again, but the image is not whole. Its process has the memory: do not end it */
	GW_QEMU_DRAIN_NOT_READ, /* the image exists, but cannot be read back: do not end the source */
	GW_QEMU_DRAIN_SILENT,   /* the image exists, but the source does not say that it has sent all: do not end it */
	/*
	 * The source does not answer at its monitor any more. If its process exists, do not end it, and call again. If it is gone, what came is in
	 * PATH.partial, and the rest is lost. Since 0.2
	 */
	GW_QEMU_DRAIN_QEMU_GONE,
};

struct gw_qemu_drain_result {
	size_t size;
	enum gw_qemu_drain_outcome outcome;
	uint64_t ram_bytes, page_bytes_stored, zero_pages;
	uint32_t breaks; /* how often the link broke */
	struct gw_outcome guest;
};

/*
 * Take the memory that the source at `monitor`, in postcopy-paused, still has into the image `path`, for gw_qemu_serve() to complete its
 * destination with. The source never runs its guest again. Errors as of gw_drain(). Since 0.2
 */
GW_API int gw_qemu_drain(gw_qemu *qemu, const char *monitor, const char *path, const struct gw_qemu_drain_opts *o,
	struct gw_qemu_drain_result *result);

/* --- Questions --------------------------------------------------------------------------------------------------- */

/*
 * gw_plan_restore() for the QEMU at `monitor`, which is asked what it is; `remote`: it cannot open this process's files. -EBUSY: it waits for no guest. Since 0.2
 */
GW_API int gw_qemu_plan_restore(gw_qemu *qemu, const char *monitor, const gw_info *info, bool remote, struct gw_restore_plan *plan);

/* Whether a QEMU may handle faults of its guest, which post-copy into it needs. */
enum gw_qemu_userfaultfd {
	GW_QEMU_USERFAULTFD_UNKNOWN, /* its monitor does not show which process it is */
	GW_QEMU_USERFAULTFD_ALLOWED,
	GW_QEMU_USERFAULTFD_FORBIDDEN,
};
/* *uid: its user, unless UNKNOWN. Since 0.2 */
GW_API int gw_qemu_may_userfaultfd(gw_qemu *qemu, const char *monitor, enum gw_qemu_userfaultfd *may, uint32_t *uid);

#ifdef __cplusplus
}
#endif

#endif
