/* SPDX-License-Identifier: MIT */
/*
 * libgodwit, the part that may still change: guests that run in this process. A VMM describes its RAM and its device state, and gets
 * migration in the protocol of QEMU. This interface may change with each release. A program that uses it is linked to a single release
 * (GODWIT_UNSTABLE). All of it is since 0.3, which is not released: GW_VERSION_MINOR is still 2.
 *
 * The conventions of godwit.h hold. New here:
 *
 *   Guest      What a VMM has: RAM blocks, device sections, and hooks to stop it and let it run. Every operation is one blocking call on
 *              a job with a guest at one end. A guest takes part in one call at a time. Another call with it fails with -EBUSY.
 *              So a guest that is protected is neither saved nor sent until the protection has ended.
 *   Location   Only gw_guest_where() shows if the guest may run here, after success and after every failure. The answer comes from the
 *              table that gives gw_outcome its place. See enum gw_where.
 *   Hooks      are called from the thread that made the call on the job, one at a time, with no lock held. They may call gw_guest_dirty,
 *              gw_guest_discard, gw_guest_where, gw_job_cancel, gw_job_limits and gw_job_order. Any other call with the same guest is
 *              -EBUSY. A hook returns 0, a negative errno, or a positive answer where one is documented. Another positive answer is
 *              -EPROTO. The call fails with the errno of the hook, and `hook_failed` is set.
 *   Results    0, a negative errno, or the positive answer GW_SOURCE_NOT_NOTIFIED of gw_guest_receive. So test for `r < 0`.
 *              libgodwit-unstable(3) has a table of the errors.
 *   Started    gw_job_start is not for calls with a guest: they are refused (-EINVAL), because hooks have a thread of their own then.
 *   Threads    The library makes threads for channels, and one for the page faults of a lazy restore. None of them calls a hook. They
 *              block all signals but SIGBUS, SIGSEGV and other signals for a fault.
 *   Memory     of a block is read and written by the library during calls. The VMM does not unmap, remap, mprotect or madvise it
 *              meanwhile (gw_guest_discard does that for it). Between calls the library uses it in gw_guest_discard alone. It must be
 *              mapped at the same address when the next call begins. The memory of a guest that is GW_HELD or GW_PARTIAL stays mapped.
 */
#ifndef GODWIT_UNSTABLE_H
#define GODWIT_UNSTABLE_H

#include <godwit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- Guests ------------------------------------------------------------------------------------------------------ */

typedef struct gw_guest gw_guest;

/* Why the guest is stopped (`pause`), or runs (`resume`). A VMM that shares nothing with the other side may ignore it. */
enum gw_why {
	/* `pause`, of a send: it may run elsewhere next. Give up what the other side needs (disk locks, addresses). */
	GW_WHY_LEAVE,
	/*
	 * `pause` and `resume`, of a save: it is stopped for a moment. With gw_guest_save_opts.stop it stays stopped, unless the save
	 * fails.
	 */
	GW_WHY_KEEP,
	/* `resume`, of a receive or a restore: its devices are loaded. Take what the other side gave up. */
	GW_WHY_ARRIVED,
	/*
	 * `resume`, of a send: it runs here, and in no other process. Take back released resources. The send has failed, or it goes on. A
	 * send may pause the guest to count its written pages, and resume it, up to three times.
	 */
	GW_WHY_RETURNED,
	/* `pause` and `resume`, many times a second: it stays where it is. A hot standby is resumed with devices that were just loaded. */
	GW_WHY_CHECKPOINT,
	/*
	 * `resume`, of a standby: its primary does not run it any more. The last whole checkpoint is loaded. A hot standby goes on from
	 * where it is.
	 */
	GW_WHY_FAILOVER,
};

struct gw_guest_ops {
	size_t size;
	/*
	 * Stop every vCPU and every device that writes to RAM. From the return until `resume`, nothing may change RAM or device state. On
	 * failure leave the guest as it was: for a `pause` that failed, `resume` is not called. Return 1 if the guest was paused already,
	 * for instance by its user with a command of the VMM. Then the library does not undo this `pause` by `resume`. A failover calls
	 * `resume` in any case, because the VMM learns of the failover by it. The VMM may leave a guest paused there that its user had
	 * paused.
	 */
	int (*pause)(void *ctx, enum gw_why why);
	/*
	 * Let it run. After a `pause` that returned 0, or for a guest that has arrived. On failure the guest stays stopped, here
	 * (GW_HERE), and the call fails. The library does not try again. The VMM may let it run itself.
	 */
	int (*resume)(void *ctx, enum gw_why why);
};

