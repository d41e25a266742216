/* SPDX-License-Identifier: MIT */
/*
 * libgodwit: moves, keeps and protects running virtual machines, speaking QEMU's migration protocol on either end.
 *
 * Conventions
 *   Results    0 is success, a negative errno is failure; the sentence that explains it is gw_job_error(). A function
 *              that can give a documented positive answer says so. -EOPNOTSUPP before anything was moved: the plan refuses it.
 *   Threads    A job belongs to one thread at a time. gw_job_cancel() and gw_job_progress() may be called from any
 *              thread, gw_job_cancel() also from a signal handler. Different jobs are independent.
 *   Busy       A job does one call at a time: another one, also out of a callback, is -EBUSY, and nothing else happens. A call blocks, unless
 *              gw_job_start() came before it.
 *   Ownership  Strings and structs passed in are borrowed for the call. The result of gw_..._new or gw_inspect is freed
 *              with its gw_..._free; strings inside live as long as it does.
 *   Lists      are read by index, from 0. Past the end the answer is NULL instead of a string, and -ERANGE instead of a struct.
 *   Structs    Option structs start with their size, set it with GW_INIT: `struct gw_send_opts o = GW_INIT(o);`. Every other field may stay
 *              zero, which means the default. If the size was not set, the call returns -EINVAL. If a field is set that this library does
 *              not know yet, it returns -E2BIG. Nothing was done then. Structs of results get their size the same way.
 *   Optional   An option that is 0, false or NULL was not given. Where 0 could be meant, the option is a pointer to the value. In results a number
 *              or string that is not known is 0 or NULL. Enums are checked: a value that the library does not know is -EINVAL.
 *   Arrays     A count and a pointer, `blocks` and `block`. Each element starts with its size, all with the same. Elements that the library
 *              gives to a callback can be larger than those this header knows: GW_AT(whole->block, i).
 *   Output     The library never prints, never exits and installs no signal handler. It needs no SIGPIPE to be ignored.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GW_API __attribute__((visibility("default")))
#define GW_INIT(o)                                                                                                                         \
	{                                                                                                                                  \
		.size = sizeof(o)                                                                                                          \
	}

/* The version of this header, for #if. gw_version_check asks for the version of the library at run time. */
#define GW_VERSION_MAJOR                       0
#define GW_VERSION_MINOR                       2
#define GW_VERSION_PATCH                       0
#define GW_VERSION_NUMBER(major, minor, patch) ((major)*1000000 + (minor)*1000 + (patch))
#define GW_VERSION_AT_LEAST(major, minor, patch)                                                                                           \
	(GW_VERSION_NUMBER(GW_VERSION_MAJOR, GW_VERSION_MINOR, GW_VERSION_PATCH) >= GW_VERSION_NUMBER(major, minor, patch))

/* A pointer to element i of an array from the library. */
#define GW_AT(array, i) ((__typeof__(array))(const void *)((const char *)(array) + (size_t)(i) * (array)->size))

GW_API const char *gw_version(void); /* of the library in use: "0.2.0". Any thread. Since 0.1 */
/*
 * Can the library in use serve a program made with that version of this header? 0; -EOPNOTSUPP: it is older, or of another major version.
 * Usually gw_version_check(GW_VERSION_MAJOR, GW_VERSION_MINOR, GW_VERSION_PATCH). Any thread. Since 0.2
 */
GW_API int gw_version_check(unsigned major, unsigned minor, unsigned patch);

/* --- Jobs ------------------------------------------------------------------------------------------------------ */

/* One piece of work at a time, with its error, progress and cancellation. May be used for one call after another. */
typedef struct gw_job gw_job;

GW_API int gw_job_new(gw_job **job); /* -ENOMEM, -EMFILE. Since 0.1 */
/* NULL is fine. A started call is cancelled, and this function waits for its end; while a call blocks, nothing is freed. Since 0.1 */
GW_API void gw_job_free(gw_job *job);

/* Why the last call failed: one sentence, what, where, expected, got. "" when it did not. Valid until the next call. */
GW_API const char *gw_job_error(const gw_job *job);

/* Unusual but legal content that the last call read; a sentence each. NULL after the last one. Valid until the next call. Since 0.1 */
GW_API const char *gw_job_warning(const gw_job *job, uint32_t i);

/*
 * The page size of the guest's target, for all calls that follow. Needed if a stream has pages of another size than 4 KiB and does not
 * state it. A description at the end of a file states it too. A stream that states another size is -EPROTO. 0: not known. -EINVAL: not a
 * power of two from 1024 to 1 MiB. Since 0.1
 */
GW_API int gw_job_page_size(gw_job *job, uint64_t bytes);

/*
 * The page size until a stream states its own, else as gw_job_page_size. Some targets state theirs only if it is not the least. Since 0.2
 */
GW_API int gw_job_usual_page_size(gw_job *job, uint64_t bytes);

/* Makes the running call end soon with -ECANCELED, and every later one too, until gw_job_reset. Any thread, signal handlers. Since 0.1 */
GW_API void gw_job_cancel(gw_job *job);
/* As it was when it was new, but for page size and callbacks: not cancelled, no error, not started. -EBUSY: a call runs. Since 0.2 */
GW_API int gw_job_reset(gw_job *job);

enum gw_phase {
	GW_PHASE_WAITING, /* for a peer */
	GW_PHASE_RAM,
	GW_PHASE_DEVICES, /* the guest is stopped, if it was running */
	GW_PHASE_SYNC,    /* making it safe: writing to the disk, or waiting for the destination */
	GW_PHASE_DONE,
};

/* The words of query-migrate. Since 0.2 */
enum gw_migration_state {
	GW_MIGRATION_NONE, /* nothing was begun */
	GW_MIGRATION_SETUP,
	GW_MIGRATION_ACTIVE,
	GW_MIGRATION_POSTCOPY_DEVICE,
	GW_MIGRATION_POSTCOPY_ACTIVE,
	GW_MIGRATION_POSTCOPY_PAUSED,
	GW_MIGRATION_POSTCOPY_RECOVER,
	GW_MIGRATION_COMPLETED,
	GW_MIGRATION_FAILED,
};
GW_API const char *gw_migration_state_name(uint32_t i); /* "postcopy-paused". NULL past the end. Any thread. Since 0.2 */

/* The words of query-status. */
enum gw_run_state {
	GW_RUN_STATE_UNKNOWN, /* not reported, or a state that this library does not know */
	GW_RUN_STATE_RUNNING,
	GW_RUN_STATE_PAUSED,
	GW_RUN_STATE_PRELAUNCH,
	GW_RUN_STATE_SHUTDOWN,
	GW_RUN_STATE_GUEST_PANICKED,
	GW_RUN_STATE_WATCHDOG,
	GW_RUN_STATE_IO_ERROR,
	GW_RUN_STATE_SUSPENDED,
	GW_RUN_STATE_INMIGRATE,
	GW_RUN_STATE_DEBUG,
	GW_RUN_STATE_INTERNAL_ERROR,
	GW_RUN_STATE_PRECONFIG,
	GW_RUN_STATE_POSTMIGRATE,
	GW_RUN_STATE_FINISH_MIGRATE,
	GW_RUN_STATE_SAVE_VM,
	GW_RUN_STATE_RESTORE_VM,
	GW_RUN_STATE_COLO,
};
GW_API const char *gw_run_state_name(uint32_t i);             /* "guest-panicked". NULL past the end. Any thread. Since 0.2 */
GW_API enum gw_run_state gw_run_state_find(const char *name); /* NULL is unknown. Any thread. Since 0.2 */

struct gw_progress {
	size_t size;
	enum gw_phase phase;
	uint64_t ram_bytes;   /* of the guest; 0 until known */
	uint64_t moved_bytes; /* over the link or from the file so far */
	uint64_t pages, zero_pages;
	uint32_t rounds; /* iterations the source has finished */
};
GW_API int gw_job_progress(const gw_job *job, struct gw_progress *p); /* any thread. -EINVAL: no size. Since 0.1 */

/* Called from the working thread about ten times a second and at every change of phase. NULL: none. -EBUSY: a call runs. Since 0.1 */
typedef void gw_progress_fn(void *ctx, const struct gw_progress *p);
GW_API int gw_job_on_progress(gw_job *job, gw_progress_fn *fn, void *ctx);

/* A line for each message and change of state, from the working thread; for people who look for a fault. -EBUSY: a call runs. Since 0.1 */
typedef void gw_trace_fn(void *ctx, const char *name, const char *text);
GW_API int gw_job_on_trace(gw_job *job, gw_trace_fn *fn, void *ctx);

/* --- Where the guest is ----------------------------------------------------------------------------------------- */

enum gw_place {
	GW_PLACE_SOURCE_RUNS,       /* its source has it, as before */
	GW_PLACE_SOURCE_PAUSED,     /* its source alone has it, and may stay paused */
	GW_PLACE_DESTINATION_RUNS,  /* with all of its memory */
	GW_PLACE_DESTINATION_WAITS, /* or will, at the first page it lacks; the pages are in an image */
	GW_PLACE_KEPT_WHOLE,        /* in an image, and runs in no process */
	GW_PLACE_KEPT_IN_PART,      /* its source is stopped and has the rest */
	GW_PLACE_SPLIT,             /* the destination has it, and a source that is stopped has pages of it */
	GW_PLACE_BOTH_POSSIBLE,     /* more than one end may have it: ask both before you let it run */
	GW_PLACE_LOST,              /* the process that ran it is gone */
};
GW_API const char *gw_place_name(uint32_t i); /* of enum gw_place: "source-runs". NULL past the end. Any thread. Since 0.2 */

enum gw_next_step {
	GW_NEXT_NOTHING,
	GW_NEXT_TRY_AGAIN,           /* nothing has changed: put right what the message says */
	GW_NEXT_ASK_SOURCE,          /* query-migrate and query-status there */
	GW_NEXT_CONTINUE_SOURCE,     /* cont, if it does not run */
	GW_NEXT_RESUME,              /* gw_receive with `resume`, or gw_partial_source_rollback */
	GW_NEXT_END_WITHOUT_SOURCE,  /* gw_receive with `resume` and `without_source` */
	GW_NEXT_REMOVE_FILES,        /* they are of no more use */
	GW_NEXT_ASK_DESTINATION,     /* has it loaded the guest? */
	GW_NEXT_SERVE,               /* gw_serve with `resume` */
	GW_NEXT_RESTORE,             /* the image, which is as old as it is */
	GW_NEXT_RESTART_DESTINATION, /* kill it first */
	GW_NEXT_DRAIN,               /* gw_drain; do not stop the source */
	GW_NEXT_KEEP_SOURCE,         /* do not stop its process: only there all of the memory is safe */
	GW_NEXT_RECOVER,             /* migrate-recover at the destination, migrate with resume at the source */
	GW_NEXT_FAILOVER,            /* gw_qemu_failover, which proves that the primary is dead, or refuses */
};
GW_API const char *gw_next_step_name(uint32_t i); /* of enum gw_next_step: "try-again". NULL past the end. Any thread. Since 0.2 */

/* How it stands when a call has ended, well or not. Each result has one. The library sets its `size`, which never changes. */
struct gw_outcome {
	size_t size;
	enum gw_place place;
	enum gw_next_step next_step;
	uint64_t missing_pages; /* of a part that is kept */
	bool peer_notified;     /* the other end was notified, or has confirmed */
	bool committed;         /* there is a whole image under its name */
	unsigned exit_status;   /* of a command that ends with it, as godwit(1) has them */
	const char *message;    /* an id of what there is to say: "part-kept". Lower case and "-"; an id keeps its meaning. Static */
};
/* Of the last call of the job that moved a guest. -EINVAL: no size; -EBUSY: a started call runs. Since 0.2 */
GW_API int gw_job_outcome(const gw_job *job, struct gw_outcome *outcome);

/* An observation of a guest through a monitor of its source or destination, or a decision before a call. */
enum gw_evidence {
	GW_EVIDENCE_WRONG_USE,             /* before anything was touched: so, */
	GW_EVIDENCE_REFUSED,               /* so, */
	GW_EVIDENCE_UNCHANGED,             /* or it failed */
	GW_EVIDENCE_SOURCE_RUNS,           /* its migration is over, and it runs its guest */
	GW_EVIDENCE_SOURCE_STANDS,         /* the same, of a guest that did not run before */
	GW_EVIDENCE_SAVED_RUNS,            /* it has sent a copy, and runs on */
	GW_EVIDENCE_SAVED_STANDS,          /* a copy, and stands as before */
	GW_EVIDENCE_SAVED_STOPPED,         /* it was to be left stopped */
	GW_EVIDENCE_SOURCE_UNREPAIRED,     /* its settings could not be restored, or it could not be reached */
	GW_EVIDENCE_SOURCE_WAITS,          /* in postcopy-paused, for who has a part */
	GW_EVIDENCE_SOURCE_UNCLEAR,        /* it does not say what it waits for */
	GW_EVIDENCE_SOURCE_GONE,           /* its monitor does not answer any more */
	GW_EVIDENCE_SOURCE_HANGS,          /* a QEMU 7.2 that has sent all */
	GW_EVIDENCE_GIVEN_BACK,            /* to the source, by a rollback */
	GW_EVIDENCE_NOT_GIVEN_BACK,        /* that was not seen */
	GW_EVIDENCE_FILES_LEFT,            /* the source has it again, and the partial files are still there */
	GW_EVIDENCE_ALSO_KEPT,             /* the source has it again, and there is a whole image of it */
	GW_EVIDENCE_ARRIVED,               /* the destination has everything */
	GW_EVIDENCE_DESTINATION_FAILED,    /* it reported that, or has no guest */
	GW_EVIDENCE_DESTINATION_WAITS,     /* for pages */
	GW_EVIDENCE_DESTINATION_UNCLEAR,   /* it cannot be asked */
	GW_EVIDENCE_DESTINATION_SHUT_DOWN, /* by its guest or its user */
	GW_EVIDENCE_DESTINATION_HANGS,     /* it lost its page server while it loaded the devices, and will never run */
	GW_EVIDENCE_DRAINED_UNSAFE,        /* the source has sent everything, and the image is not safe */
	GW_EVIDENCE_DRAINED_UNREAD,        /* the image cannot be read back */
	GW_EVIDENCE_DRAINED_UNCONFIRMED,   /* the source does not say that it has sent everything */
	GW_EVIDENCE_RELEASED,              /* a primary from its standby: it runs on, not protected */
	GW_EVIDENCE_PRIMARY_SHUT_DOWN,     /* by its guest or its user */
	GW_EVIDENCE_PRIMARY_GONE,          /* its process has ended; its standby may have an epoch */
};
/* The outcome for a guest of which only the place is known. -EINVAL: no size, or no such place. Pure. Since 0.2 */
GW_API int gw_outcome_at(struct gw_outcome *outcome, enum gw_place place);
/* The outcome after that. Contradicting evidence leaves both possible. -EINVAL: no size, or no such evidence. Pure. Since 0.2 */
GW_API int gw_outcome_note(struct gw_outcome *outcome, enum gw_evidence evidence);

/* --- Links ------------------------------------------------------------------------------------------------------ */

/*
 * Where a stream comes from or goes to, in QEMU's notation: tcp:HOST:PORT, unix:PATH, vsock:CID:PORT, fd:N,
 * exec:COMMAND, file:PATH[,offset=N].
 */