/* How writes to RAM are noticed. Report other writes by gw_guest_dirty. */
enum gw_tracker {
	GW_TRACKER_AUTO, /* WRITES. There is no fallback to another tracker */
	GW_TRACKER_OWN,  /* dirty_start, dirty_take, dirty_stop below */
	GW_TRACKER_TOLD, /* no tracker: the VMM reports every write by gw_guest_dirty */
	/*
	 * A userfaultfd that write-protects. It sees vCPUs, this process, and system calls of this process such as read(2), if they write
	 * through the mapping of the block. It does not see other mappings of the same memory, writes to its file, and other processes.
	 * Nor does it see DMA to pinned pages (O_DIRECT, registered buffers of io_uring, VFIO). A call fails with -EPERM or -EOPNOTSUPP
	 * where the kernel does not offer it, and gw_job_error() has the remedy.
	 */
	GW_TRACKER_WRITES,
};

struct gw_guest_opts {
	size_t size;
	const char *machine; /* must be equal on both ends, 1..1024 bytes: "myvmm-v1-q35" */
	/*
	 * The UUID of the guest. A receive refuses a guest with another UUID (-EINVAL), if both have one. With channels, a QEMU compares
	 * it with its own -uuid.
	 */
	bool has_uuid;
	uint8_t uuid[16];
	uint64_t page_bytes; /* of the guest, in the stream. 0: 4096 */
	/*
	 * WRITES: the userfaultfd to use, e.g. handed into a jail. Its API handshake is not done. It is not closed. It serves all calls of
	 * this guest. Another guest needs another descriptor (else -EOPNOTSUPP). NULL: opened for each call.
	 */
	const int *uffd;
	enum gw_tracker tracker;
	/*
	 * OWN. From the thread of the call. `dirty_start` starts tracking all blocks with every page clean, `dirty_stop` stops.
	 * `dirty_take` ORs into `bitmap` which pages were written since its last call. Bits that are set already stay set. Bit i is page
	 * first + i, in pages of `page_bytes` above. It re-arms these pages BEFORE it returns, so that the next call sees each later write.
	 * `first` is a multiple of 64. The range ends at a multiple of 64, or at the end of the block, as KVM_CLEAR_DIRTY_LOG needs it.
	 *
	 * KVM: KVM_GET_DIRTY_LOG re-arms the pages that it reports. With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 it does not: call
	 * KVM_CLEAR_DIRTY_LOG for them before `dirty_take` returns. The log of KVM has a bit for each page of the host.
	 */
	int (*dirty_start)(void *ctx);
	int (*dirty_take)(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap);
	void (*dirty_stop)(void *ctx);
	bool empty; /* made to receive: GW_EMPTY, there is nothing to run yet. Else GW_HERE */
};

/* `ops`, `o` and what they point to are copied. -EINVAL, -E2BIG, -ENOMEM. */
GW_API int gw_guest_new(gw_guest **guest, const struct gw_guest_ops *ops, const struct gw_guest_opts *o, void *ctx);
/*
 * NULL is fine. -EBUSY, and nothing is freed: a call runs, or the guest is GW_IN_DOUBT, GW_PARTIAL or GW_HELD. Calls no hook. The memory
 * of its blocks stays.
 */
GW_API int gw_guest_free(gw_guest *guest);
/*
 * Why the last call on the guest itself (add, remove, decide, free) failed: one sentence. "" when it did not, and while a call on a job
 * has the guest. Valid until the next call on the guest itself. Not from another thread during such a call.
 */
GW_API const char *gw_guest_error(const gw_guest *guest);

struct gw_block {
	size_t size;
	const char *name;    /* 1..255 bytes without control characters, the same on both ends */
	void *host;          /* where it is mapped here, aligned to the guest's page_bytes and to the pages below */
	uint64_t bytes;      /* whole pages of both */
	uint64_t page_bytes; /* of the memory that backs it: 4096, 2 MiB, 1 GiB. 0: the host's */
	/*
	 * Shared memory (memfd, shmem, hugetlbfs): its fd and where the block begins in it. NULL: private memory. The number is copied,
	 * and the descriptor is not duplicated. So it stays open as long as the guest has the block.
	 */
	const int *fd;
	uint64_t fd_offset;
};
/*
 * Errors: -EBUSY (a call runs, or GW_PARTIAL), -EEXIST (its name or memory exists already), -EFAULT (not mapped, or not writable). Also
 * -E2BIG (more than 4096) and -EINVAL, which names the field. A receive empties its memory first, whatever it held.
 */