enum gw_uri_kind { GW_URI_TCP, GW_URI_UNIX, GW_URI_VSOCK, GW_URI_FD, GW_URI_FILE, GW_URI_EXEC };
enum gw_uri_family { GW_URI_ANY_FAMILY, GW_URI_IPV4, GW_URI_IPV6 };

struct gw_uri {
	size_t size;
	enum gw_uri_kind kind;
	enum gw_uri_family family; /* tcp */
	char target[4096];         /* the host (tcp, "" for any), the path (unix, file), the command (exec), else "" */
	char port[32];             /* tcp: a number or the name of a service */
	uint16_t port_to;          /* listening on tcp: the last port to try. 0: only the first */
	uint32_t cid, vsock_port;
	int fd;           /* fd; -1 for the others */
	uint64_t offset;  /* file: bytes before the stream */
	bool can_listen;  /* tcp, unix, vsock: a peer can connect there, and come back */
	char reason[640]; /* of a refusal: the fault, and a good example */
};
/* Takes a URI to pieces as the calls below do. 0 or -EINVAL; nothing is opened or looked up. Any thread. Since 0.2 */
GW_API int gw_uri_parse(const char *text, struct gw_uri *uri);

struct gw_tls_opts {
	size_t size;
	/*
	 * A folder with QEMU's file names. With shared keys: keys.psk. With certificates: ca-cert.pem, ca-crl.pem. Also server-cert.pem and
	 * server-key.pem if a source connects to this process, client-cert.pem and client-key.pem if this process connects.
	 */
	const char *creds_dir;
	const char *hostname; /* connecting: the name that the certificate must have. NULL: the host of the URI */
	const char *authz;    /* waiting: the distinguished name a client must have. NULL: any that the CA has signed */
	const char *priority; /* GnuTLS priority string. NULL: NORMAL. TLS before 1.2 is never spoken */
	const char *psk_name; /* connecting with keys.psk. NULL: "qemu" */
	bool no_verify;       /* accept any certificate, or none from a client */
};

struct gw_link_opts {
	size_t size;
	int idle_timeout_ms;           /* silence that counts as a broken link. 0: 30 s; -1: none */
	int connect_timeout_ms;        /* to connect, or for a peer to connect. 0: 10 s to connect, no limit to wait; -1: none */
	uint64_t max_bandwidth;        /* bytes/s over all channels together, 0: no limit */
	const struct gw_tls_opts *tls; /* NULL: plain. All channels of a migration, sockets only */
	const uint32_t *peer_uid;      /* this user and root may connect to a unix socket of the library. NULL: every user */
};

/* --- Keep a guest: peer to image -------------------------------------------------------------------------------- */

enum { GW_SAY_FAILED = 1 };
struct gw_whole_block {
	size_t size;
	const char *name;
	uint64_t used_bytes;
};
struct gw_whole {
	size_t size;
	const char *machine;         /* NULL: not known, after a recovery */
	enum gw_run_state run_state; /* of the guest when its source stopped it */
	const char *run_state_name;  /* the word itself; NULL: not in the stream */
	uint32_t blocks;             /* 0: not known */
	const struct gw_whole_block *block;
};

struct gw_receive_opts {
	size_t size;
	const struct gw_link_opts *link; /* NULL: defaults */
	uint64_t image_offset;           /* the image begins there; an existing file keeps its content before it */
	uint64_t memory_limit;           /* bytes of device state held in memory. 0: 32 MiB */
	/*
	 * Multifd channels to wait for. With 0, the call takes all channels that come before the main channel brings pages itself. It also
	 * stops waiting when no other channel came for 0.4 seconds. A mistake shows as a missing channel.
	 */
	uint32_t channels;
	bool direct_io;                                   /* write memory past the page cache (O_DIRECT) */
	void (*on_listening)(void *ctx, const char *uri); /* the address peers can connect to, with its real port */
	/* The target was checked and the source may start. Once, from the calling thread; a negative errno ends the call. */
	int (*on_ready)(void *ctx);
	void *ctx;
	/*
	 * After a source switched to post-copy, its guest is paused until the image is whole. If the link breaks, the library keeps the
	 * received pages in PATH.partial and PATH.partial.state. Then the call waits for the source at the same address, after every break.
	 * It calls `on_paused` each time, from the calling thread. `on_paused` makes the source come back (QEMU: `migrate` with `resume`).
	 * A negative errno ends the call. NULL: another program makes the source come back.
	 *
	 * A connection without proof to be the source (a TLS handshake, or the names of all RAM blocks) does not end the wait. The library
	 * calls `on_paused` for it only if it spoke like a source, one end alone speaks TLS, or a certificate is refused. It does so at most
	 * eight times until the source is there. With `on_ready`, it has no such limit. With `on_ready` and `peer_uid`, it calls `on_paused`
	 * for every connection that sent something. Five attempts in a row without a page end the call.
	 */
	int (*on_paused)(void *ctx, const char *uri, const char *reason);
	/* Continue PATH.partial of another process: the source waits in postcopy-paused. -EALREADY: it is of gw_drain. */
	bool resume;
	/*
	 * With `resume`: finish an image that lacks no page, without its source, else -EAGAIN. The library does not notify the source. So
	 * the source must be unable to run its guest: it is gone, or a QEMU 7.2 that lost the link after its last page.
	 */
	bool without_source;
	const void *note; /* kept with it, see gw_partial_user_data */
	size_t note_bytes;
	/*
	 * For callers with a monitor of the source. Both are called with `ctx` from the calling thread; NULL: not called.
	 *
	 * `on_whole`: the guest is whole and synced, and its source waits for the result. 0 reports success. GW_SAY_FAILED reports a
	 * failure: a QEMU since 10.0 then keeps the run state of a guest that does not run. A negative errno ends the call, and the source
	 * has its guest again.
	 *
	 * `on_source_notified`: the source was notified, and the image gets its name next. A negative errno ends the call without that.
	 * After a switch to post-copy the image has its name already. Since 0.1
	 */
	int (*on_whole)(void *ctx, const struct gw_whole *whole);
	int (*on_source_notified)(void *ctx);
};

/* The received guest. */
struct gw_receive_result {
	size_t size;
	uint64_t stream_bytes, ram_bytes;         /* the first: received by this call, over all channels and connections */
	uint64_t pages, zero_pages, xbzrle_pages; /* records, not distinct pages; likewise */
	uint32_t devices, rounds;
	bool source_notified;    /* the source was notified that its guest is safe (it had opened a return path) */
	bool background;         /* the source took a background snapshot */
	uint64_t trailing_bytes; /* found after the end of the stream, ignored */
	uint32_t channels;       /* multifd */
	uint64_t multifd_bytes;  /* of stream_bytes, over them */
	bool postcopy;           /* the source switched */
	/*
	 * Set on failure if the guest is paused in its source and a part of it is in PATH.partial. Then receive again with `resume`. If the
	 * image lacks no page, the source may have been notified of a failure, or have found the link closed. Then the source may have its
	 * guest again. Ask the source before you finish the image.
	 */
	bool recoverable;
	bool was_complete;             /* resumed: no page was missing any more, and the call did not wait for a source */
	bool host_crashed;             /* resumed: the host was once started anew, so what had come after a checkpoint came again */
	enum gw_migration_state state; /* how far it came */
	uint64_t missing_pages;        /* when it is recoverable */
	uint32_t breaks;               /* how often the link broke */
	bool postcopy_possible;        /* the source can switch to post-copy; when the link breaks before, it may just have done so */
	bool image_committed;          /* the image has its name and is whole. Set on failure too, if its folder could not be synced */
	struct gw_outcome outcome;
};

/*
 * Wait at `uri` for one incoming migration (or read the file or command it names) and keep the guest in the mapped-ram image `path`. The
 * image appears, whole and synced, only on success. Until then an existing image stays. The library notifies the source of success after
 * that, and of failure immediately, so that a QEMU source runs its guest on. GW_SOURCE_NOT_NOTIFIED: the image exists, but its source
 * could not be notified; gw_job_error() says why. A QEMU then runs its guest on. Since 0.1
 */