GW_API int gw_guest_add_block(gw_guest *guest, const struct gw_block *block);
/* No other thread may be in gw_guest_dirty or gw_guest_discard for this block. -ENOENT. -EBUSY: a call runs, or GW_PARTIAL. */
GW_API int gw_guest_remove_block(gw_guest *guest, const char *name);

typedef struct gw_out gw_out; /* where `save` writes to; lent */
/* -E2BIG: beyond memory_limit; -ENOMEM. Both end the call, whatever `save` returns. */
GW_API int gw_out_write(gw_out *out, const void *bytes, size_t n);

/* A piece of device state: opaque bytes, on the wire a section whose body is be32 n and n bytes. */
struct gw_device {
	size_t size;
	const char *name; /* 1..255 bytes without control characters */
	uint32_t instance;
	uint32_t version, oldest; /* written; and the oldest that `load` takes. 0, 0: 1, version */
	bool optional;            /* a guest without this section is taken; `load` is not called */
	/* The guest is stopped, and its RAM has been read. So `save` must not write to RAM: write to it in `pause`. */
	int (*save)(void *ctx, gw_out *out);
	int (*load)(void *ctx, uint32_t version, const uint8_t *bytes, size_t n); /* stopped; RAM is here, or comes when touched */
	void *ctx;
};
/* Saved in this order, loaded in the stream's. -EEXIST, -E2BIG, -EBUSY, -EINVAL names the field. */
GW_API int gw_guest_add_device(gw_guest *guest, const struct gw_device *device);
GW_API int gw_guest_remove_device(gw_guest *guest, const char *name, uint32_t instance); /* -ENOENT, -EBUSY */

/*
 * Bytes were written that the tracker does not see (this process, vhost-user's log, DMA). Call after the write. Any thread, never blocks,
 * costs two atomic operations per 64 pages; a look when nothing tracks. -ENOENT, -ERANGE.
 */
GW_API int gw_guest_dirty(gw_guest *guest, const char *block, uint64_t offset, uint64_t bytes);
/*
 * Return memory to the host (balloon, free page reporting): its content is zero from now on, here and wherever the guest goes. Instead of
 * madvise or fallocate, always. Whole pages of the block. Any thread. -ENOENT, -ERANGE, -EINVAL, or an errno of the kernel.
 */
GW_API int gw_guest_discard(gw_guest *guest, const char *block, uint64_t offset, uint64_t bytes);

/*
 * Where the guest is. It may run here in these places alone: GW_HERE, GW_PARTIAL, GW_LEAVING while it is not paused, and GW_STANDBY if
 * hot, while it is not paused. It is paused from the return of `pause` until the call of `resume`.
 */
enum gw_where {
	/* Here, also while it is protected. It runs, unless its user paused it, or a hook that failed or stay_paused left it stopped. */
	GW_HERE,
	GW_EMPTY, /* made to receive, or a receive failed: nothing to run */
	/* A call is filling it, up to the end of `load`. It must not run. `resume` is called with GW_HERE, or GW_PARTIAL. */
	GW_ARRIVING,
	GW_LEAVING,  /* a call is sending or saving it, up to its end: also in `resume` */
	GW_IN_DOUBT, /* the last bytes were sent, the answer was lost: must not run until gw_guest_decide */
	/* The other side, or an image, has it, all of it. It may be received, restored or stand by again, as if it were GW_EMPTY. */
	GW_GONE,
	GW_STANDBY, /* it stands by for a primary, and has at least its first copy; must not run, except as a hot standby */
	/*
	 * It runs here, and pages of it are still in the image that it is restored from, or at its source. A thread that touches such a
	 * page waits until a call to gw_guest_restore or gw_guest_receive brings it. Until then the guest is neither sent, saved, protected
	 * nor freed.
	 */
	GW_PARTIAL,
	GW_HELD, /* post-copy. The other side runs it and needs pages from here. It must never run here again, and its memory must stay */
};
GW_API const char *gw_guest_tracker(const gw_guest *guest); /* "writes", "own", "told". NULL: "". Any thread */
GW_API enum gw_where gw_guest_where(const gw_guest *guest); /* any thread. NULL: GW_EMPTY */
GW_API const char *gw_guest_where_name(uint32_t i);         /* of enum gw_where: "in-doubt". NULL past the end. Any thread */
/*
 * Ends GW_IN_DOUBT, by a caller that knows where the guest is. A destination of this library has it if it is GW_HERE after its call. It
 * does not have it if it is GW_EMPTY. Ask a QEMU by query-status. If the destination cannot be asked, fence it. With true the guest is
 * GW_HERE, and stopped: no hook is called, and the VMM lets it run itself. With false it is GW_GONE.
 *
 * GW_HELD, with false: the destination is given up, and the guest is GW_GONE. With true: -EPERM, it never runs here again.
 *
 * GW_PARTIAL, with false: gives the guest up, GW_EMPTY. Before, the VMM has ended all threads that ran it or touch its memory, also a
 * thread that waits for a page. Missing pages read as zeros from then on, and a guest that ran on with zeros would damage its disks. A
 * signal ends the wait of a thread. When its handler returns, the thread touches the page again. So the handler leaves by siglongjmp.
 * With true: -EALREADY.
 *
 * -EALREADY: there is nothing to decide. -EBUSY.
 */
GW_API int gw_guest_decide(gw_guest *guest, bool it_is_ours);

/* --- Jobs with a guest --------------------------------------------------------------------------------------------- */

/*
 * Things that may change while a call runs. 0: leave as it is. They belong to the job, for this call and all later ones: `limits` in the
 * options of a call replaces them when it begins. A call that is refused leaves them as they are. gw_job_reset keeps them.
 */
struct gw_limits {
	size_t size;
	uint32_t downtime_ms;   /* send, save: the intended pause, a target and no bound. The default is 300 */
	uint32_t checkpoint_ms; /* protect: between two checkpoints. 100 until it is set */
};
GW_API int gw_job_limits(gw_job *job, const struct gw_limits *l); /* any thread, also between calls. -EINVAL */

enum gw_order {
	GW_ORDER_FINISH,     /* stop the guest now, whatever the downtime (send, save); end between two checkpoints (protect) */
	GW_ORDER_CHECKPOINT, /* protect: take one now */
	GW_ORDER_FAILOVER,   /* standby: the primary does not run it any more, run it here. It cannot be taken back */
	GW_ORDER_POSTCOPY,   /* send, where post-copy is allowed: run it at the destination now, its pages follow */
};
/*
 * Any thread. 0: will be done. -EINVAL: not for this kind of call. -EALREADY. -ESRCH: no call with a guest runs. -EPERM: too late. For a
 * standby, -EPERM means that it is too early: there is nothing to run.
 */
GW_API int gw_job_order(gw_job *job, enum gw_order order);

enum gw_guest_event_kind {
	GW_GUEST_ROUND,      /* a round of copying has ended; the numbers below are of it */
	GW_GUEST_STOPPED,    /* the guest is paused */
	GW_GUEST_RUNS,       /* it runs here, again or at last; downtime_ns is known to a source */
	GW_GUEST_RUNS_THERE, /* post-copy: it runs at the destination, and its pages follow. Also after each `resume` */
};
struct gw_guest_event {
	size_t size;
	enum gw_guest_event_kind kind;
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t round, dirty_pages, sent_bytes, bandwidth, downtime_ns;
};
typedef void gw_guest_event_fn(void *ctx, const struct gw_guest_event *e);
/*
 * From the thread of the call, as hooks are. Of send, receive, save and restore. A protection and a standby have on_committed and
 * on_epoch instead. NULL: none. -EBUSY: a call runs.
 */
GW_API int gw_job_on_guest_event(gw_job *job, gw_guest_event_fn *fn, void *ctx);

/* The result of a call; filled on failure too. */
struct gw_guest_result {
	size_t size;
	enum gw_where where;
	uint64_t total_ns, downtime_ns;          /* downtime as seen from here, 0 for receive */
	uint64_t moved_bytes, pages, zero_pages; /* over the link; records, not distinct pages */
	uint32_t rounds, channels;
	uint64_t bandwidth, dirty_rate; /* bytes/s, send: when it was decided to stop */
	bool hook_failed;               /* one of the VMM's hooks is why it failed */
	/*
	 * Its size is set by the library. Next steps of all calls: GW_NEXT_NOTHING, and TRY_AGAIN after a repair. CONTINUE_SOURCE: the
	 * hook `resume` of a send, save or protect failed, let it run. ASK_DESTINATION or ASK_SOURCE: it is in doubt, use
	 * gw_guest_decide. RECOVER: send with `resume`. SERVE: restore with `resume`. RESTORE: a failover lost the guest. REMOVE_FILES: a
	 * save with `stop` failed, see there.
	 */
	struct gw_outcome outcome;
	/* protect, standby. Pauses: how long the primary's guest was paused for a checkpoint, as seen from here. */
	uint64_t epochs, epoch_pages_max, pause_p50_us, pause_p99_us, pause_max_us;
	uint64_t requests;      /* lazy: pages that were touched before they came. Send, post-copy: pages the destination requested */
	uint64_t missing_pages; /* GW_PARTIAL */
	/*
	 * send, post-copy; of one call. `pages` and `zero_pages` count them too. Latency: from a request that can be read to its pages
	 * being written.
	 */
	bool postcopy; /* the guest was switched: it may run at the destination only */
	uint64_t requested_pages, pushed_pages;
	uint64_t already_there; /* resume: pages that the destination had */
	uint64_t latency_p50_us, latency_p99_us, latency_max_us;
	uint64_t xbzrle_pages,
		xbzrle_bytes; /* send: pages of which only what had changed was sent (`pages` counts them too), and its bytes */
};