enum { GW_SOURCE_NOT_NOTIFIED = 1 };
GW_API int gw_receive(gw_job *job, const char *uri, const char *path, const struct gw_receive_opts *o, struct gw_receive_result *result);
/*
 * The same on a connected descriptor. The following holds for gw_send_fd, gw_serve_fd and gw_drain_fd too. The library takes over and
 * closes the descriptor in any case, also on -EBUSY. If the link asks for TLS, the connection uses TLS. When the connection breaks, the
 * source cannot come back over it. After a break in post-copy, another call with `resume` continues over another descriptor. `uri` of
 * on_paused is NULL. on_listening and multifd do not work here. Since 0.1
 */
GW_API int gw_receive_fd(gw_job *job, int fd, const char *path, const struct gw_receive_opts *o, struct gw_receive_result *result);

/*
 * A source that writes its image itself, into a file of the library that has no name yet. It is a QEMU since 9.0 with the capability
 * mapped-ram, to which the caller passed the descriptors (file:/dev/fdset/N). The library makes all callbacks with `ctx` from the calling
 * thread. A negative errno ends the call. Since 0.2
 */
enum { GW_WRITING = 1 };
struct gw_receive_file_opts {
	size_t size;
	uint64_t image_offset; /* the image begins there; an existing file keeps its content before it */
	int idle_timeout_ms;   /* no progress in on_poll for so long is a failure. 0: 30 s; -1: no limit */
	bool direct_io;        /* lend a descriptor with O_DIRECT, too */
	void *ctx;
	/* Required, once: the target was checked, the source is to begin. Both write-only and lent. direct_fd is -1 without `direct_io`. */
	int (*on_file)(void *ctx, int fd, int direct_fd);
	/*
	 * Required, again and again, at most every 10 ms. Returns GW_WRITING and how far the source is, or 0 when it has written
	 * everything. After a failure the caller must make the source stop. Later writes of the source are lost.
	 */
	int (*on_poll)(void *ctx, struct gw_progress *progress);
	/* The image was checked and is whole. It is not synced yet, and its source may run its guest. NULL: not called. */
	int (*on_whole)(void *ctx, const struct gw_whole *whole);
};
/*
 * The image gets its name as by gw_receive(), once it was checked (-EPROTO: it is not whole), made clonable and synced. In the result,
 * `stream_bytes` is the size of the file's content, and pages are distinct pages. Not to be started (gw_job_start): -EINVAL. Since 0.2
 */
GW_API int gw_receive_file(gw_job *job, const char *path, const struct gw_receive_file_opts *o, struct gw_receive_result *result);

/* The state of PATH.partial after an interrupted call, and how to continue. */
enum gw_partial_kind {
	GW_PARTIAL_GUEST,     /* a guest whose source keeps the rest: gw_receive with `resume` */
	GW_PARTIAL_MEMORY,    /* the memory of a guest that has gone elsewhere: gw_drain */
	GW_PARTIAL_LAYOUT,    /* keeps no pages; serves gw_partial_source_rollback, and the next gw_receive deletes it */
	GW_PARTIAL_COMMITTED, /* a whole guest or memory, synced, that lacks its name at most; the same call again gives it that */
};

struct gw_partial_info {
	size_t size;
	enum gw_partial_kind kind;
	char machine[1028];
	uint64_t page_bytes, ram_bytes; /* ram_bytes: of the blocks that are kept */
	uint32_t blocks;
	uint64_t missing_pages;   /* that only the source has; LAYOUT: all of them */
	uint64_t device_bytes;    /* device state that is kept */
	uint64_t image_offset;    /* where the image begins in its file */
	uint64_t user_data_bytes; /* see gw_partial_user_data */
	bool host_crashed;        /* as in gw_receive_result */
};
/* -ENOENT: no such file. -EBUSY: a call uses it. -EPERM: another user owns it or can write to it. -EPROTO: it is damaged. Since 0.2 */
GW_API int gw_partial_info(gw_job *job, const char *path, struct gw_partial_info *info);
/*
 * The user data of the call that left PATH.partial; free() it. -EBUSY: another process continues PATH.partial. Others as above. Since 0.1
 */
GW_API int gw_partial_user_data(gw_job *job, const char *path, void **note, size_t *note_bytes);
/*
 * Deletes PATH.partial and its state, with any content: no call waits for its guest any more. Errors as above. -EALREADY: it is PATH
 * already, a whole guest, and stays. Since 0.1
 */
GW_API int gw_partial_drop(gw_job *job, const char *path);

struct gw_drain_block {
	size_t size;
	const char *name;
	uint64_t used_bytes, page_bytes; /* page_bytes: of the memory that backs it */
};

/*
 * A source that waits in postcopy-paused while its destination, which has the guest, cannot be reached. The library stands in for that
 * destination. The caller must describe the source as its monitor does, because a source that comes back does not describe itself.
 */
struct gw_drain_opts {
	size_t size;
	const struct gw_link_opts *link;
	const char *machine;
	uint64_t page_bytes; /* of the guest */
	uint32_t blocks;
	const struct gw_drain_block *block;
	/*
	 * Answer before the pages come, so that the source never runs its guest again, whatever happens to this process: right for QEMU
	 * 10.0 and later. Older QEMUs do not accept the answer; they stay stopped by themselves.
	 */
	bool early_answer;
	void (*on_listening)(void *ctx, const char *uri);
	int (*on_paused)(void *ctx, const char *uri, const char *reason); /* as in gw_receive_opts; the first time too */
	void *ctx;
	const void *note; /* kept with what is begun, see gw_partial_user_data */
	size_t note_bytes;
};

/*
 * Keep all memory the source still has in the image `path`, which holds no devices and cannot be restored. gw_serve with `resume` brings
 * the memory to the destination that waits. The call continues an existing PATH.partial. The source never runs its guest again.
 * GW_SOURCE_NOT_NOTIFIED: the image exists, but the source could not be notified. Without `early_answer` it stays paused. Errors:
 * -EALREADY: PATH.partial holds another guest. -EPERM: it may be somebody else's work. -EINVAL: the options describe no guest. Since 0.1
 */
GW_API int gw_drain(gw_job *job, const char *uri, const char *path, const struct gw_drain_opts *o, struct gw_receive_result *result);
/* On a descriptor that the source has connected or will connect when on_paused asks it to; see gw_receive_fd. Since 0.2 */
GW_API int gw_drain_fd(gw_job *job, int fd, const char *path, const struct gw_drain_opts *o, struct gw_receive_result *result);
/*
 * The opposite: make the source run its guest on. Only right when no other process has it: when the library was its destination. QEMU 7.2 needs a `cont`
 * afterwards. Since 0.1
 */
GW_API int gw_source_rollback(gw_job *job, const char *uri, const struct gw_drain_opts *o);
/*
 * The same for the source of PATH.partial, of which everything is known. The call deletes its files afterwards. It also works if gw_receive
 * failed in the middle of the switch and left only PATH.partial.state. Of `o` it uses link and the callbacks. The source has to ask for
 * every block by name. If pages had come, the source has to send some of them again. -ESTALE: others came, and nothing was deleted. If
 * PATH.partial holds no guest that may return to its source, the call returns -EALREADY. GW_CLEANUP_INCOMPLETE: the source has its guest,
 * but some of these files remain; gw_job_error() says why. Since 0.1
 */
enum { GW_CLEANUP_INCOMPLETE = 2 };
GW_API int gw_partial_source_rollback(gw_job *job, const char *uri, const char *path, const struct gw_receive_opts *o);

/* --- Give a guest: image to peer -------------------------------------------------------------------------------- */

enum gw_compression { GW_COMPRESS_NONE, GW_COMPRESS_ZLIB, GW_COMPRESS_ZSTD };