/* --- Send and receive ---------------------------------------------------------------------------------------------- */

/* The action when the guest writes faster than the link takes. */
enum gw_converge {
	GW_CONVERGE_STOP,    /* stop it for as long as it takes */
	GW_CONVERGE_GIVE_UP, /* -ETIME; it runs here */
};

/*
 * When the guest runs at the destination before its pages have arrived. The destination is gw_guest_receive with `lazy`, a QEMU with
 * postcopy-ram (RAM alone), or gw_receive (an image). gw_guest_receive without `lazy` refuses the switch. The send then fails with
 * -EREMOTEIO, -EPIPE or -ECONNRESET, and the guest runs on here (GW_HERE). With no_confirm it is mostly GW_IN_DOUBT, and
 * gw_guest_decide(guest, true) is right.
 */
enum gw_guest_postcopy {
	GW_POSTCOPY_NEVER,
	GW_POSTCOPY_IF_NEEDED,   /* when pre-copy does not get within downtime_ms, instead of `converge`. Also on GW_ORDER_POSTCOPY */
	GW_POSTCOPY_AFTER_ROUND, /* when each page was sent once */
	GW_POSTCOPY_AT_ONCE,     /* nothing is sent before */
	GW_POSTCOPY_ON_ORDER,    /* GW_ORDER_POSTCOPY alone */
};

struct gw_guest_send_opts {
	size_t size;
	const struct gw_link_opts *link;
	uint32_t channels;               /* multifd, as the destination expects them. 0: none */
	enum gw_compression compression; /* with channels */
	int level;                       /* zlib 1..9, zstd 1..20; 0: 1 */
	const struct gw_limits *limits;
	enum gw_converge converge;
	uint32_t patience;   /* rounds without progress before `converge` acts. 0: 3 */
	uint32_t give_up_ms; /* -ETIME before the guest is stopped for good, whatever `converge` says. 0: no limit */
	/*
	 * Give up the right to run without asking (PING, before the end mark) whether everything is loaded. With post-copy: without asking
	 * (before the devices) whether the destination takes the switch. This saves a round trip.
	 */
	bool no_confirm;
	/*
	 * Of the destination, for each of its answers. 0: 60 s; -1: none. The answer to the last bytes comes after its `load` and
	 * `resume`. If these take longer, the guest is GW_IN_DOUBT here.
	 */
	int answer_timeout_ms;
	uint64_t memory_limit;           /* bytes of device state held in memory. 0: 32 MiB */
	enum gw_guest_postcopy postcopy; /* not with channels (-EINVAL) */
	/*
	 * GW_HELD, GW_IN_DOUBT: recover a post-copy whose link broke. The destination waits in postcopy-paused at `uri` (a QEMU:
	 * migrate-recover), and reports which pages it has. May be repeated.
	 */
	bool resume;
	/*
	 * Bytes of memory for pages as they were sent. Of a page that is sent again only the difference goes then (XBZRLE). Worth it for a
	 * slow link and a guest that changes little of many pages. It costs a copy and a comparison of each page. More than the guest's RAM
	 * is not used. 0: none. Not with channels (-EINVAL).
	 */
	uint64_t xbzrle_cache;
	/*
	 * postcopy, resume: requested pages go over a second connection to `uri`, and overtake all others. The destination has to expect it:
	 * a QEMU from 8.0 on with postcopy-preempt. A destination of this library does not: it pauses, and the send ends with GW_HELD. Then
	 * send with `resume` and without `preempt`.
	 */
	bool preempt;
};
/*
 * Move a running guest to the destination that waits at `uri`. 0: GW_GONE. On failure it runs here again as if nothing had been
 * (GW_HERE), unless the last bytes were sent and the answer was lost: GW_IN_DOUBT. A cancel ends the call with -ECANCELED and GW_HERE.
 * Once the last bytes were sent, a cancel has no effect. Errors: -EREMOTEIO (the destination reported a failure), -ENODATA (there is no
 * guest to send), -EINPROGRESS (GW_IN_DOUBT or GW_HELD), -EAGAIN (GW_PARTIAL). Also -EBUSY (another call has it), -ETIME, and -EOPNOTSUPP
 * (`uri` cannot answer, or the kernel has no tracker).
 *
 * If `resume` fails at the destination, the guest is there, stopped, and this call returns 0. A send that fails after `pause` may have
 * stopped the guest for long. A link that hangs counts as broken after idle_timeout_ms (30 s). A missing answer is one after
 * answer_timeout_ms (60 s).
 *
 * With post-copy the guest is paused, its devices leave with the order to run, and the call serves pages. It never runs here again. A
 * link that breaks, or a cancel, ends the call with GW_HELD, or with GW_IN_DOUBT before the destination confirmed that it runs. In both
 * cases leave its memory as it is, and send again with `resume`.
 */