struct gw_send_opts {
	size_t size;
	const struct gw_link_opts *link;
	uint64_t image_offset;
	int answer_timeout_ms;           /* for the destination to report that it loaded the guest. 0: 60 s; -1: no limit */
	uint32_t channels;               /* multifd channels, as the destination expects them; only an image can be sent so. 0: none */
	enum gw_compression compression; /* with channels; as the destination expects it */
	int level;                       /* zlib 1..9, zstd 1..20; 0: 1 */
	const uint8_t *
		uuid; /* 16 bytes. Multifd names the guest by its UUID: the destination's -uuid, if it has one. NULL: the UUID of the image */
	uint64_t memory_limit; /* bytes of device state held in memory. 0: 32 MiB */
	/*
	 * Names of RAM blocks that the destination has already, because it maps the image as memory: no page of these is sent. Of an image that is clonable
	 * (gw_inspect_opts) and over one channel.
	 */
	uint32_t mapped_blocks;
	const char *const *mapped_block;
};

/*
 * Be the source of a migration from an image or a stream file to the destination waiting at `uri`. On a socket, success means that the
 * destination confirmed the load. -EREMOTEIO: it reported a failure. On a pipe or file it means that all was written. Since 0.1
 */
GW_API int gw_send(gw_job *job, const char *path, const char *uri, const struct gw_send_opts *o);
/* See gw_receive_fd. Since 0.1 */
GW_API int gw_send_fd(gw_job *job, const char *path, int fd, const struct gw_send_opts *o);

/* --- Post-copy from an image: the guest runs first, its memory follows ------------------------------------------ */

/* The capability postcopy-preempt: requested pages go over a second connection and overtake pushed pages. */
enum gw_preempt {
	GW_PREEMPT_OFF,
	GW_PREEMPT_ON,
	GW_PREEMPT_EARLY, /* QEMU 7.2, which reads nothing before the second connection is made */
};

struct gw_serve_block {
	size_t size;
	const char *name;
	uint64_t page_bytes;
};

struct gw_serve_opts {
	size_t size;
	const struct gw_link_opts *link;
	uint64_t image_offset;
	bool resume;           /* the destination runs the guest already and waits in postcopy-paused */
	int answer_timeout_ms; /* for each answer of the destination. 0: 60 s; -1: no limit */
	/* Backing page sizes of the destination's RAM blocks that are larger than the guest's page, powers of two. */
	uint32_t blocks;
	const struct gw_serve_block *block;
	void (*on_connected)(void *ctx); /* all connections are open; their address is not needed any more */
	void *ctx;
	/*
	 * As the destination has it. With `resume`, use on_connected to make sure that a QEMU has accepted both connections, by two
	 * commands on its monitor. Some QEMUs abort otherwise (docs/spec/postcopy.md 5).
	 */
	enum gw_preempt preempt;
	/*
	 * The file of the working set. Pages it names go first, and pages that are requested now are added. If there is no file, the
	 * library creates it. A file that cannot be used, or is a link, is reported to on_note and is never a failure. A file of another
	 * image is replaced (gw_job_warning). NULL: none.
	 */
	const char *working_set;
	void (*on_note)(void *ctx, const char *sentence);
	/*
	 * Some QEMUs do not survive a link that ends while they recover. QEMU 11.1 does not if the link ends before its first bytes, QEMU
	 * 7.2 if it ends before RESUME. So another process can hold a copy of the socket until the destination continues: the link then
	 * does not end with this process. The callback gets the socket before it is connected. A successor may use the copy. With
	 * `takeover_fd`, the URI is fd:N of a link on which nothing but whole commands, and no RESUME, was written.
	 */
	void (*on_socket)(void *ctx, int fd);
	void (*on_guest_runs)(void *ctx); /* the destination has the guest's devices and runs it, or continues it: a break is a pause now */
	bool takeover_fd;
};

struct gw_serve_result {
	size_t size;
	bool recoverable;              /* on failure: the destination runs the guest and waits. Serve again with `resume` */
	enum gw_migration_state state; /* how far it came */
	uint64_t requests, requested_pages, pushed_pages, zero_pages;
	uint64_t already_there; /* pages a resumed destination had */
	/* How long requests waited for their pages: from when they could be read until the pages were written. 0: there were none. */
	uint64_t latency_p50_us, latency_p99_us, latency_max_us;
	uint64_t working_set_pages; /* of the pushed ones: those that the working set named */
	struct gw_outcome outcome;
};

/*
 * Be the post-copy source of an image for the destination that waits at `uri`. The destination runs the guest immediately and asks for
 * pages as the guest touches them. The library pushes the rest afterwards. 0: the destination has all pages. Nothing needs to be kept
 * between two calls. After a failure, or the death of this process, another process resumes. Since 0.1
 */
GW_API int gw_serve(gw_job *job, const char *path, const char *uri, const struct gw_serve_opts *o, struct gw_serve_result *result);

/* See gw_receive_fd. A preempt channel needs an address. Since 0.2 */
GW_API int gw_serve_fd(gw_job *job, const char *path, int fd, const struct gw_serve_opts *o, struct gw_serve_result *result);

/* --- Look on between two ends, and break things ------------------------------------------------------------------ */

enum gw_proxy_direction {
	GW_PROXY_NEITHER, /* a message about the connection, a fault in both directions */
	GW_PROXY_FORWARD, /* bytes from the source */
	GW_PROXY_RETURN,  /* bytes from the destination */
};

enum gw_proxy_fault_kind {
	GW_PROXY_CUT_AFTER, /* break the link after `amount` bytes */
	GW_PROXY_CUT_AT,    /* break it after the `amount`th message of that name */
	GW_PROXY_RATE,      /* at most `amount` bytes per second */
};

/*
 * Holds for each channel of that name ("main", "recovery", "preempt", "multifd", "multifd0" ... "multifd254", "tls", "unknown"; NULL: any)
 * and each direction, counted separately. A cut happens once. A channel that begins later takes the next cut that fits.
 */
struct gw_proxy_fault {
	size_t size;
	enum gw_proxy_fault_kind kind;
	const char *channel;
	enum gw_proxy_direction direction;
	uint64_t amount;
	const char *message; /* CUT_AT: "RECV_BITMAP" */
};

struct gw_proxy_field {
	size_t size;
	const char *name;
	const char *text; /* NULL: it is a number */
	uint64_t number;
};

/* A message of the migration, or what happened to a connection. Lent during the call. */
struct gw_proxy_message {
	size_t size;
	uint64_t time_ns;    /* since gw_proxy began */
	uint32_t connection; /* from 1; 0: none */
	const char *channel; /* NULL: not known yet */
	enum gw_proxy_direction direction;
	uint64_t off, bytes; /* in this direction of this connection */
	const char *name;    /* "PING", "PAGES", "DEVICE"; of a connection "CONNECTED", "CLOSED", "CUT", "BROKEN", "REFUSED" */
	const char *text;    /* in words */
	uint32_t fields;
	const struct gw_proxy_field *field;
};

/* The totals of a connection, when it is over. [0] forward, [1] return. */
struct gw_proxy_channel {
	size_t size;
	uint32_t connection;
	const char *channel;            /* NULL: it never showed its kind */
	uint64_t bytes[2], messages[2]; /* messages: without pages */
	uint64_t pages, zero_pages, xbzrle_pages, packets;
	bool cut;
};