GW_API int gw_guest_send(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_send_opts *o, struct gw_guest_result *result);

struct gw_guest_receive_opts {
	size_t size;
	const struct gw_link_opts *link;
	uint32_t channels; /* 0: as many as come */
	bool stay_paused;  /* load everything, do not let it run: that is the VMM's own doing later */
	uint64_t memory_limit;
	void (*on_listening)(void *ctx, const char *uri); /* the address peers can connect to, with its real port */
	void *ctx;
	/*
	 * Accept a source that switches to post-copy: the guest runs when its devices are loaded, as GW_PARTIAL. Its pages come from the
	 * source, first those that it touches. `lazy`, `user_mode` and `uffd` are as in gw_guest_restore_opts. A source that does not
	 * switch is received as without `lazy`.
	 */
	bool lazy;
	bool user_mode;
	const int *uffd;
	/*
	 * lazy: the link broke, and the guest is GW_PARTIAL. The call calls `on_paused` with its address and the reason, from its own
	 * thread, and waits there for the source. A negative errno ends the call, and the guest stays GW_PARTIAL. NULL: wait. The source
	 * comes by gw_guest_send with `resume` (QEMU: `migrate` with `resume`). See gw_receive_opts for who counts as the source. Five
	 * attempts in a row without a page end the call.
	 */
	int (*on_paused)(void *ctx, const char *uri, const char *reason);
	/*
	 * GW_PARTIAL: wait for the source again, at any address. `on_paused` is called at first, with the reason "". No hook is called.
	 * `lazy`, `user_mode` and `uffd` have no effect. -EINVAL: its pages are in an image, or stay_paused is set.
	 */
	bool resume;
};
/*
 * Wait at `uri` for a guest, and run it. The guest that comes must have the same machine, page size, blocks and devices. Otherwise the
 * call refuses it, and it still runs in its source. A guest that was paused at its source runs here: the stream does not have that state. A VMM
 * puts it into its device state.
 *
 * 0: GW_HERE. GW_SOURCE_NOT_NOTIFIED, which is 1: the same, but its source could not be notified. Then a source of this library is
 * GW_IN_DOUBT, and a QEMU runs its guest on. On failure GW_EMPTY, or GW_HERE when the hook `resume` failed. -EEXIST: there is a guest
 * here. -EBUSY.
 *
 * lazy: the call returns when all pages are here. In a post-copy, the hook `resume` is called long before. The hook `load` may touch RAM.
 * The hook `resume` should not: if the link breaks in it, the call cannot wait for the source, because it waits for the hook. A failure
 * before the devices are loaded leaves it GW_EMPTY, and the source has it. A later failure or a cancel leaves it GW_PARTIAL (place split).
 * It waits at the first page that it lacks, until a call with `resume` brings the rest, or gw_guest_decide gives it up. Errors as of
 * gw_guest_restore with `lazy`.
 */
GW_API int gw_guest_receive(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_receive_opts *o,
	struct gw_guest_result *result);

/* --- Save and restore ---------------------------------------------------------------------------------------------- */

struct gw_guest_save_opts {
	size_t size;
	uint64_t image_offset; /* the image begins there; an existing file keeps its content before it */
	bool stop;             /* it stays stopped: it is in the image (GW_GONE), and not here */
	bool direct_io;
	const struct gw_limits *limits;
	uint64_t memory_limit;
};
/*
 * Keep a running guest in the mapped-ram image `path`, as it is at the end. Its pages are written while it runs. Then it is stopped for
 * the rest and for its devices, and runs on before the image is synced. The image appears, whole and synced, only on success. If its
 * folder cannot be synced, the call fails, and the image exists: outcome.committed. 0: GW_HERE, or GW_GONE with `stop`. On failure
 * GW_HERE. With `stop` and outcome.committed the next step is GW_NEXT_REMOVE_FILES then: the guest runs here, so remove the image. Errors
 * as of gw_guest_send; -EIO: the hook `resume` failed, the guest is stopped, and there is no image.
 *
 * To restore it here, save with `stop`: GW_GONE can be restored. A guest that is GW_HERE cannot (-EEXIST). Free it, and make another
 * guest with `empty`.
 */