struct gw_proxy_opts {
	size_t size;
	const struct gw_link_opts *link; /* timeouts of connecting; NULL: defaults */
	bool keep;                       /* go on listening when all connections ended, for a recovery, until cancelled */
	bool every_page;                 /* report each page; else runs of pages */
	bool cut_all;                    /* a cut breaks all connections there are, as when the network goes */
	uint64_t memory_limit;           /* bytes of device state looked at, per main channel. 0: 32 MiB */
	uint32_t faults;                 /* at most 64 */
	const struct gw_proxy_fault *fault;
	const char *tap_dir; /* record each direction in a file of this folder, NUMBER-CHANNEL-forward or -return. NULL: none */
	void (*on_listening)(void *ctx, const char *uri);
	/* From a thread of the library, one at a time, in the order of each direction. Nothing waits for them: a slow owner misses some. */
	void (*on_message)(void *ctx, const struct gw_proxy_message *m);
	void (*on_channel)(void *ctx, const struct gw_proxy_channel *c);
	void *ctx;
};

/* Where the guest is, as far as the proxy can know. */
enum gw_proxy_outcome {
	GW_PROXY_NO_MIGRATION, /* none was seen */
	GW_PROXY_AT_SOURCE,    /* it did not leave */
	GW_PROXY_ARRIVED,      /* and the source was notified */
	GW_PROXY_UNCONFIRMED,  /* everything went through, and there was no return path to say more */
	GW_PROXY_PAUSED,       /* it runs at the destination, which lacks pages: recovery is possible */
	GW_PROXY_IN_DOUBT,     /* not known from the messages, or they could not be read */
};

struct gw_proxy_result {
	size_t size;
	uint32_t connections, cuts;
	uint64_t bytes[2];
	uint64_t dropped_messages;     /* messages on_message was too slow for */
	enum gw_proxy_outcome outcome; /* of the last migration */
	uint32_t strangers;            /* connections dropped before the destination saw them; not among `connections` */
	struct gw_outcome guest;       /* as far as the proxy can know */
};

/*
 * Wait at one URI for the source of a migration whose destination waits at the other URI (sockets only). The library pairs each connection
 * that shows what it is with a connection to the destination. All bytes are passed on unchanged and immediately, and explained afterwards.
 * 0: all connections ended. -ECANCELED. Another error: nothing could be passed on. `result` is filled in any case. Since 0.1
 */
GW_API int gw_proxy(gw_job *job, const char *listen_uri, const char *connect_uri, const struct gw_proxy_opts *o,
	struct gw_proxy_result *result);

/* --- Look at a guest that is kept ------------------------------------------------------------------------------- */

enum gw_format { GW_FORMAT_AUTO, GW_FORMAT_IMAGE, GW_FORMAT_STREAM, GW_FORMAT_RAW };

typedef struct gw_info gw_info;

struct gw_inspect_opts {
	size_t size;
	uint64_t offset; /* where the image or stream begins in the file */
	uint64_t memory_limit;
	bool every_page;         /* read all pages of an image too, to see that they can be read; a stream always is read whole */
	const char *working_set; /* look at this file too, where it is an image's; NULL: none. Never a reason to fail */
	bool clonable;           /* find out whether QEMUs can map the image as memory; reads what data the file has among absent pages */
	bool pages;              /* keep which pages are present, for gw_info_pages(). At most three bits of memory for each page */
	const char *compare;     /* find out how the image at `path` differs from this image or stream. NULL: none */
};

/*
 * Read a stream file or an image completely and check all of its structure. `path` may be any link that can be read (exec:, fd:, file:) or
 * a plain path. A file that has such a name goes first. -EPROTO: it is damaged or incomplete. Since 0.1
 */
GW_API int gw_inspect(gw_job *job, const char *path, const struct gw_inspect_opts *o, gw_info **info);
GW_API void gw_info_free(gw_info *info);

struct gw_info_summary {
	size_t size;
	enum gw_format format; /* IMAGE or STREAM */
	const char *machine;
	enum gw_run_state run_state; /* of the guest when it was saved */
	const char *run_state_name;  /* the word itself; NULL: not known */
	uint64_t page_bytes, ram_bytes;
	uint64_t begin_off, end_off; /* in the file */
	uint64_t trailing_bytes;
	const uint8_t *uuid; /* 16 bytes; NULL: it has none */
	uint32_t capabilities, blocks, devices;
	bool described; /* there is a VM description */
	bool switchover, background, return_path, postcopy_advised;
	uint32_t rounds;
	uint32_t warnings;
	/* Where the bytes are. For an image page_bytes_stored counts present pages. */
	uint64_t page_bytes_stored, zero_pages, xbzrle_bytes, device_bytes, description_bytes, framing_bytes;
	bool memory_only;     /* the guest's memory without its devices (gw_drain): good to complete a QEMU that has them */
	char fingerprint[33]; /* of an image: the same for its copies, another for any other guest. A stream has "" */
	/* A recorded stream of a COLO primary: whole checkpoints after the guest, whose pages these are. They are not in trailing_bytes. */
	uint64_t checkpoints, checkpoint_pages, checkpoint_zero_pages, checkpoint_bytes;
	/* With gw_inspect_opts.clonable: any number of QEMUs can map each of its RAM blocks as memory; or why they cannot, as a sentence. Else NULL. */
	bool clonable;
	const char *not_clonable;
	const char *path; /* as gw_inspect() was given it */
};
GW_API int gw_info_summary(const gw_info *info, struct gw_info_summary *s);
GW_API const char *gw_info_capability(const gw_info *info, uint32_t i); /* NULL past the end */
GW_API const char *gw_info_warning(const gw_info *info, uint32_t i);

struct gw_info_block {
	size_t size;
	const char *name;
	uint64_t used_bytes, backing_page_bytes, address; /* 0: not known */
	bool ignored;                                     /* shared memory that is not in the file */
	uint64_t pages, zero_pages, xbzrle_pages;         /* of an image distinct pages, of a stream records */
	uint64_t bitmap_off, pages_off;                   /* image: absolute */
	uint64_t working_set_pages;
	bool clonable; /* with gw_inspect_opts.clonable: this block can be mapped */
};
GW_API int gw_info_block(const gw_info *info, uint32_t i, struct gw_info_block *b); /* -ERANGE */

/* With gw_inspect_opts.pages (else -ENODATA): how many pages of a range are what. Of a stream, a page is present unless its last record was a zero page. Since 0.2 */
struct gw_info_pages {
	size_t size;
	uint64_t present, working_set, differing;
};
GW_API int gw_info_pages(const gw_info *info, uint32_t block, uint64_t first, uint64_t n, struct gw_info_pages *p); /* -ERANGE */
/* With gw_inspect_opts.compare: a difference, as a sentence. The first 256 are kept, and the number of others. NULL past the end. Since 0.2 */
GW_API const char *gw_info_difference(const gw_info *info, uint32_t i);

/* The pages that a guest requested when it was run lazily; see gw_serve. */
struct gw_info_working_set {
	size_t size;
	const char *unused; /* there is a file, and this is why it does not help; NULL: it does */
	uint64_t pages, runs;
	uint64_t begun, added; /* seconds since 1970: when it began, and when its last page was written (0: none was) */
	uint64_t torn_bytes;   /* at its end, ignored */
};
GW_API int gw_info_working_set(const gw_info *info, struct gw_info_working_set *w); /* -ENOENT: there is none */

struct gw_info_device {
	size_t size;
	const char *name;
	uint32_t instance, version;
	uint64_t off, bytes; /* of the body in the file (stream: in the stream) */
	bool early;          /* sent before memory */
	const uint8_t *body; /* its bytes */
};
GW_API int gw_info_device(const gw_info *info, uint32_t i, struct gw_info_device *d); /* -ERANGE */

struct gw_info_field {
	size_t size;
	const char *path, *type;
	unsigned depth;
	bool is_struct;      /* its parts follow */
	uint64_t off, bytes; /* within the device's body */
	uint64_t array_len;  /* elements that this entry describes */
};
/*
 * Field i of a device, in order, a struct before its parts. Past the end the call returns -ERANGE. If the description does not fit the rest
 * of the device, it returns -EPROTO there. It returns -E2BIG where the fields need more memory than `memory_limit` of gw_inspect_opts. That
 * limit is one for all devices together. If the description is missing, or lacks this device, it returns -ENODATA. -ENOMEM. Since 0.2
 */
GW_API int gw_info_field(const gw_info *info, uint32_t device, uint32_t i, struct gw_info_field *f);

/* --- Compare and convert ---------------------------------------------------------------------------------------- */

/* One difference, as a sentence. Returning false stops the comparison. */
typedef bool gw_difference_fn(void *ctx, const char *sentence);

/*
 * Do two files (image or stream, in any mix) hold the same guest: machine, RAM, devices? 0 same, 1 different,
 * negative errno. A stream is unpacked into an unnamed temporary image first. Since 0.1
 */
GW_API int gw_compare(gw_job *job, const char *a, const char *b, gw_difference_fn *fn, void *ctx);

struct gw_convert_opts {
	size_t size;
	enum gw_format to; /* AUTO: stream to image, image to image */
	const char *block; /* RAW: which RAM block; NULL: the largest */
	uint64_t from_offset, to_offset;
	uint64_t memory_limit;
};
/*
 * Image or stream to image, stream or raw memory. The result appears only when it is whole. GW_UNSYNCED: it exists and is whole, but its
 * folder could not be synced; gw_job_error() says why. After a crash of the host the previous file may be back. Since 0.1
 */
enum { GW_UNSYNCED = 3 };
GW_API int gw_convert(gw_job *job, const char *from, const char *to, const struct gw_convert_opts *o);

/* --- Protect a guest: COLO, as the secondary that runs nothing --------------------------------------------------- */

enum gw_standby_event_kind {
	GW_STANDBY_CONNECTED, /* a primary is here, its guest is on its way */
	GW_STANDBY_PROTECTED, /* all of it is here: epoch 0 */
	GW_STANDBY_EPOCH,     /* a new epoch is here, and is the last one from now on */
	GW_STANDBY_ENDED,     /* protection is over, `message` says why: the last epoch is in `image` */
	GW_STANDBY_FAILED,    /* the guest was never protected, or its last epoch could not be put into an image: there is none */
};
struct gw_standby_event {
	size_t size;
	enum gw_standby_event_kind kind;
	const char *vm, *image, *message; /* `message`: ENDED, FAILED. `vm`, `image` NULL: FAILED, of connections that became no guest */
	uint64_t epoch;                   /* the last one */
	uint64_t ram_bytes;
	uint64_t pages, zero_pages, device_bytes; /* of it; 0 for epoch 0 but for the devices */
	uint64_t pause_ns;                        /* from the standby's CHECKPOINT_REPLY to its VMSTATE_LOADED */
	uint64_t merge_ns;                        /* the pages of the epoch before went to their places in so much, outside the pause */
	uint64_t memory_bytes;                    /* that this epoch took, besides the image */
	uint32_t channels;                        /* multifd */
	struct gw_outcome outcome;
};

struct gw_standby_opts {
	size_t size;
	const struct gw_link_opts *link;
	const char *name;          /* the guest's, one at a time. NULL: vm-1, vm-2, ..., as many as come */
	uint64_t memory_limit;     /* that each epoch of a guest may take; beyond it protection ends, not the guest. 0: 1 GiB */
	int checkpoint_timeout_ms; /* for a primary to ask for the next checkpoint. 0: 60 s; -1: none */
	uint32_t channels;         /* multifd, as in gw_receive_opts */
	void (*on_listening)(void *ctx, const char *uri);
	/* From the thread of each guest, one at a time. The strings are lent for the call. */
	void (*on_event)(void *ctx, const struct gw_standby_event *event);
	void *ctx;
	/*
	 * For callers that store something else of a guest at the same moments, e.g. disks. From the thread of the guest. NULL: not called.
	 * When all of this epoch is here and its primary is paused, on_boundary is called. A negative errno and `why` (of `n` bytes) drop
	 * it and end the protection. When protection is over, on_kept is called: the image of `epoch` is about to appear (`kept`), or none.
	 */
	int (*on_boundary)(void *ctx, uint64_t epoch, char *why, size_t n);
	void (*on_kept)(void *ctx, uint64_t epoch, bool kept);
	bool durable;     /* an epoch is synced before it is acknowledged, and survives this process and its host. Since 0.2 */
	uint64_t history; /* so many epochs before the last one are kept (gw_standby_history), which then is `durable` too. Since 0.2 */
};

/*
 * Be the COLO secondary of QEMUs (11.1) that connect to `uri`, without running their guests. Each guest has the folder DIR/NAME, where its
 * last whole epoch appears as guest.img (an image as of gw_receive) when its protection ends. Unless `durable`, that image is not synced,
 * as it lives no longer than its guest. An existing image is deleted when a guest of that name is protected again. Returns 0 when the job
 * is cancelled; each protection has ended between two epochs then. A failure is of listening, not of a guest. A trace is called from all
 * threads. Since 0.1
 */
GW_API int gw_standby(gw_job *job, const char *uri, const char *dir, const struct gw_standby_opts *o);

/*
 * Recovers the guest of a dead standby that was `durable` from `dir`, its folder DIR/NAME: guest.img is made of the last whole epoch, and
 * synced. gw_standby does the same for all guests when it begins. The caller must keep other programs from the folder, by an exclusive
 * flock. On success it returns 0 and sets *epoch. -ENOENT: nothing was left, or guest.img was made already. If the epoch has disks too, it
 * returns -EBUSY: gw_qemu_disks_new or gw_qemu_failover must recover them first. Any other failure changes nothing: try again. Since 0.2
 */
GW_API int gw_standby_recover(gw_job *job, const char *dir, uint64_t *epoch);

struct gw_epoch {
	size_t size;
	uint64_t epoch;
	bool is_last;
	uint64_t bytes;  /* on the disk, for what it takes to go back to it; 0: is_last */
	int64_t time_ns; /* when the next epoch came, since 1970; 0: is_last */
};
/*
 * Lists the epochs that are kept of a guest: the last epoch first, then those before it, the newest first. `image` (DIR/NAME/guest.img) is
 * there, or will be when the protection of the guest ends. -ENODATA: no epoch is kept. Since 0.2
 */
GW_API int gw_standby_history(gw_job *job, const char *image, void (*on_epoch)(void *ctx, const struct gw_epoch *epoch), void *ctx);
/*
 * Writes an epoch as an image of its own, `to`, also while the guest is protected. An existing `to` is replaced. `to` is not synced.
 * -ENODATA: the epoch is not kept. Since 0.2
 */
GW_API int gw_standby_export(gw_job *job, const char *image, uint64_t epoch, const char *to);

/* --- Plan ------------------------------------------------------------------------------------------------------- */

struct gw_destination_block {
	size_t size;
	const char *name;
	uint64_t used_bytes, max_bytes;
	bool unshared; /* certainly not shared memory: a block that an image leaves out would be empty */
	bool mapped;   /* it is the place of this block in the image itself, mapped copy-on-write */
};
struct gw_destination_device {
	size_t size;
	const char *address; /* of PCI: "0000:00:02.0", below a bridge "0000:00:02.0:01.0"; of USB: the controller's, "/", port */
	const char *type;    /* QEMU's name, "virtio-net-pci" */
};

/* A destination that waits, as its monitor describes it. Unknown things stay 0 or NULL and are not compared. */
struct gw_destination {
	size_t size;
	const char *machine;
	bool reads_images; /* knows the capability mapped-ram */
	bool same_host;    /* can open this process's files */
	uint32_t blocks;
	const struct gw_destination_block *block;
	bool accepts_ignored_blocks; /* reads images that leave out shared blocks (QEMU 11.1 does, 10.0 does not) */
	uint32_t cpus;
	uint32_t devices;
	const struct gw_destination_device *device;
};