GW_API int gw_guest_save(gw_job *job, gw_guest *guest, const char *path, const struct gw_guest_save_opts *o,
	struct gw_guest_result *result);

struct gw_guest_restore_opts {
	size_t size;
	uint64_t image_offset;
	bool stay_paused; /* load everything, do not let it run */
	uint64_t memory_limit;
	/*
	 * Load the devices, then run it immediately. Its pages come from the image, in the order in which it touches them. The memory is
	 * private, or it is shared memory that only the block's own mapping touches until all pages are here (no vhost-user). Its pages
	 * have the host's size. The file must not change meanwhile.
	 */
	bool lazy;
	/*
	 * lazy: only user mode touches the memory, no KVM and no system call of this process. Then no privilege is needed. A system call
	 * that meets a missing page fails with EFAULT.
	 */
	bool user_mode;
	/*
	 * lazy: the userfaultfd to use for this restore alone, e.g. handed into a jail. Its API is not agreed on. It becomes
	 * non-blocking, is not closed, and stays open until the guest is no longer GW_PARTIAL. NULL: opened when needed.
	 */
	const int *uffd;
	/*
	 * GW_PARTIAL: bring the pages that are missing, from the same image and image_offset. No hook is called. `lazy`, `user_mode` and
	 * `uffd` have no effect. -EINVAL: it is another image, or stay_paused is set.
	 */
	bool resume;
};
/*
 * A guest out of an image, or a stream in a file, which stays as it is. It runs (`resume`, GW_WHY_ARRIVED), also if it was paused when it
 * was saved. 0: GW_HERE. On failure GW_EMPTY, or GW_HERE when the hook `resume` failed. Errors as of gw_guest_receive.
 *
 * lazy: the call returns when all pages are here. The guest runs long before (the hook `resume`, GW_GUEST_RUNS), as GW_PARTIAL. A failure
 * or a cancel before it runs leaves it GW_EMPTY. A later failure cannot undo anything, because what the guest did since exists nowhere
 * else. It stays GW_PARTIAL (place destination-waits), and waits at the first page that it lacks. When the image can be read again, a
 * call with `resume` brings the rest. Or gw_guest_decide gives it up. Errors: -EPERM (no userfaultfd, and the message names the ways to
 * get one), -EOPNOTSUPP (a stream, or memory of other page sizes). Also -EIO (another mapping wrote to the memory) and -ESRCH (`resume`,
 * and all pages are here). The hook `load` may touch RAM. A thread that holds a lock while it touches RAM holds it until the page is
 * here.
 */
GW_API int gw_guest_restore(gw_job *job, gw_guest *guest, const char *path, const struct gw_guest_restore_opts *o,
	struct gw_guest_result *result);

/* --- Protect (COLO) ------------------------------------------------------------------------------------------------ */

/* A checkpoint: from it on the standby can go on. */
struct gw_guest_epoch {
	size_t size;
	uint64_t number; /* 0: the first copy. Each call counts from 0 */
	uint64_t pages;
	uint64_t pause_us;  /* the pause of the primary's guest. At a standby: from its REPLY to LOADED */
	uint64_t commit_us; /* protect: from then until the standby had it */
	/* standby, hot: pages taken over from the primary, and those that only the guest here had written, which were taken back. */
	uint64_t flushed_pages, taken_back_pages;
};
typedef void gw_guest_epoch_fn(void *ctx, const struct gw_guest_epoch *epoch);