enum gw_way {
	GW_WAY_REFUSED, /* see `reason` */
	GW_WAY_DIRECT,  /* the destination reads the image itself */
	GW_WAY_STREAM,  /* the library sends it */
	GW_WAY_CLONE,   /* the destination maps the image as memory, and the library sends the rest */
};

struct gw_restore_plan {
	size_t size;
	enum gw_way way;
	char reason[512]; /* a sentence, also for a plan that is not refused */
};
/* How would this guest get into that destination? Pure; nothing is touched. Since 0.1 */
GW_API int gw_plan_restore(const gw_info *info, const struct gw_destination *d, struct gw_restore_plan *plan);

/* The effect of a save on a guest in a run state, and the state of the guest afterwards. */
enum gw_after_save {
	GW_AFTER_REFUSED, /* it is not saved: see `reason` */
	GW_AFTER_RUNS,    /* it runs on */
	GW_AFTER_KEPT,    /* as before */
	GW_AFTER_STOPPED, /* it is paused in postmigrate; QEMU's `cont` lets it run */
};
struct gw_run_state_plan {
	size_t size;
	enum gw_after_save after;
	char reason[400]; /* of a refusal: a sentence */
};
/*
 * `qemu`: the release, 100 * major + minor. `stop`: the caller wants the guest stopped afterwards, and takes postmigrate where there is no
 * other way. Returns 0, or -EINVAL: the size of `plan`, or no such state. Pure. Since 0.1
 */
GW_API int gw_plan_run_state(enum gw_run_state state, unsigned qemu, bool stop, struct gw_run_state_plan *plan);

enum gw_operation {
	GW_OPERATION_SAVE,           /* a running QEMU sends, the library stores */
	GW_OPERATION_RECEIVE,        /* gw_receive */
	GW_OPERATION_SEND,           /* gw_send */
	GW_OPERATION_RESTORE_DIRECT, /* a QEMU reads an image itself */
	GW_OPERATION_RESTORE_STREAM, /* the library sends it over a socket that the QEMU was handed */
	GW_OPERATION_CONVERT,        /* gw_convert */
	GW_OPERATION_QEMU_SOURCE,    /* a QEMU without Godwit */
	GW_OPERATION_QEMU_DESTINATION,
};
/* Names. Capabilities have QEMU's: "mapped-ram". NULL past the end. Since 0.1 */
GW_API const char *gw_plan_operation(uint32_t i);
GW_API const char *gw_plan_ability(uint32_t i);

/* All of `with` together, and one of `any` (0: none needed), are refused where none of `unless` is there. */
struct gw_rule {
	size_t size;
	uint64_t with, any, unless; /* bit i: gw_plan_ability(i) */
	uint32_t operations;        /* bit i: enum gw_operation */
	unsigned first, last;       /* QEMU releases for which it holds, 100 * major + minor; 0: open */
	/*
	 * The result with a QEMU alone: refuse "capabilities", refuse to "start", fail "late", "never" notice (and the
	 * result is of no use), or "crash". "godwit": Godwit cannot do it.
	 */
	const char *found;
	const char *reason; /* a sentence */
};
/* The table, row by row; -ERANGE past the end. Since 0.1 */
GW_API int gw_plan_rule(uint32_t i, struct gw_rule *rule);
/*
 * Do these abilities, names ended by a NULL, go together? If no rule refuses them, the call returns 0. If one does, it returns -EOPNOTSUPP,
 * and `refusal` (may be NULL) has the reason. -EINVAL: no such ability or operation. `qemu`: the release, 100 * major + minor; 0: not
 * known. An ability that is not named is not known and refuses nothing. Pure. The calls above check this before they start. Since 0.1
 */
GW_API int gw_plan_combination(enum gw_operation op, const char *const *abilities, unsigned qemu, struct gw_rule *refusal);

/* --- Calls that are only begun ----------------------------------------------------------------------------------- */

/*
 * For an event loop, or a language that no foreign thread may call: the same calls, without callbacks. After gw_job_start the next call on
 * the job returns 0 immediately and runs in a thread of the library. Threads of the library block all signals but SIGBUS, SIGSEGV and
 * other signals for a fault. The call's structs, strings and result are borrowed until gw_job_wait has returned its result. Callbacks
 * become events. Callbacks in its options are -EINVAL; the job's are not called.
 *
 *   `gw_job_start(job, NULL);` `gw_receive(job, uri, path, &o, &result);`
 *   Poll gw_job_fd(job). Each time: `while (!gw_job_next_event(job, &event)) ...`. GW_EVENT_DONE is the last one.
 *   `gw_job_wait(job, -1, &r);`
 */
enum gw_event_kind {
	GW_EVENT_NONE,
	/* Always. */
	GW_EVENT_PHASE,      /* number: enum gw_phase. gw_job_progress has more */
	GW_EVENT_LISTENING,  /* uri: on_listening */
	GW_EVENT_CONNECTED,  /* on_connected */
	GW_EVENT_RUNS,       /* on_guest_runs */
	GW_EVENT_NOTE,       /* text: on_note */
	GW_EVENT_DIFFERENCE, /* text: of gw_compare */
	GW_EVENT_STANDBY,    /* standby: on_event of gw_standby */
	GW_EVENT_DONE,       /* the call has ended */
	/* Only if they are in `events` of gw_start_opts. */
	GW_EVENT_TRACE,   /* name, text */
	GW_EVENT_MESSAGE, /* message: on_message of gw_proxy */
	GW_EVENT_CHANNEL, /* channel: on_channel of gw_proxy */
	/* Questions, likewise. The call waits for gw_job_answer, with what the callback would have returned. */
	GW_EVENT_READY,           /* on_ready */
	GW_EVENT_BROKEN,          /* uri, text: on_paused */
	GW_EVENT_WHOLE,           /* whole: on_whole. Only this question has a positive answer, GW_SAY_FAILED */
	GW_EVENT_SOURCE_NOTIFIED, /* on_source_notified */
	GW_EVENT_SOCKET,          /* number, a descriptor: on_socket. The answer is 0 */
};
#define GW_EVENT_BIT(kind) (UINT64_C(1) << (kind))

struct gw_start_opts {
	size_t size;
	uint64_t events; /* GW_EVENT_BIT of each kind that is wanted in addition to those that always come */
};

struct gw_event {
	size_t size;
	enum gw_event_kind kind;
	bool wants_answer;
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	const char *name, *text, *uri;
	uint64_t number;
	const struct gw_whole *whole;
	const struct gw_proxy_message *message;
	const struct gw_proxy_channel *channel;
	const struct gw_standby_event *standby;
	uint64_t dropped; /* events lost before this event for lack of space: the owner was too slow */
};

/* `o` may be NULL. -EALREADY: it was started, and no call has come. -EBUSY: a call runs. -EINVAL: there is no such event. Since 0.2 */
GW_API int gw_job_start(gw_job *job, const struct gw_start_opts *o);
/*
 * Readable (poll: POLLIN) while there is an event, and after the end of the call until gw_job_wait returns its result. The job owns the
 * descriptor: do not close or read it. -EMFILE. Since 0.2
 */
GW_API int gw_job_fd(gw_job *job);
/* Never waits. -EAGAIN: there is none now. Its pointers are valid until the next event is taken, or until gw_job_wait. Since 0.2 */
GW_API int gw_job_next_event(gw_job *job, struct gw_event *event);
/* To the question that was taken last. -ESRCH: there is none, or it does not matter any more; -EINVAL: it has no such answer. Since 0.2 */
GW_API int gw_job_answer(gw_job *job, int answer);
/*
 * 0: the started call has ended with *result, and the job is free for another call. Events not taken are discarded. After `timeout_ms` (0:
 * only looks; -1: no limit), or while a question waits for its answer, it returns -EAGAIN. -ESRCH: no call was begun. Since 0.2
 */
GW_API int gw_job_wait(gw_job *job, int timeout_ms, int *result);

#ifdef __cplusplus
}
#endif
#endif