struct gw_guest_protect_opts {
	size_t size;
	const struct gw_link_opts *link;
	uint32_t channels;               /* multifd, as the standby expects them. 0: none */
	enum gw_compression compression; /* with channels */
	int level;
	const struct gw_limits *limits; /* checkpoint_ms */
	/*
	 * For each message of the standby in a checkpoint; then the guest runs on unprotected. 0: 1 s. The guest is never paused for it.
	 * The answer to the first copy has 60 s at least.
	 */
	int standby_timeout_ms;
	uint64_t copy_limit; /* bytes of pages after which a checkpoint is taken before its time; no bound. 0: 64 MiB */
	bool old_dialect;    /* the standby is a QEMU 10.0 or older, with an older form of COLO. Not with channels */
	uint64_t memory_limit;
	/*
	 * Each epoch has exactly one `pause` (GW_WHY_CHECKPOINT). Output of the guest (packets, writes to disks) before the pause of
	 * epoch n may be let out when on_committed has number n. It comes before the next pause. From the thread of the call. NULL:
	 * output is not held.
	 */
	gw_guest_epoch_fn *on_committed;
	void *ctx;
};
/*
 * Copy the guest to the standby that waits at `uri` (gw_guest_standby, godwit standby, a QEMU 11.1 with x-colo). Then keep the standby in
 * step, one checkpoint after the other. The guest is paused to copy its last writes and its devices, and never for the link or the
 * standby. If GW_ORDER_FINISH ended the call, it returns 0. If the standby was lost, it returns -ECONNRESET, -EPIPE, -ETIMEDOUT or
 * -EPROTO. The guest runs on here (GW_HERE), unprotected. It is stopped only if the hook `resume` failed. Call again to protect it again.
 * Also -ENODATA (there is no guest), -EINPROGRESS (GW_IN_DOUBT or GW_HELD), -EAGAIN (GW_PARTIAL), -EBUSY.
 *
 * After a lost link the standby may be failed over, while the guest runs on here. The library has no lease for a VMM. Do not let out
 * output that is still held until a lease or a fence has proved that the standby does not run the guest. Stop the guest if it cannot be
 * proved.
 */
GW_API int gw_guest_protect(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_protect_opts *o,
	struct gw_guest_result *result);

struct gw_guest_standby_opts {
	size_t size;
	const struct gw_link_opts *link;
	uint32_t channels; /* 0: as many as come */
	/*
	 * A hot standby: it runs between checkpoints, as QEMU's secondary does, and each checkpoint undoes what it wrote. This needs
	 * memory for a second copy of the guest, and gw_guest_dirty or a tracker for its writes. Without `hot`, it is paused, and needs
	 * memory for an epoch. Its `load` is called in a failover alone.
	 */
	bool hot;
	uint64_t epoch_limit; /* bytes of an epoch that is not whole yet; more ends the protection. 0: 256 MiB */
	uint64_t memory_limit;
	void (*on_listening)(void *ctx, const char *uri);
	gw_guest_epoch_fn *on_epoch; /* it is here, and what a failover would run. From the thread of the call; may be NULL */
	/*
	 * Called before it is run for GW_ORDER_FAILOVER. Return 0 only if the primary certainly does not run it any more (a lease, a
	 * fence). -EPERM: the primary runs it. This ends the call, and gives the standby up (GW_EMPTY). Another negative errno, -EAGAIN
	 * among them: it is not known. The library calls again after 100 ms, until a cancel. NULL: the caller of gw_job_order() knows
	 * this.
	 */
	int (*may_run)(void *ctx);
	void *ctx;
};
/*
 * Stand by at `uri` for a primary (gw_guest_protect, or a QEMU 11.1 with x-colo). 0: GW_ORDER_FAILOVER was given, and it runs here
 * (GW_HERE). It runs from the last whole checkpoint, or, hot, from where it is: `pause` (GW_WHY_CHECKPOINT), then `resume`
 * (GW_WHY_FAILOVER). It runs even if its user had paused it at the primary.
 *
 * When the link ends after the first copy, the call waits for that order or for a cancel. No callback reports the end of the link, and a
 * primary that is silent between two checkpoints does not end it. A VMM watches the primary itself, or sees that on_epoch is late.
 * Neither proves that the primary is dead: `may_run` must. GW_ORDER_FINISH at the primary looks like a lost link here.
 *
 * An order is carried out between two checkpoints, at the latest when the link's idle limit has passed. It ends a protection that is
 * healthy, too: the link is closed before `may_run` is called, and no checkpoint comes any more. Only a cancel stops it.
 *
 * A cancel ends the call with -ECANCELED and GW_EMPTY: the standby was given up. A hot one is paused then. If `pause` fails,
 * `hook_failed` is set, and the VMM stops it. To be protected again, cancel, gw_job_reset, and stand by again. If the hook `resume` fails
 * in a failover, it is GW_HERE, stopped. If `pause` of a hot standby fails there, it is GW_HERE, and runs on. If its devices cannot be
 * loaded, it is GW_EMPTY, place "lost". On failure before the first copy was whole, it is GW_EMPTY. -EEXIST: there is a guest here.
 * -EBUSY.
 */
GW_API int gw_guest_standby(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_standby_opts *o,
	struct gw_guest_result *result);

#ifdef __cplusplus
}
#endif
#endif
